//! Engine-core's hostcalls in wasmi's linker, one typed host function each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine_core::sandbox::hostcalls;
use engine_core::{HostState, Stop, for_each_hostcall, panic_text};
use wasmi::{Caller, Error, Linker};

use crate::instance::{Again, Data};
use crate::trap::{Stopped, Waiting};

macro_rules! define_all {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )* ) => {
        /// Defines every hostcall.
        pub(crate) fn define(linker: &mut Linker<Data>) -> Result<(), Error> {
            $( $(
                linker.func_wrap(
                    $module,
                    stringify!($name),
                    |mut caller: Caller<'_, Data> $(, $arg: $ty )*| -> Result<define_all!(@ $( $ret )?), Error> {
                        define_all!($( $waits )? serve caller, move |host, memory| hostcalls::$name(host, memory $(, $arg )*))
                    },
                )?;
            )* )*
            Ok(())
        }
    };
    (serve $caller:ident, $hostcall:expr) => { serve(&mut $caller, $hostcall) };
    (waits serve $caller:ident, $hostcall:expr) => { serve_or_wait(&mut $caller, $hostcall) };
    (@ $ret:ty) => { $ret };
    (@) => { () };
}

for_each_hostcall!(define_all);

/// Runs one hostcall, and looks whether the guest may go on: a slice counts only what the guest itself does, so that a loop
/// over an expensive hostcall could otherwise run for seconds.
fn serve<R>(
    caller: &mut Caller<'_, Data>,
    hostcall: impl FnOnce(&mut HostState, &mut [u8]) -> Result<R, Stop>,
) -> Result<R, Error> {
    let (memory, data) = match caller.data().memory {
        Some(memory) => memory.data_and_store_mut(&mut *caller),
        None => (&mut [][..], caller.data_mut()),
    };
    let Some(host) = data.host.as_deref_mut() else {
        return Err(Error::new("a bug: a hostcall before the job"));
    };
    match caught(|| hostcall(host, memory))? {
        Ok(result) => match host.call().interruption() {
            None => Ok(result),
            Some(why) => Err(unwinding(host, why.into())),
        },
        Err(stop) => Err(unwinding(host, stop)),
    }
}

/// [`serve`] for a hostcall that may suspend its guest: it is then kept, to be made again when the guest is resumed.
fn serve_or_wait(
    caller: &mut Caller<'_, Data>,
    mut hostcall: impl FnMut(&mut HostState, &mut [u8]) -> Result<i32, Stop> + Send + 'static,
) -> Result<i32, Error> {
    let mut waits = false;
    let result = serve(caller, |host, memory| {
        let result = hostcall(host, memory);
        waits = result == Err(Stop::Waits);
        // Not an end of the guest, so nothing is noted.
        if waits { Ok(0) } else { result }
    })?;
    if waits {
        caller.data_mut().again = Some(Again(Box::new(hostcall)));
        return Err(Error::host(Waiting));
    }
    Ok(result)
}

/// Turns a panic into an error: the interpreter's frames are of an ABI that cannot unwind, so a panic that reached them
/// would end the process.
pub(crate) fn caught<R>(hostcall: impl FnOnce() -> R) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(hostcall)).map_err(|panic| {
        Error::new(format!(
            "a bug: a hostcall panicked: {}",
            panic_text(&*panic)
        ))
    })
}

/// What makes wasmi unwind the guest.
#[cold]
pub(crate) fn unwinding(host: &mut HostState, why: Stop) -> Error {
    host.stop(why);
    Error::host(Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trap;
    use engine_core::TrapCode;
    use engine_core::backend::Step;
    use wasmi::{Engine, Module, Store};

    #[test]
    fn a_panic_in_a_hostcall_ends_the_guest_and_nothing_else() {
        let engine = Engine::default();
        let wasm = wat::parse_str(
            r#"(module (import "host" "panic" (func $f)) (func (export "_start") (call $f)))"#,
        );
        let module = Module::new(&engine, wasm.unwrap()).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        linker
            .func_wrap("host", "panic", || -> Result<(), Error> {
                caught(|| panic!("oh no"))
            })
            .unwrap();
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        let start = instance.get_typed_func::<(), ()>(&store, "_start").unwrap();
        let Step::Trapped(trap) = trap::of(&start.call(&mut store, ()).unwrap_err()) else {
            panic!("it is a trap");
        };
        assert_eq!(trap.code, TrapCode::Host);
        assert!(trap.detail.contains("oh no"), "{}", trap.detail);
    }
}
