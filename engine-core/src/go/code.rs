//! Compares code of Go's runtime, instruction by instruction, with what Go's linker writes.

use wasm_encoder::Encode;
use wasmparser::{BlockType, MemArg, Operator, OperatorsReader};

use super::{CTXT, G, GoCommand, PAUSE, SP};

/// The functions and addresses that `_start` and `rt0_go` refer to.
pub(super) struct Runtime {
    pub(super) resume: u32,
    pub(super) m0: u32,
    pub(super) g0: u32,
    pub(super) main_pc: u32,
}

/// Offset of `m` in a `g`.
const G_M: u64 = 48;

/// Reads the runtime's start, beginning with `_start`, a function index.
pub(super) fn runtime(go: &GoCommand, start: u32) -> Result<Runtime, String> {
    let strange = |what: &str| format!("{what} is not that of a Go program");
    let start = go
        .table_index(start)
        .and_then(|start| begin(Code::of(go, start)?));
    let (rt0_go, resume) = start.ok_or_else(|| strange("its _start"))?;
    go.table_index(resume)
        .and_then(|function| pc_loop(Code::of(go, function)?))
        .ok_or_else(|| strange("its loop over program counters"))?;
    go.table_index(rt0_go)
        .and_then(|function| rt0(Code::of(go, function)?, function))
        .map(|(m0, g0, main_pc)| Runtime {
            resume,
            m0,
            g0,
            main_pc,
        })
        .ok_or_else(|| strange("the start of its runtime"))
}

/// The table index of the function that Go generates for the import.
///
/// Other functions could call the import too. This is not checked here, because searching all code would take ten times
/// as long as everything else. Instead `park` checks that the call on the program's stack is a call of this function.
pub(super) fn wrapper(go: &GoCommand, import: u32) -> Result<u32, String> {
    let mut wrappers = (super::FIRST..)
        .zip(&go.bodies)
        .filter(|(_, body)| body.len() <= WRAPPER_SIZE)
        .filter(|&(function, _)| {
            Code::of(go, function).is_some_and(|code| read_wrapper(code, import).is_some())
        })
        .map(|(function, _)| function);
    match (wrappers.next(), wrappers.next()) {
        (Some(wrapper), None) => Ok(wrapper),
        (None, _) => Err("nothing calls fd_read as Go does".to_owned()),
        (Some(_), Some(_)) => Err("more than one function calls fd_read as Go does".to_owned()),
    }
}

/// The maximum size of a wrapper in bytes. It has about 60, and a few more for large indices.
const WRAPPER_SIZE: usize = 100;

/// Whether the code steps an xorshift64+ generator whose state is the two halves of a word at `offset` of a structure.
/// The runtime's `cheaprand` does that, wherever it is inlined: `s1, s0 := t[0], t[1]; s1 ^= s1 << 17`.
pub(super) fn steps_xorshift(code: &[u8], offset: u32) -> bool {
    // i32.wrap_i64, i64.load32_u offset, local.set
    let load = |offset: u32| {
        let mut bytes = vec![0xa7, 0x35, 2];
        offset.encode(&mut bytes);
        bytes.push(0x21);
        bytes
    };
    let (first, second) = (load(offset), load(offset + 4));
    // i64.const 17, i64.shl
    let shift = [0x42, 17, 0x86];
    code.windows(first.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == first)
        .any(|(at, _)| {
            let mut rest = code[at + first.len()..].iter();
            let mut local = || rest.next().copied();
            let Some(s1) = local() else { return false };
            // local.get of the structure, the other half, local.get s1, the shift, local.get s1, i64.xor
            let (get, _) = (local(), local());
            let tail = rest.as_slice();
            let Some(tail) = tail.strip_prefix(&second[..]) else {
                return false;
            };
            get == Some(0x20)
                && matches!(tail, [_, 0x20, a, b @ ..]
                    if *a == s1 && b.strip_prefix(&shift).is_some_and(|b| b.starts_with(&[0x20, s1, 0x85])))
        })
}

