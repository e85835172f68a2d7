//! Reads what a function does to the Go stack: the size of its frame, and its calls.

use wasmparser::Operator;

use super::GoCommand;
use super::code::{
    self, CALL_INDIRECT, Code, EMPTY, GET_G, GET_LOCAL_SP, GET_SP, SET_CTXT, SET_LOCAL_SP, SET_SP,
    TEE_LOCAL_SP, at,
};

/// Offset of `stackguard0` in a `g`.
const G_STACKGUARD0: u64 = 16;

/// A call at which a function can be resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CallSite {
    pub(crate) callee: Callee,
    /// The address of the called closure, if it is a constant.
    pub(crate) closure: Option<u32>,
}

/// The called function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Callee {
    /// The function with that table index.
    Direct(u32),
    /// A function that is known at run time only.
    Indirect,
}

impl GoCommand {
    /// The size of the frame of the function with that table index: the bytes below its return address. `None`: there
    /// is no such function, or it does not begin as Go's functions do.
    pub(crate) fn frame_size(&self, function: u32) -> Option<u32> {
        let mut code = Code::of(self, function)?;
        self.prologue(&mut code, function)
    }

    /// The call in the function with that table index that continues at `point`. `None` if there is no such call, or if
    /// it cannot be resumed.
    pub(crate) fn call_site(&self, function: u32, point: u16) -> Option<CallSite> {
        if point == 0 {
            return None;
        }
        let mut code = Code::of(self, function)?;
        let (mut open, resumes_at) = dispatch(&mut code, point)?;
        let mut closure = None;
        while let Some(operator) = code.next() {
            let closure_before = std::mem::take(&mut closure);
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => open += 1,
                Operator::End => open = open.checked_sub(1)?,
                Operator::I64Const { value } if code.accepts(&SET_CTXT) => {
                    closure = enters_closure(&mut code, value);
                }
                Operator::I64Const { value }
                    if code::resume_point(function, value) == Some(point) =>
                {
                    let Some(callee) = self.callee(&mut code) else {
                        continue;
                    };
                    if code.accepts(&Operator::End) {
                        if open == resumes_at {
                            return Some(CallSite {
                                callee,
                                closure: closure_before,
                            });
                        }
                        open = open.checked_sub(1)?;
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Reads the beginning of a function: the size of its frame.
    fn prologue(&self, code: &mut Code<'_>, own: u32) -> Option<u32> {
        code.is(GET_SP)?;
        code.is(SET_LOCAL_SP)?;
        blocks(code);
        if code.accepts(&Operator::LocalGet { local_index: 0 }) {
            let Operator::BrTable { .. } = code.next()? else {
                return None;
            };
            code.is(Operator::End)?;
        }
        let mut may_grow = false;
        while code.accepts(&GET_LOCAL_SP) {
            if !may_grow && code.accepts(&GET_G) {
                grows_stack(code, own)?;
                may_grow = true;
                continue;
            }
            let Some(size) = code.i32() else { break };
            let moves = code.accepts(&Operator::I32Sub)
                && code.accepts(&TEE_LOCAL_SP)
                && code.accepts(&SET_SP);
            if !moves {
                break;
            }
            // A call also moves the stack pointer by 8, but then stores a return address.
            if size == 8
                && code.accepts(&GET_LOCAL_SP)
                && code
                    .i64()
                    .is_some_and(|pc| code::resume_point(own, pc).is_some_and(|point| point > 0))
            {
                break;
            }
            return u32::try_from(size)
                .ok()
                .filter(|size| *size > 0 && size % 8 == 0);
        }
        // Only functions with a frame check whether the stack has room for it.
        (!may_grow).then_some(0)
    }

    /// Reads a call after its return address. Returns the called function, if the call can be resumed.
    fn callee(&self, code: &mut Code<'_>) -> Option<Callee> {
        code.is(Operator::I64Store { memarg: at(0, 3) })?;
        let callee = if code.accepts(&Operator::I32Const { value: 0 }) {
            Callee::Direct(self.table_index(code.call()?)?)
        } else {
            // The function part of a program counter. Up to Go 1.24 it is wrapped to 32 bits before it is shifted.
            if code.accepts(&Operator::I32WrapI64) {
                code.is(Operator::I32Const { value: 16 })?;
                code.is(Operator::I32ShrU)?;
            } else {
                code.is(Operator::I64Const { value: 16 })?;
                code.is(Operator::I64ShrU)?;
                code.is(Operator::I32WrapI64)?;
            }
            code.is(Operator::LocalSet { local_index: 0 })?;
            code.is(Operator::I32Const { value: 0 })?;
            code.is(Operator::LocalGet { local_index: 0 })?;
            code.is(CALL_INDIRECT)?;
            Callee::Indirect
        };
        code.is(GET_SP)?;
        code.is(SET_LOCAL_SP)?;
        // A call that cannot be resumed has `if unreachable end` here.
        let Some(Operator::BrIf { .. }) = code.peek() else {
            return None;
        };
        code.next();
        Some(callee)
    }
}

/// Reads to the end of the dispatch on resume points. Returns how many blocks are open there, and how many are open
/// after the end of the block that `point` follows.
fn dispatch(code: &mut Code<'_>, point: u16) -> Option<(u32, u32)> {
    code.is(GET_SP)?;
    code.is(SET_LOCAL_SP)?;
    let open = blocks(code);
    code.is(Operator::LocalGet { local_index: 0 })?;
    let Operator::BrTable { targets } = code.next()? else {
        return None;
    };
    let target = match targets.targets().nth(point.into()) {
        Some(target) => target.ok()?,
        None => targets.default(),
    };
    code.is(Operator::End)?;
    Some((open.checked_sub(1)?, open.checked_sub(target)?))
}

/// Reads the blocks with which a function begins, and returns their number.
fn blocks(code: &mut Code<'_>) -> u32 {
    let mut open = 0;
    while code.accepts(&Operator::Block { blockty: EMPTY })
        || code.accepts(&Operator::Loop { blockty: EMPTY })
    {
        open += 1;
    }
    open
}

/// Reads the check whether the stack must grow, after its first two instructions.
fn grows_stack(code: &mut Code<'_>, own: u32) -> Option<()> {
    code.is(Operator::I32WrapI64)?;
    code.is(Operator::I32Load {
        memarg: at(G_STACKGUARD0, 2),
    })?;
    if code.i32().is_some() {
        code.is(Operator::I32Add)?;
    }
    code.is(Operator::I32LeU)?;
    code.is(Operator::If { blockty: EMPTY })?;
    code.push(own)?;
    code.is(Operator::I32Const { value: 0 })?;
    code.call()?;
    code.is(GET_SP)?;
    code.is(SET_LOCAL_SP)?;
    let Operator::BrIf { .. } = code.next()? else {
        return None;
    };
    code.is(Operator::End)
}

/// Reads a call of the closure at `closure`, from after its first two instructions to its return address.
fn enters_closure(code: &mut Code<'_>, closure: i64) -> Option<u32> {
    code.is(Operator::I64Const { value: closure })?;
    code.is(Operator::I32WrapI64)?;
    code.is(Operator::I64Load { memarg: at(0, 3) })?;
    code.is(GET_LOCAL_SP)?;
    code.is(Operator::I32Const { value: 8 })?;
    code.is(Operator::I32Sub)?;
    code.is(TEE_LOCAL_SP)?;
    code.is(SET_SP)?;
    code.is(GET_LOCAL_SP)?;
    u32::try_from(closure).ok()
}
