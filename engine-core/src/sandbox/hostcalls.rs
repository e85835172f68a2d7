//! The one list of what a guest may import, as a macro for backends and as data for the import check.
//!
//! Every entry is a plain function of this module, over the host state and the guest's exported memory (an empty slice if
//! it exports none):
//!
//! ```text
//!   NAME(host: &mut HostState, memory: &mut [u8], ARGS: i32 | i64 ...) -> Result<i32, Stop>    with `-> i32` in the list
//!   NAME(host: &mut HostState, memory: &mut [u8], ARGS: i32 | i64 ...) -> Result<i64, Stop>    with `-> i64`
//!   NAME(host: &mut HostState, memory: &mut [u8], ARGS: i32 | i64 ...) -> Result<(), Stop>     without
//! ```
//!
//! The `i32` of WASI's hostcalls is an errno. On `Err(stop)` a backend calls [`HostState::stop`] and makes its engine unwind the guest in
//! the cheapest way it has.
//!
//! A hostcall that is listed with `, waits` may also return `Err(Stop::Waits)`, in a call that
//! [may be suspended](HostState::suspends) only. The backend then suspends its guest. When the guest is resumed, the backend
//! calls the hostcall again with the same arguments: it finds the reply in the host state, and goes on or waits again.

use crate::sandbox::{HostState, Stop};

pub use crate::sandbox::http_handler::{
    add_header_value, enable_features, get_config, get_header_names, get_header_values, get_method,
    get_protocol_version, get_source_addr, get_status_code, get_uri, log, log_enabled, read_body,
    remove_header, set_header_value, set_method, set_status_code, set_uri, write_body,
};
pub use crate::sandbox::operations::{call, reply};
pub use crate::sandbox::wasi::{
    args_get, args_sizes_get, clock_res_get, clock_time_get, environ_get, environ_sizes_get,
    fd_advise, fd_allocate, fd_close, fd_datasync, fd_fdstat_get, fd_fdstat_set_flags,
    fd_fdstat_set_rights, fd_filestat_get, fd_filestat_set_size, fd_filestat_set_times, fd_pread,
    fd_prestat_dir_name, fd_prestat_get, fd_pwrite, fd_read, fd_readdir, fd_renumber, fd_seek,
    fd_sync, fd_tell, fd_write, path_create_directory, path_filestat_get, path_filestat_set_times,
    path_link, path_open, path_readlink, path_remove_directory, path_rename, path_symlink,
    path_unlink_file, poll_oneoff, proc_exit, proc_raise, random_get, sched_yield, sock_accept,
    sock_recv, sock_send, sock_shutdown,
};

