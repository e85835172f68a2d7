//! Counts, function by function, what decides how long compilers take and how much memory they need.
//!
//! Compilers are linear in most of a function and quadratic in a few things: a value that lives across branches and calls
//! is looked at again at each of them. So what is counted is not only how much there is of everything but also the
//! products, see [`FunctionCost::steps`]. Everything here works on bytes that are not validated yet: validation itself
//! takes long for some of what is refused here. Reading ends where the bytes make no sense, which the validator then
//! finds.

use wasmparser::{
    BinaryReader, BlockType, ElementItems, ElementSectionReader, FuncType, FunctionBody,
    FunctionSectionReader, ImportSectionReader, Operator, TypeRef, TypeSectionReader,
};

use super::sections::{self, Section};

/// Locals that every function has for a compiler, besides its own: the instance, the memory, the stack's limit.
const HIDDEN_LOCALS: u64 = 10;

/// What one function has that costs a compiler time and memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FunctionCost {
    /// Bytes of its body.
    pub bytes: u64,
    /// Parameters and declared locals.
    pub locals: u64,
    /// `block`, `loop`, `if`, `else`, and every kind of branch and return.
    pub branches: u64,
    /// Targets of all `br_table`.
    pub targets: u64,
    /// Calls, and the instructions that compilers turn into calls: on tables, and on whole stretches of memory.
    pub calls: u64,
    /// Arguments and results of all calls.
    pub operands: u64,
    /// `select`.
    pub selects: u64,
    /// `local.set` and `local.tee`.
    pub sets: u64,
    /// Values that blocks, branches and targets hand over.
    pub block_values: u64,
    /// Locals that a loop sets, counted for each loop that encloses the `local.set`.
    pub loop_values: u64,
}

impl FunctionCost {
    /// The steps of a compiler that grow faster than the code, for the worst code with these counts. A step takes about
    /// 4 ns; most programs take a small part of their steps (docs/compiling.md has the measurements).
    #[must_use]
    pub fn steps(&self) -> u64 {
        let square = |n: u64| n.saturating_mul(n);
        // A local that is set in branches and read after them has another value for each branch, and the compiler may
        // move it to another register or stack slot at each.
        let across_branches =
            (self.locals.saturating_add(HIDDEN_LOCALS)).saturating_mul(square(self.branches));
        // The same for what lives across calls, which leave no register as it was.
        let across_calls = square(self.calls).saturating_mul(HIDDEN_LOCALS);
        // The loops of a nest hand their locals on to each other.
        let around_loops = square(self.loop_values);
        // Each result takes the place of an operand, and so on: one chain through all of them.
        let along_selects = square(self.selects).saturating_mul(4);
        // Values that wait long for their use, many at a time.
        let along_sets = self.locals.saturating_mul(self.sets).saturating_mul(20);
        // For what is not known to be as bad. No straight code was found that takes so many.
        let along_code = square(self.bytes) / 64;
        [
            across_branches,
            across_calls,
            around_loops,
            along_selects,
            along_sets,
            along_code,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Cells of the tables in which a compiler notes which value a variable has in which block: 4 bytes each.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.locals
            .saturating_add(self.block_values)
            .saturating_mul(self.branches)
    }
}

/// What each function of a module has, with its index. For those who choose bounds; reads what it can.
#[must_use]
pub fn function_costs(module: &[u8]) -> Vec<(u32, FunctionCost)> {
    let mut costs = Vec::new();
    let Ok(all) = sections::sections(module) else {
        return costs;
    };
    let signatures = Signatures::read(module, &all);
    for code in all.iter().filter(|section| section.id == sections::CODE) {
        let keep = |index, cost: &FunctionCost| {
            costs.push((index, *cost));
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = for_each_function(module, code, &signatures, keep);
    }
    costs
}

/// What the sections say that the code is counted with.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    /// By type index; `None` for what is no function.
    types: Vec<Option<FuncType>>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    /// How many of them are imported.
    pub(super) imported: u32,
}

impl Signatures {
    /// Reads what it can.
    pub(super) fn read(bytes: &[u8], sections: &[Section]) -> Self {
        let mut read = Self::default();
        for section in sections {
            let reader = section.reader(bytes);
            // What cannot be read is the validator's to find.
            let _ = match section.id {
                sections::TYPE => read.types(reader),
                sections::IMPORT => read.imports(reader),
                sections::FUNCTION => read.functions(reader),
                _ => Ok(()),
            };
        }
        read
    }

    fn types(&mut self, reader: BinaryReader<'_>) -> wasmparser::Result<()> {
        for ty in TypeSectionReader::new(reader)?.into_iter_err_on_gc_types() {
            self.types.push(Some(ty?));
        }
        Ok(())
    }

    fn imports(&mut self, reader: BinaryReader<'_>) -> wasmparser::Result<()> {
        for import in ImportSectionReader::new(reader)?.into_imports() {
            if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                self.functions.push(ty);
                self.imported += 1;
            }
        }
        Ok(())
    }