/// `_start`: the function indices of `rt0_go` and of the loop.
fn begin(mut code: Code<'_>) -> Option<(u32, u32)> {
    code.i64()?;
    code.is(Operator::I32WrapI64)?;
    code.is(SET_SP)?;
    code.is(Operator::I32Const { value: 0 })?;
    let rt0_go = code.call()?;
    code.is(Operator::Drop)?;
    let resume = code.call()?;
    code.is(Operator::Return)?;
    code.is(Operator::Unreachable)?;
    code.ends()?;
    Some((rt0_go, resume))
}

/// `wasm_pc_f_loop`.
fn pc_loop(mut code: Code<'_>) -> Option<()> {
    let pause = Operator::GlobalGet {
        global_index: PAUSE,
    };
    code.is(pause.clone())?;
    code.is(Operator::I32Eqz)?;
    code.is(Operator::If { blockty: EMPTY })?;
    code.is(Operator::Loop { blockty: EMPTY })?;
    // The resume point.
    code.is(Operator::GlobalGet { global_index: SP })?;
    code.is(Operator::I32Const { value: 8 })?;
    code.is(Operator::I32Sub)?;
    code.is(Operator::I32Load16U { memarg: at(0, 1) })?;
    // The function: 16 bits up to Go 1.24.
    code.is(Operator::GlobalGet { global_index: SP })?;
    code.is(Operator::I32Const { value: 8 })?;
    code.is(Operator::I32Sub)?;
    match code.next()? {
        Operator::I32Load { memarg } if memarg == at(2, 2) => {}
        Operator::I32Load16U { memarg } if memarg == at(2, 1) => {}
        _ => return None,
    }
    code.is(CALL_INDIRECT)?;
    code.is(Operator::Drop)?;
    code.is(pause)?;
    code.is(Operator::I32Eqz)?;
    code.is(Operator::BrIf { relative_depth: 0 })?;
    code.is(Operator::End)?;
    code.is(Operator::End)?;
    code.is(Operator::I32Const { value: 0 })?;
    code.is(Operator::GlobalSet {
        global_index: PAUSE,
    })?;
    code.is(Operator::Return)?;
    code.is(Operator::Unreachable)?;
    code.ends()
}

/// `rt0_go`: the addresses of `m0`, `g0` and of `runtime.main`'s entry.
fn rt0(mut code: Code<'_>, own: u32) -> Option<(u32, u32, u32)> {
    code.is(GET_SP)?;
    code.is(SET_LOCAL_SP)?;
    for _ in 0..3 {
        code.is(Operator::Block { blockty: EMPTY })?;
    }
    code.is(Operator::LocalGet { local_index: 0 })?;
    let Operator::BrTable { targets } = code.next()? else {
        return None;
    };
    let blocks: Vec<u32> = targets.targets().take(8).collect::<Result<_, _>>().ok()?;
    (blocks == [0; 5] && targets.default() == 1).then_some(())?;
    code.is(Operator::End)?;
    // m0.g0 = g0; g0.m = m0; g = g0
    let m0 = code.i32()?;
    let g0 = code.i64()?;
    code.is(Operator::I64Store { memarg: at(0, 3) })?;
    code.is(Operator::I32Const { value: g0 as i32 })?;
    code.is(Operator::I64Const {
        value: i64::from(m0),
    })?;
    code.is(Operator::I64Store { memarg: at(G_M, 3) })?;
    code.is(Operator::I64Const { value: g0 })?;
    code.is(Operator::GlobalSet { global_index: G })?;
    // check, osinit, schedinit
    for point in 1..=3 {
        code.calls_for_good(own, point)?;
    }
    // newproc(mainPC)
    code.is(GET_LOCAL_SP)?;
    let main_pc = code.i64()?;
    code.is(Operator::I64Store { memarg: at(0, 3) })?;
    code.calls_for_good(own, 4)?;
    // mstart
    code.pushes(own, 5)?;
    code.is(Operator::I32Const { value: 0 })?;
    code.call()?;
    code.is(GET_SP)?;
    code.is(SET_LOCAL_SP)?;
    code.is(Operator::BrIf { relative_depth: 1 })?;
    code.is(Operator::End)?;
    code.is(Operator::Unreachable)?;
    code.is(Operator::Unreachable)?;
    code.is(Operator::End)?;
    code.is(Operator::I32Const { value: 1 })?;
    code.ends()?;
    let address = |value: i64| u32::try_from(value).ok();
    Some((m0 as u32, address(g0)?, address(main_pc)?))
}