/// Calls the macro `$each` with the list of all hostcalls.
///
/// `$each` matches it as
/// `( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )* )`.
/// `$waits` is the word `waits`: the hostcall may suspend its guest.
#[macro_export]
macro_rules! for_each_hostcall {
    ($each:ident) => {
        $each! {
            "wasi_snapshot_preview1" {
                fn args_get(argv: i32, buf: i32) -> i32;
                fn args_sizes_get(count: i32, size: i32) -> i32;
                fn environ_get(environ: i32, buf: i32) -> i32;
                fn environ_sizes_get(count: i32, size: i32) -> i32;
                fn clock_res_get(id: i32, resolution: i32) -> i32;
                fn clock_time_get(id: i32, precision: i64, time: i32) -> i32;
                fn fd_advise(fd: i32, offset: i64, len: i64, advice: i32) -> i32;
                fn fd_allocate(fd: i32, offset: i64, len: i64) -> i32;
                fn fd_close(fd: i32) -> i32;
                fn fd_datasync(fd: i32) -> i32;
                fn fd_fdstat_get(fd: i32, stat: i32) -> i32;
                fn fd_fdstat_set_flags(fd: i32, flags: i32) -> i32;
                fn fd_fdstat_set_rights(fd: i32, base: i64, inheriting: i64) -> i32;
                fn fd_filestat_get(fd: i32, stat: i32) -> i32;
                fn fd_filestat_set_size(fd: i32, size: i64) -> i32;
                fn fd_filestat_set_times(fd: i32, atim: i64, mtim: i64, flags: i32) -> i32;
                fn fd_pread(fd: i32, iovs: i32, count: i32, offset: i64, read: i32) -> i32;
                fn fd_prestat_get(fd: i32, prestat: i32) -> i32;
                fn fd_prestat_dir_name(fd: i32, path: i32, len: i32) -> i32;
                fn fd_pwrite(fd: i32, iovs: i32, count: i32, offset: i64, written: i32) -> i32;
                fn fd_read(fd: i32, iovs: i32, count: i32, read: i32) -> i32, waits;
                fn fd_readdir(fd: i32, buf: i32, len: i32, cookie: i64, used: i32) -> i32;
                fn fd_renumber(fd: i32, to: i32) -> i32;
                fn fd_seek(fd: i32, offset: i64, whence: i32, position: i32) -> i32;
                fn fd_sync(fd: i32) -> i32;
                fn fd_tell(fd: i32, position: i32) -> i32;
                fn fd_write(fd: i32, iovs: i32, count: i32, written: i32) -> i32, waits;
                fn path_create_directory(fd: i32, path: i32, len: i32) -> i32;
                fn path_filestat_get(fd: i32, lookup: i32, path: i32, len: i32, stat: i32) -> i32;
                fn path_filestat_set_times(fd: i32, lookup: i32, path: i32, len: i32, atim: i64, mtim: i64, flags: i32) -> i32;
                fn path_link(old_fd: i32, lookup: i32, old_path: i32, old_len: i32, new_fd: i32, new_path: i32, new_len: i32) -> i32;
                fn path_open(fd: i32, lookup: i32, path: i32, len: i32, oflags: i32, base: i64, inheriting: i64, flags: i32, opened: i32) -> i32;
                fn path_readlink(fd: i32, path: i32, len: i32, buf: i32, buf_len: i32, used: i32) -> i32;
                fn path_remove_directory(fd: i32, path: i32, len: i32) -> i32;
                fn path_rename(old_fd: i32, old_path: i32, old_len: i32, new_fd: i32, new_path: i32, new_len: i32) -> i32;
                fn path_symlink(target: i32, target_len: i32, fd: i32, path: i32, len: i32) -> i32;
                fn path_unlink_file(fd: i32, path: i32, len: i32) -> i32;
                fn poll_oneoff(subscriptions: i32, events: i32, count: i32, happened: i32) -> i32, waits;
                fn proc_exit(code: i32);
                fn proc_raise(signal: i32) -> i32;
                fn sched_yield() -> i32;
                fn random_get(buf: i32, len: i32) -> i32;
                fn sock_accept(fd: i32, flags: i32, accepted: i32) -> i32;
                fn sock_recv(fd: i32, iovs: i32, count: i32, flags: i32, received: i32, out_flags: i32) -> i32;
                fn sock_send(fd: i32, iovs: i32, count: i32, flags: i32, sent: i32) -> i32;
                fn sock_shutdown(fd: i32, how: i32) -> i32;
            }
            "gojinn" {
                fn host_log(level: i32, ptr: i32, len: i32);
                fn ready() -> i32;
                fn call(op_ptr: i32, op_len: i32, request_ptr: i32, request_len: i32) -> i32, waits;
                fn reply(ptr: i32, len: i32) -> i32;
            }
            "http_handler" {
                fn enable_features(features: i32) -> i32;
                fn get_config(buf: i32, limit: i32) -> i32;
                fn log_enabled(level: i32) -> i32;
                fn log(level: i32, message: i32, message_len: i32);
                fn get_method(buf: i32, limit: i32) -> i32;
                fn set_method(method: i32, method_len: i32);
                fn get_uri(buf: i32, limit: i32) -> i32;
                fn set_uri(uri: i32, uri_len: i32);
                fn get_protocol_version(buf: i32, limit: i32) -> i32;
                fn get_header_names(kind: i32, buf: i32, limit: i32) -> i64;
                fn get_header_values(kind: i32, name: i32, name_len: i32, buf: i32, limit: i32) -> i64;
                fn set_header_value(kind: i32, name: i32, name_len: i32, value: i32, value_len: i32);
                fn add_header_value(kind: i32, name: i32, name_len: i32, value: i32, value_len: i32);
                fn remove_header(kind: i32, name: i32, name_len: i32);
                fn read_body(kind: i32, buf: i32, limit: i32) -> i64;
                fn write_body(kind: i32, buf: i32, len: i32);
                fn get_source_addr(buf: i32, limit: i32) -> i32;
                fn get_status_code() -> i32;
                fn set_status_code(status: i32);
            }
        }
    };
}

/// One function a guest may import.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Import {
    /// The module it is imported from.
    pub module: &'static str,
    /// Its name in there.
    pub name: &'static str,
    /// The types of its parameters.
    pub params: &'static [ParamType],
    /// The type of its result; `None`: it returns nothing.
    pub result: Option<ParamType>,
    /// Whether it may suspend its guest.
    pub waits: bool,
}

/// The type of a hostcall's parameter or result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParamType {
    /// `i32`.
    I32,
    /// `i64`.
    I64,
}

/// Everything a guest may import, from the same list as [`for_each_hostcall!`].
pub const IMPORTS: &[Import] = for_each_hostcall!(list);

/// The function of that name, if there is one.
#[must_use]
pub fn find(module: &str, name: &str) -> Option<&'static Import> {
    IMPORTS
        .iter()
        .find(|import| import.name == name && import.module == module)
}

