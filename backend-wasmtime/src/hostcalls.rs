//! Engine-core's hostcalls in wasmtime's linkers, one typed host function each.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use engine_core::sandbox::hostcalls;
use engine_core::{HostState, Stop, for_each_hostcall};
use wasmtime::{Caller, Error, Linker, Result};

use crate::instance::Data;
use crate::trap::Unwinder;

macro_rules! define_all {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )* ) => {
        /// Defines every hostcall, for guests that are never suspended.
        pub(crate) fn define(linker: &mut Linker<Data>, unwinder: &Arc<Unwinder>) -> Result<()> {
            $( $(
                define_all!(plain linker, unwinder, $module, $name ( $( $arg : $ty ),* ) $( -> $ret )?);
            )* )*
            Ok(())
        }

        /// Defines every hostcall, for guests that may be suspended.
        pub(crate) fn define_suspending(linker: &mut Linker<Data>, unwinder: &Arc<Unwinder>) -> Result<()> {
            $( $(
                define_all!($( $waits )? linker, unwinder, $module, $name ( $( $arg : $ty ),* ) $( -> $ret )?);
            )* )*
            Ok(())
        }
    };
    ($linker:ident, $( $rest:tt )*) => { define_all!(plain $linker, $( $rest )*) };
    (plain $linker:ident, $unwinder:ident, $module:literal, $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )?) => {
        let stop = Arc::clone($unwinder);
        $linker.func_wrap(
            $module,
            stringify!($name),
            move |mut caller: Caller<'_, Data> $(, $arg: $ty )*| -> Result<define_all!(@ $( $ret )?)> {
                match serve(&mut caller, |host, memory| hostcalls::$name(host, memory $(, $arg )*))? {
                    Ok(result) => Ok(result),
                    Err(why) => Err(stopped(&mut caller, why, &stop)),
                }
            },
        )?;
    };
    (waits $linker:ident, $unwinder:ident, $module:literal, $name:ident ( $( $arg:ident : $ty:ty ),* ) -> $ret:ty) => {
        let stop = Arc::clone($unwinder);
        $linker.func_wrap_async(
            $module,
            stringify!($name),
            move |mut caller: Caller<'_, Data>, ( $( $arg, )* ): ( $( $ty, )* )| {
                let stop = Arc::clone(&stop);
                Box::new(poll_fn(move |_| -> Poll<Result<$ret>> {
                    match serve(&mut caller, |host, memory| hostcalls::$name(host, memory $(, $arg )*)) {
                        Ok(Ok(result)) => Poll::Ready(Ok(result)),
                        Ok(Err(Stop::Waits)) => {
                            caller.data_mut().suspended();
                            Poll::Pending
                        }
                        Ok(Err(why)) => Poll::Ready(Err(stopped(&mut caller, why, &stop))),
                        Err(error) => Poll::Ready(Err(error)),
                    }
                }))
            },
        )?;
    };
    (@ $ret:ty) => { $ret };
    (@) => { () };
}

for_each_hostcall!(define_all);

/// Runs one hostcall over the host state and the guest's memory.
#[inline]
fn serve<R>(
    caller: &mut Caller<'_, Data>,
    hostcall: impl FnOnce(&mut HostState, &mut [u8]) -> std::result::Result<R, Stop>,
) -> Result<std::result::Result<R, Stop>> {
    // A guest that was suspended while it computed gets its host side back here.
    caller.data_mut().resumed();
    let (memory, data) = match caller.data().memory {
        Some(memory) => memory.data_and_store_mut(&mut *caller),
        None => (&mut [][..], caller.data_mut()),
    };
    match data.host.as_deref_mut() {
        Some(host) => Ok(hostcall(host, memory)),
        None => Err(Error::msg("a bug: a hostcall before the job")),
    }
}

/// What makes wasmtime unwind a guest that the host stops.
#[cold]
fn stopped(caller: &mut Caller<'_, Data>, why: Stop, unwinder: &Unwinder) -> Error {
    if let Some(host) = &mut caller.data_mut().host {
        host.stop(why);
    }
    unwinder.error()
}
