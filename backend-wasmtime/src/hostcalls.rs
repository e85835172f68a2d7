//! Engine-core's hostcalls in wasmtime's linker, one typed host function each.

use std::sync::Arc;

use engine_core::for_each_hostcall;
use engine_core::sandbox::hostcalls;
use wasmtime::{Caller, Error, Linker, Result};

use crate::instance::Data;
use crate::trap::Unwinder;

macro_rules! define_all {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? ; )* } )* ) => {
        /// Defines every hostcall.
        pub(crate) fn define(linker: &mut Linker<Data>, unwinder: &Arc<Unwinder>) -> Result<()> {
            $( $(
                let stop = Arc::clone(unwinder);
                linker.func_wrap(
                    $module,
                    stringify!($name),
                    move |mut caller: Caller<'_, Data> $(, $arg: $ty )*| -> Result<define_all!(@ $( $ret )?)> {
                        let (memory, data) = match caller.data().memory {
                            Some(memory) => memory.data_and_store_mut(&mut caller),
                            None => (&mut [][..], caller.data_mut()),
                        };
                        let Some(host) = data.host.as_deref_mut() else {
                            return Err(Error::msg("a bug: a hostcall before the job"));
                        };
                        match hostcalls::$name(host, memory $(, $arg )*) {
                            Ok(result) => Ok(result),
                            Err(why) => {
                                host.stop(why);
                                Err(stop.error())
                            }
                        }
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