/// `gojinn.host_log`: adds a record to the call's log. Levels: 0 debug, 1 info, 2 warn, 3 error.
pub fn host_log(
    host: &mut HostState,
    memory: &mut [u8],
    level: i32,
    ptr: i32,
    len: i32,
) -> Result<(), Stop> {
    match crate::sandbox::wasi::bytes(memory, ptr, len) {
        Ok(bytes) => host.logs.record(level, bytes),
        // There is no result to say it with, and ending the guest for a lost log line would be worse.
        Err(_) => host.logs.record(
            2,
            b"host_log: the record lies outside of the guest's memory and was dropped",
        ),
    }
    Ok(())
}

/// `gojinn.ready`: the program is about to read a request, and its state is that of one that has served none or any number:
/// it may be warmed up. 1: a snapshot may be taken at the read that follows, so now is the time to tidy up; 0: go on.
pub fn ready(host: &mut HostState, _: &mut [u8]) -> Result<i32, Stop> {
    Ok(match &mut host.observed {
        Some(observed) => {
            observed.asked.ready = true;
            i32::from(observed.tidy)
        }
        None => 0,
    })
}

macro_rules! list {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ident ),* ) $( -> $ret:ident )? $( , $waits:ident )? ; )* } )* ) => {
        &[ $( $( Import {
            module: $module,
            name: stringify!($name),
            params: &[ $( param!($ty) ),* ],
            result: result!($( $ret )?),
            waits: waits!($( $waits )?),
        } ),* ),* ]
    };
}
macro_rules! param {
    (i32) => {
        ParamType::I32
    };
    (i64) => {
        ParamType::I64
    };
}
macro_rules! result {
    ($ret:ident) => {
        Some(param!($ret))
    };
    () => {
        None
    };
}
macro_rules! waits {
    (waits) => {
        true
    };
    () => {
        false
    };
}
use {list, param, result, waits};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Dropped, lines};
    use crate::sandbox::wasi::testing::host;

    /// Expands every entry the way a backend does, so that each has the function the list promises.
    macro_rules! call_all {
        ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )* ) => {
            $( $(
                let hostcall: fn(&mut HostState, &mut [u8] $(, $ty )*) -> Result<call_all!(@ $( $ret )?), Stop> = $name;
                assert!(hostcall as usize != 0, "{} {}", $module, stringify!($name));
            )* )*
        };
        (@ $ret:ty) => { $ret };
        (@) => { () };
    }

    #[test]
    fn every_entry_has_its_function() {
        for_each_hostcall!(call_all);
    }

    #[test]
    fn the_list_is_all_of_preview_1_and_ours() {
        let wasi = IMPORTS
            .iter()
            .filter(|import| import.module == "wasi_snapshot_preview1")
            .count();
        let of_http_wasm = IMPORTS
            .iter()
            .filter(|import| import.module == "http_handler")
            .count();
        assert_eq!((wasi, of_http_wasm, IMPORTS.len()), (46, 19, 69));
        let open = find("wasi_snapshot_preview1", "path_open").expect("it is listed");
        assert_eq!(open.params.len(), 9);
        assert_eq!(open.params[5], ParamType::I64);
        assert_eq!(open.result, Some(ParamType::I32));
        assert_eq!(
            find("gojinn", "host_log").expect("it is listed").result,
            None
        );
        let read = find("http_handler", "read_body").expect("it is listed");
        assert_eq!(read.result, Some(ParamType::I64));
        assert_eq!(find("gojinn", "path_open"), None);
    }

    #[test]
    fn no_name_stands_twice() {
        for (at, one) in IMPORTS.iter().enumerate() {
            assert!(
                IMPORTS[at + 1..]
                    .iter()
                    .all(|other| (other.module, other.name) != (one.module, one.name)),
                "{} is listed twice",
                one.name
            );
        }
    }

    #[test]
    fn log_records_arrive_and_a_bad_pointer_is_said_so() {
        let mut host = host();
        let mut memory = *b"hello, log";
        assert_eq!(host_log(&mut host, &mut memory, 1, 7, 3), Ok(()));
        assert_eq!(host_log(&mut host, &mut memory, 3, 0, 0), Ok(()));
        for (ptr, len) in [(7, 4), (-1, 1), (0, -1), (i32::MIN, i32::MIN)] {
            assert_eq!(host_log(&mut host, &mut memory, 0, ptr, len), Ok(()));
        }
        let (packed, dropped) = host.logs.finish();
        let lines: Vec<_> = lines(&packed).collect();
        assert_eq!(dropped, Dropped::default());
        assert_eq!(lines[..2], [(1, &b"log"[..]), (3, &b""[..])]);
        assert_eq!(lines.len(), 6);
        assert!(lines[2..].iter().all(|(level, _)| *level == 2));
    }
}