/// The function that Go generates for `fd_read(fd int32, iovs *iovec, iovsLen size, nread *size) Errno`. It reads the
/// arguments from the stack, where they stay, so that it can be executed again.
fn read_wrapper(mut code: Code<'_>, import: u32) -> Option<()> {
    let call = Operator::Call {
        function_index: import,
    };
    let pointer = |offset| [GET_LOCAL_SP, load64(offset), Operator::I32WrapI64];
    let number = |offset| [GET_LOCAL_SP, load32(offset)];
    code.is(GET_SP)?;
    code.is(SET_LOCAL_SP)?;
    code.is(GET_LOCAL_SP)?;
    let mut expected = Vec::new();
    if code.accepts(&load32(8)) {
        for offset in [16, 24, 32] {
            expected.extend(number(offset));
        }
        expected.extend([call, GET_SP, SET_LOCAL_SP]);
        expected.extend([
            Operator::I64ExtendI32U,
            Operator::LocalSet { local_index: 2 },
            GET_LOCAL_SP,
            Operator::LocalGet { local_index: 2 },
            Operator::I64Store32 { memarg: at(40, 2) },
        ]);
    } else {
        // Up to Go 1.23 the address of the result is pushed first.
        expected.extend(number(8));
        expected.extend(pointer(16));
        expected.extend(number(24));
        expected.extend(pointer(32));
        expected.extend([call, GET_SP, SET_LOCAL_SP]);
        expected.push(Operator::I32Store { memarg: at(40, 2) });
    }
    expected.extend([
        GET_LOCAL_SP,
        Operator::I32Const { value: 8 },
        Operator::I32Add,
        TEE_LOCAL_SP,
        SET_SP,
        Operator::I32Const { value: 0 },
        Operator::Return,
        Operator::Unreachable,
    ]);
    for operator in expected {
        code.is(operator)?;
    }
    code.ends()
}

/// Reads a function's instructions one by one. Methods return `None` if the next instruction is not the expected one.
pub(super) struct Code<'a> {
    operators: OperatorsReader<'a>,
    ahead: Option<Operator<'a>>,
}

impl<'a> Code<'a> {
    /// The instructions of the function with that table index.
    pub(super) fn of(go: &'a GoCommand, function: u32) -> Option<Self> {
        Some(Self {
            operators: go.body(function)?.get_operators_reader().ok()?,
            ahead: None,
        })
    }

