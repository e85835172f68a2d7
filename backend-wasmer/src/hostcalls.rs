//! Engine-core's hostcalls as functions that compiled code can call.
//!
//! A hostcall gets the sandbox's [`Env`] in the parameter in which a guest's function gets its instance. Guests run on
//! small stacks that wasmer allocates, so a hostcall switches to the thread's stack for its work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use engine_core::{HostState, Stop, panic_text};
use wasmer::sys::vm::{self, FunctionBodyPtr, VMMemoryDefinition};
use wasmer::{FunctionType, Type};

use crate::helper::Caller;
use crate::trap::Halt;

/// The data that the hostcalls of one sandbox use.
#[derive(Debug, Default)]
pub(crate) struct Env {
    /// The host state, present while guest code runs.
    pub(crate) host: Option<Box<HostState>>,
    /// The memory that the guest exports as "memory".
    pub(crate) memory: Option<NonNull<VMMemoryDefinition>>,
    /// The call that a guest which may be suspended reports to, while it runs on a helper's thread.
    pub(crate) caller: Option<Caller>,
    /// The message of a panic in a hostcall. Such a panic is a bug, but it must not end the process.
    pub(crate) panicked: Option<String>,
}

impl Env {
    /// Blocks until the call is resumed. False: the guest is to end.
    fn wait(&mut self) -> bool {
        let (Some(caller), Some(host)) = (&self.caller, self.host.take()) else {
            return false;
        };
        self.host = caller.wait(host);
        self.host.is_some()
    }
}

/// A hostcall for linking: its code and its type.
#[derive(Clone, Debug)]
pub(crate) struct Hostcall {
    pub(crate) body: FunctionBodyPtr,
    pub(crate) ty: FunctionType,
}

/// Runs the Rust function of a hostcall. If the function returns a [`Stop`] or panics, the guest is unwound.
///
/// # Safety
/// Guest code must be the caller, with the [`Env`] of its sandbox, and there must be no other reference to it meanwhile.
unsafe fn enter<R>(
    env: *mut Env,
    call: impl Fn(&mut HostState, &mut [u8]) -> Result<R, Stop>,
) -> R {
    let result = vm::on_host_stack(|| {
        loop {
            // SAFETY: the caller's promise.
            let env = unsafe { &mut *env };
            let Some(host) = env.host.as_deref_mut() else {
                return Err(Halt);
            };
            let memory: &mut [u8] = match env.memory {
                None => &mut [],
                // SAFETY: the definition lives as long as the instance, whose guest is waiting for this call. It describes
                // accessible bytes, which only that guest uses.
                Some(definition) => unsafe {
                    let definition = definition.as_ref();
                    std::slice::from_raw_parts_mut(definition.base, definition.current_length)
                },
            };
            break match catch_unwind(AssertUnwindSafe(|| call(host, memory))) {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(Stop::Waits)) => match env.wait() {
                    true => continue,
                    false => Err(Halt),
                },
                Ok(Err(stop)) => {
                    host.stop(stop);
                    Err(Halt)
                }
                Err(panic) => {
                    env.panicked = Some(panic_text(&*panic).to_owned());
                    Err(Halt)
                }
            };
        }
    });
    match result {
        Ok(value) => value,
        // SAFETY: guest code is on the stack, and no value between it and this call needs dropping: `Halt` has no size,
        // so its box owns no memory.
        Err(halt) => unsafe { vm::raise_user_trap(Box::new(halt)) },
    }
}

/// A parameter or result of a hostcall.
trait Value {
    const TYPE: Type;
}

impl Value for i32 {
    const TYPE: Type = Type::I32;
}

impl Value for i64 {
    const TYPE: Type = Type::I64;
}

macro_rules! expand {
    ($( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* $(,)? ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )*) => {
        /// The functions that compiled code calls.
        mod bodies {
            use super::{Env, enter};
            $( $(
                /// # Safety
                /// As `enter`.
                pub(super) unsafe extern "C" fn $name(env: *mut Env, $( $arg: $ty ),*) $( -> $ret )? {
                    // SAFETY: the caller's promise.
                    unsafe {
                        enter(env, |host, memory| engine_core::sandbox::hostcalls::$name(host, memory, $( $arg ),*))
                    }
                }
            )* )*
        }

        /// The hostcall `name` of the import module `module`.
        pub(crate) fn find(module: &str, name: &str) -> Option<Hostcall> {
            $( $(
                if module == $module && name == stringify!($name) {
                    let params: Vec<Type> = vec![ $( <$ty as Value>::TYPE ),* ];
                    let results: Vec<Type> = vec![ $( <$ret as Value>::TYPE )? ];
                    return Some(Hostcall {
                        body: FunctionBodyPtr(bodies::$name as *const vm::VMFunctionBody),
                        ty: FunctionType::new(params, results),
                    });
                }
            )* )*
            None
        }
    };
}

engine_core::for_each_hostcall!(expand);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostcalls_are_found_by_module_and_name() {
        let write = find("wasi_snapshot_preview1", "fd_write").expect("it is there");
        assert_eq!(write.ty, FunctionType::new(vec![Type::I32; 4], [Type::I32]));
        let exit = find("wasi_snapshot_preview1", "proc_exit").expect("it is there");
        assert_eq!(exit.ty, FunctionType::new([Type::I32], []));
        assert!(find("gojinn", "fd_write").is_none());
        assert!(find("gojinn", "host_log").is_some());
        assert!(find("env", "host_log").is_none());
    }
}