    fn functions(&mut self, reader: BinaryReader<'_>) -> wasmparser::Result<()> {
        for ty in FunctionSectionReader::new(reader)? {
            self.functions.push(ty?);
        }
        Ok(())
    }

    /// Parameters and results of the largest type.
    pub(super) fn largest_type(&self) -> u64 {
        (0..self.types.len())
            .map(|index| {
                let (params, results) = self.arity(index as u32);
                params + results
            })
            .max()
            .unwrap_or(0)
    }

    /// Parameters and results of all functions together.
    pub(super) fn values(&self) -> u64 {
        self.functions
            .iter()
            .map(|&ty| {
                let (params, results) = self.arity(ty);
                params + results
            })
            .sum()
    }

    /// How many parameters and results a type has.
    fn arity(&self, ty: u32) -> (u64, u64) {
        match self.types.get(ty as usize) {
            Some(Some(ty)) => (ty.params().len() as u64, ty.results().len() as u64),
            _ => (0, 0),
        }
    }

    fn of_block(&self, block: BlockType) -> (u64, u64) {
        match block {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(ty) => self.arity(ty),
        }
    }

    fn of_call(&self, function: u32) -> (u64, u64) {
        self.functions
            .get(function as usize)
            .map_or((0, 0), |&ty| self.arity(ty))
    }
}

/// Items of all element segments together. Reads no item.
pub(super) fn element_items(bytes: &[u8], section: &Section) -> u64 {
    let Ok(segments) = ElementSectionReader::new(section.reader(bytes)) else {
        return 0;
    };
    segments
        .into_iter()
        .map_while(Result::ok)
        .map(|segment| match segment.items {
            ElementItems::Functions(items) => u64::from(items.count()),
            ElementItems::Expressions(_, items) => u64::from(items.count()),
        })
        .sum()
}

/// Counts function after function, giving each with its index to `check`, until that fails.
pub(super) fn for_each_function<E>(
    bytes: &[u8],
    code: &Section,
    signatures: &Signatures,
    mut check: impl FnMut(u32, &FunctionCost) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = code.reader(bytes);
    let Ok(count) = reader.read_var_u32() else {
        return Ok(());
    };
    let mut counter = Counter::default();
    for defined in 0..count {
        let Ok(body) = reader.read_reader() else {
            return Ok(());
        };
        let index = signatures.imported.saturating_add(defined);
        check(
            index,
            &counter.count(&FunctionBody::new(body), signatures, index),
        )?;
    }
    Ok(())
}

/// Counts one function after another, with the same buffers.
#[derive(Default)]
struct Counter {
    /// Values that a branch to each open block hands over, outermost first.
    labels: Vec<u64>,
    /// Positions at which the open loops begin, and how many blocks were open then.
    loops: Vec<(u64, usize)>,
    /// The position of the last `local.set` of each local; 0: none.
    set: Vec<u64>,
}

/// Locals of which a function is believed to have more: the position of a set is not kept for those beyond. The bound on
/// locals is far below.
const MOST_LOCALS: u64 = 100_000;

impl Counter {
    fn count(
        &mut self,
        body: &FunctionBody<'_>,
        signatures: &Signatures,
        index: u32,
    ) -> FunctionCost {
        let mut cost = FunctionCost {
            bytes: body.range().len() as u64,
            ..FunctionCost::default()
        };
        // An error is the validator's to find; what was counted until then is what there is.
        let _ = self.read(body, signatures, index, &mut cost);
        cost
    }

