//! Engine-core's hostcalls in wasmi's linker, one typed host function each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine_core::sandbox::hostcalls;
use engine_core::{HostState, Stop, for_each_hostcall, panic_text};
use wasmi::{Caller, Error, Linker};

use crate::instance::Data;
use crate::trap::Stopped;

macro_rules! define_all {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? ; )* } )* ) => {
        /// Defines every hostcall.
        pub(crate) fn define(linker: &mut Linker<Data>) -> Result<(), Error> {
            $( $(
                linker.func_wrap(
                    $module,
                    stringify!($name),
                    |mut caller: Caller<'_, Data> $(, $arg: $ty )*| -> Result<define_all!(@ $( $ret )?), Error> {
                        serve(&mut caller, |host, memory| hostcalls::$name(host, memory $(, $arg )*))
                    },
                )?;
            )* )*
            Ok(())
        }
    };
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

/// Turns a panic into an error: the interpreter's frames are of an ABI that cannot unwind, so a panic that reached them
/// would end the process.
fn caught<R>(hostcall: impl FnOnce() -> R) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(hostcall)).map_err(|panic| {
        Error::new(format!(
            "a bug: a hostcall panicked: {}",
            panic_text(&*panic)
        ))
    })
}

/// What makes wasmi unwind the guest.
#[cold]
fn unwinding(host: &mut HostState, why: Stop) -> Error {
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
