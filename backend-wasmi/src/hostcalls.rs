//! Engine-core's hostcalls in wasmi's linker, one typed host function each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine_core::{HostState, Stop, for_each_hostcall, hostcall};
use wasmi::{Caller, Error, Linker};

use crate::sandbox::{Data, panic_text};
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
                        serve(&mut caller, |host, memory| hostcall::$name(host, memory $(, $arg )*))
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
///
/// A panic ends here: the interpreter's frames cannot be unwound, they would end the process.
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
    match catch_unwind(AssertUnwindSafe(|| hostcall(host, memory))) {
        Ok(Ok(result)) => match host.call().interruption() {
            None => Ok(result),
            Some(why) => Err(unwinding(host, why.into())),
        },
        Ok(Err(stop)) => Err(unwinding(host, stop)),
        Err(panic) => Err(Error::new(format!(
            "a bug: a hostcall panicked: {}",
            panic_text(&*panic)
        ))),
    }
}

/// What makes wasmi unwind the guest.
#[cold]
fn unwinding(host: &mut HostState, why: Stop) -> Error {
    host.stop(why);
    Error::host(Stopped)
}