    fn read(
        &mut self,
        body: &FunctionBody<'_>,
        signatures: &Signatures,
        index: u32,
        cost: &mut FunctionCost,
    ) -> wasmparser::Result<()> {
        let (params, results) = signatures.of_call(index);
        cost.locals = params;
        for group in body.get_locals_reader()? {
            cost.locals += u64::from(group?.0);
        }
        self.labels.clear();
        self.labels.push(results);
        self.loops.clear();
        self.set.clear();
        self.set.resize(cost.locals.min(MOST_LOCALS) as usize, 0);

        let mut position = 0;
        for operator in body.get_operators_reader()? {
            position += 1;
            match operator? {
                Operator::Block { blockty } | Operator::If { blockty } => {
                    let (params, results) = signatures.of_block(blockty);
                    cost.branches += 1;
                    cost.block_values += params + results;
                    self.labels.push(results);
                }
                Operator::Loop { blockty } => {
                    let (params, results) = signatures.of_block(blockty);
                    cost.branches += 1;
                    cost.block_values += params + results;
                    self.loops.push((position, self.labels.len()));
                    self.labels.push(params);
                }
                Operator::Else => cost.branches += 1,
                Operator::Select | Operator::TypedSelect { .. } => cost.selects += 1,
                Operator::End => {
                    self.labels.pop();
                    self.loops.pop_if(|(_, open)| *open == self.labels.len());
                }
                Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                    cost.branches += 1;
                    cost.block_values += self.label(relative_depth);
                }
                Operator::BrTable { targets } => {
                    cost.branches += 1;
                    cost.targets += u64::from(targets.len());
                    cost.block_values += self.label(targets.default());
                    for target in targets.targets() {
                        cost.block_values += self.label(target?);
                    }
                }
                Operator::Return => {
                    cost.branches += 1;
                    cost.block_values += results;
                }
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    let (params, results) = signatures.of_call(function_index);
                    cost.calls += 1;
                    cost.operands += params + results;
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. } => {
                    let (params, results) = signatures.arity(type_index);
                    cost.calls += 1;
                    cost.operands += params + results;
                }
                Operator::DataDrop { .. }
                | Operator::ElemDrop { .. }
                | Operator::MemoryCopy { .. }
                | Operator::MemoryFill { .. }
                | Operator::MemoryGrow { .. }
                | Operator::MemoryInit { .. }
                | Operator::RefFunc { .. }
                | Operator::TableCopy { .. }
                | Operator::TableFill { .. }
                | Operator::TableGet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableInit { .. }
                | Operator::TableSet { .. } => cost.calls += 1,
                Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                    cost.sets += 1;
                    cost.loop_values += self.set(local_index, position);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Values that a branch to the block `depth` levels out hands over.
    fn label(&self, depth: u32) -> u64 {
        self.labels
            .iter()
            .nth_back(depth as usize)
            .copied()
            .unwrap_or(0)
    }

    /// How many of the open loops had not set the local before. Those are the innermost: who sets it in a loop has set it
    /// in all the loops around that one.
    fn set(&mut self, local: u32, position: u64) -> u64 {
        let Some(last) = self.set.get_mut(local as usize) else {
            return self.loops.len() as u64;
        };
        let before = std::mem::replace(last, position);
        self.loops
            .iter()
            .rev()
            .take_while(|(begin, _)| *begin > before)
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(text: &str) -> Vec<(u32, FunctionCost)> {
        function_costs(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn what_a_function_has_is_counted() {
        let costs = costs(
            r#"(module
            (import "gojinn" "log" (func $log (param i32 i32 i32)))
            (type $pair (func (param i32 i64) (result i64 i32)))
            (table 1 funcref)
            (func $pair (type $pair) (local.get 1) (local.get 0))
            (func (param i32) (result i32) (local i64 f32)
                (call $log (local.get 0) (local.get 0) (local.get 0))
                (i32.const 1) (i64.const 2)
                (call $pair)
                (drop)
                (call_indirect (type $pair) (i32.const 0) (local.get 1) (i32.const 0))
                (drop) (drop) (drop)
                (block $out (result i32)
                    (drop (br_table $out $out $out (i32.const 5) (local.get 0)))
                    (if (result i32) (local.get 0) (then (i32.const 1)) (else (return (i32.const 2)))))))"#,
        );
        assert_eq!(costs.len(), 2);
        assert_eq!(costs[0].0, 1, "the first is imported");
        let (index, cost) = costs[1];
        assert_eq!(index, 2);
        assert_eq!(cost.locals, 3);
        assert_eq!((cost.calls, cost.operands), (3, 3 + 4 + 4));
        // block, br_table, if, else, return.
        assert_eq!((cost.branches, cost.targets), (5, 2));
        // block 1, br_table 3, if 1, return 1.
        assert_eq!(cost.block_values, 6);
        assert!(cost.bytes > 40);
    }

    #[test]
    fn a_local_counts_once_for_each_loop_that_sets_it() {
        for (body, expected) in [
            ("(local.set 0 (i32.const 1))", 0),
            ("(loop (local.set 0 (i32.const 1)))", 1),
            (
                "(loop (local.set 0 (i32.const 1)) (local.set 0 (i32.const 1)))",
                1,
            ),
            (
                "(loop (local.set 0 (i32.const 1)) (local.set 1 (i32.const 1)))",
                2,
            ),
            ("(loop (loop (loop (local.set 0 (i32.const 1)))))", 3),
            // The outer one has both, the inner ones one each.
            (
                "(loop (loop (local.set 0 (i32.const 1))) (loop (local.set 0 (i32.const 1))))",
                3,
            ),
            (
                "(loop (local.set 0 (i32.const 1)) (block (loop (local.set 0 (i32.const 1)))))",
                2,
            ),
            (
                "(local.set 0 (i32.const 1)) (loop (drop (local.tee 0 (i32.const 1))))",
                1,
            ),
        ] {
            let costs = costs(&format!("(module (func (local i32 i32) {body}))"));
            assert_eq!(costs[0].1.loop_values, expected, "{body}");
        }
    }

    #[test]
    fn products_do_not_overflow() {
        let most = FunctionCost {
            bytes: u64::MAX,
            locals: u64::MAX / 2,
            branches: u64::MAX,
            targets: u64::MAX,
            calls: u64::MAX,
            operands: u64::MAX,
            selects: u64::MAX,
            sets: u64::MAX,
            block_values: u64::MAX,
            loop_values: u64::MAX,
        };
        assert_eq!((most.steps(), most.cells()), (u64::MAX, u64::MAX));
        assert_eq!(FunctionCost::default().steps(), 0);
    }
}