    /// Reads the next instruction. `None` at the end.
    pub(super) fn next(&mut self) -> Option<Operator<'a>> {
        match self.ahead.take() {
            Some(operator) => Some(operator),
            None if self.operators.eof() => None,
            None => self.operators.read().ok(),
        }
    }

    /// The next instruction, without reading it.
    pub(super) fn peek(&mut self) -> Option<&Operator<'a>> {
        if self.ahead.is_none() {
            self.ahead = self.next();
        }
        self.ahead.as_ref()
    }

    /// Reads the next instruction if it equals `operator`, and returns whether it did.
    pub(super) fn accepts(&mut self, operator: &Operator<'_>) -> bool {
        let accepted = self.peek().is_some_and(|next| next == operator);
        if accepted {
            self.ahead = None;
        }
        accepted
    }

    /// Reads the next instruction, which must equal `operator`.
    pub(super) fn is(&mut self, operator: Operator<'_>) -> Option<()> {
        self.accepts(&operator).then_some(())
    }

    /// Reads the final `end`, after which nothing follows.
    fn ends(&mut self) -> Option<()> {
        self.is(Operator::End)?;
        self.peek().is_none().then_some(())
    }

    /// Reads an `i32.const`.
    pub(super) fn i32(&mut self) -> Option<i32> {
        let Operator::I32Const { value } = *self.peek()? else {
            return None;
        };
        self.ahead = None;
        Some(value)
    }

    /// Reads an `i64.const`.
    pub(super) fn i64(&mut self) -> Option<i64> {
        let Operator::I64Const { value } = *self.peek()? else {
            return None;
        };
        self.ahead = None;
        Some(value)
    }

    /// Reads a direct call, and returns the function index.
    pub(super) fn call(&mut self) -> Option<u32> {
        let Operator::Call { function_index } = *self.peek()? else {
            return None;
        };
        self.ahead = None;
        Some(function_index)
    }

    /// Reads the push of a return address in the function with table index `own`, and returns its resume point.
    pub(super) fn push(&mut self, own: u32) -> Option<u16> {
        self.is(GET_LOCAL_SP)?;
        self.is(Operator::I32Const { value: 8 })?;
        self.is(Operator::I32Sub)?;
        self.is(TEE_LOCAL_SP)?;
        self.is(SET_SP)?;
        self.is(GET_LOCAL_SP)?;
        let point = resume_point(own, self.i64()?)?;
        self.is(Operator::I64Store { memarg: at(0, 3) })?;
        Some(point)
    }

    fn pushes(&mut self, own: u32, point: u16) -> Option<()> {
        (self.push(own)? == point).then_some(())
    }

    /// Reads a call that cannot be resumed.
    fn calls_for_good(&mut self, own: u32, point: u16) -> Option<()> {
        self.pushes(own, point)?;
        self.is(Operator::I32Const { value: 0 })?;
        self.call()?;
        self.is(GET_SP)?;
        self.is(SET_LOCAL_SP)?;
        self.is(Operator::If { blockty: EMPTY })?;
        self.is(Operator::Unreachable)?;
        self.is(Operator::End)
    }
}

/// The resume point of a program counter, if it is in the function with table index `own`.
pub(super) fn resume_point(own: u32, pc: i64) -> Option<u16> {
    (pc >> 16 == i64::from(own)).then_some(pc as u16)
}

/// A memory operand with an offset and the binary logarithm of the size, which Go also uses as the alignment.
pub(super) fn at(offset: u64, size: u8) -> MemArg {
    MemArg {
        align: size,
        max_align: size,
        offset,
        memory: 0,
    }
}

fn load32(offset: u64) -> Operator<'static> {
    Operator::I32Load {
        memarg: at(offset, 2),
    }
}

fn load64(offset: u64) -> Operator<'static> {
    Operator::I64Load {
        memarg: at(offset, 3),
    }
}

pub(super) const EMPTY: BlockType = BlockType::Empty;
pub(super) const GET_SP: Operator<'static> = Operator::GlobalGet { global_index: SP };
pub(super) const SET_SP: Operator<'static> = Operator::GlobalSet { global_index: SP };
pub(super) const GET_G: Operator<'static> = Operator::GlobalGet { global_index: G };
pub(super) const SET_CTXT: Operator<'static> = Operator::GlobalSet { global_index: CTXT };
/// The first local of a function caches the stack pointer.
pub(super) const GET_LOCAL_SP: Operator<'static> = Operator::LocalGet { local_index: 1 };
pub(super) const SET_LOCAL_SP: Operator<'static> = Operator::LocalSet { local_index: 1 };
pub(super) const TEE_LOCAL_SP: Operator<'static> = Operator::LocalTee { local_index: 1 };
pub(super) const CALL_INDIRECT: Operator<'static> = Operator::CallIndirect {
    type_index: 0,
    table_index: 0,
};
