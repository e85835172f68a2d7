//! WASI preview 1, once for all backends: plain functions over the host state and the guest's memory.
//!
//! ```text
//!   standard streams, args, environ, clocks, random, poll, exit     own code: no allocation, everything bounded
//!   other descriptors and all path_* functions                      wasi-common, only for a function that has mounts
//! ```
//!
//! Guest pointers are never trusted: whatever lies outside of memory is EFAULT, and results are written only once all
//! arguments have been found valid. The exported functions have the signatures of [`crate::sandbox::hostcalls`].

mod args;
mod clock;
#[cfg(test)]
mod differential;
mod errno;
mod files;
mod guest;
mod mounts;
mod paths;
mod poll;
mod process;
mod random;
mod rights;
mod sockets;
mod stdio;
#[cfg(test)]
pub(crate) mod testing;

pub use args::{args_get, args_sizes_get, environ_get, environ_sizes_get};
pub use clock::{clock_res_get, clock_time_get};
pub use files::{
    fd_advise, fd_allocate, fd_close, fd_datasync, fd_fdstat_get, fd_fdstat_set_flags,
    fd_fdstat_set_rights, fd_filestat_get, fd_filestat_set_size, fd_filestat_set_times, fd_pread,
    fd_prestat_dir_name, fd_prestat_get, fd_pwrite, fd_read, fd_readdir, fd_renumber, fd_seek,
    fd_sync, fd_tell, fd_write,
};
pub use mounts::{FileBudget, MountSet, MountSpec, Mounts};
pub use paths::{
    path_create_directory, path_filestat_get, path_filestat_set_times, path_link, path_open,
    path_readlink, path_remove_directory, path_rename, path_symlink, path_unlink_file,
};
pub use poll::poll_oneoff;
pub use process::{proc_exit, proc_raise, sched_yield};
pub use random::random_get;
pub use sockets::{sock_accept, sock_recv, sock_send, sock_shutdown};

pub(crate) use guest::{bytes, bytes_mut};
pub(crate) use stdio::Stdio;
