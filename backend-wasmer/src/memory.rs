//! Provides the memories and tables of an instance while wasmer makes it.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use engine_core::PAGE;
use engine_core::backend::MemorySource;
use engine_core::memory::{GUARD, RESERVED, Slot};
use wasmer::sys::Tunables;
use wasmer::sys::vm::{
    LinearMemory, MemoryError, MemoryStyle, TableStyle, VMConfig, VMMemory, VMMemoryDefinition,
    VMOwnedMemory, VMTable, VMTableDefinition,
};
use wasmer::{MemoryType, Pages, TableType, WASM_MAX_PAGES};

use crate::shared::Shared;

/// The style of all memories: 4 GiB of address space with a guard region behind it, exactly what a [`Slot`] reserves.
///
/// From wasmer-compiler-cranelift 7.3.0, `bounds_checks.rs`: compiled code does not check an access if
/// `u32::MAX <= bound + guard - (offset + size)`, that is, if the access always ends within bound + guard. It checks all
/// other accesses in full.
pub(crate) const STYLE: MemoryStyle = MemoryStyle::Static {
    bound: Pages(WASM_MAX_PAGES),
    offset_guard_size: GUARD as u64,
};

const _: () = assert!(RESERVED as u64 == WASM_MAX_PAGES as u64 * PAGE);

/// Bytes of a guest's stack, as many as on wasmtime. wasmer allocates stacks for guests, so the size of the calling
/// thread's stack does not matter.
const STACK: usize = 8 << 20;

/// The stack size as wasmer's configuration.
pub(crate) const VM_CONFIG: VMConfig = VMConfig {
    wasm_stack_size: Some(STACK),
};

/// The tunables for compiling: only the styles, which compiled code relies on. It makes no memories or tables.
#[derive(Debug)]
pub(crate) struct Styles;

impl Tunables for Styles {
    fn memory_style(&self, _: &MemoryType) -> MemoryStyle {
        STYLE
    }

    fn table_style(&self, _: &TableType) -> TableStyle {
        TableStyle::CallerChecksSignature
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(unsupported("host memories"))
    }

    unsafe fn create_vm_memory(
        &self,
        _: &MemoryType,
        _: &MemoryStyle,
        _: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        Err(unsupported("instances of the compiling engine"))
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err(unsupported("host tables").to_string())
    }

    unsafe fn create_vm_table(
        &self,
        _: &TableType,
        _: &TableStyle,
        _: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        Err(unsupported("instances of the compiling engine").to_string())
    }
}

/// The tunables for making one instance: it provides the instance's memories and tables. It is dropped when the
/// instance is made.
pub(crate) struct Resources<'a> {
    shared: &'a Arc<Shared>,
    /// The guest's memory; `None`: an instance has it already.
    memory: Cell<Option<MemorySource>>,
    /// How many of the module's memories come before the flag's: none or one.
    guest_memories: usize,
    memories_made: Cell<usize>,
    /// Elements that each growable table may have beyond its minimum.
    table_growth: u32,
}

impl<'a> Resources<'a> {
    /// Divides the table elements that the limit leaves among the tables that can grow, as their maximums, because
    /// wasmer has no hook for the growth of a table. wasmer then refuses a growth beyond the maximum, so such a refusal
    /// is not counted.
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        memory: MemorySource,
        guest_memories: usize,
        tables: Tables,
        elements_left: u64,
    ) -> Self {
        let left = elements_left.saturating_sub(tables.elements);
        let each = left / u64::from(tables.growable.max(1));
        Self {
            shared,
            memory: Cell::new(Some(memory)),
            guest_memories,
            memories_made: Cell::new(0),
            table_growth: u32::try_from(each).unwrap_or(u32::MAX),
        }
    }

    fn guest_memory(
        &self,
        ty: &MemoryType,
        definition: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        let Some(source) = self.memory.take() else {
            return Err(unsupported("a second memory"));
        };
        let minimum = u64::from(ty.minimum.0) * PAGE;
        let (len, bytes) = match source {
            MemorySource::Slot(slot) => (slot.len() as u64, Bytes::Slot(slot)),
            MemorySource::Engine { bytes } => {
                // SAFETY: wasmer calls this with the address of this memory's definition in the instance that it is
                // making.
                let memory = unsafe { VMOwnedMemory::from_definition(ty, &STYLE, definition) }?;
                (bytes.max(minimum), Bytes::Engine(memory))
            }
        };
        if len < minimum || !self.shared.usage(|usage| usage.may_grow_to(len)) {
            return Err(MemoryError::InvalidMemory {
                reason: format!(
                    "the guest's memory would have {len} bytes, which is below the module's minimum or beyond its limit"
                ),
            });
        }
        let mut memory = SandboxMemory {
            bytes,
            definition,
            ty: *ty,
            shared: Arc::clone(self.shared),
        };
        match &mut memory.bytes {
            Bytes::Engine(memory) => drop(memory.grow_at_least(len)?),
            _ => memory.publish(),
        }
        Ok(boxed(memory))
    }
}

impl Tunables for Resources<'_> {
    fn memory_style(&self, _: &MemoryType) -> MemoryStyle {
        STYLE
    }

    fn table_style(&self, _: &TableType) -> TableStyle {
        TableStyle::CallerChecksSignature
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(unsupported("host memories"))
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        definition: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        if *style != STYLE {
            return Err(unsupported("another memory style"));
        }
        let index = self.memories_made.replace(self.memories_made.get() + 1);
        if index < self.guest_memories {
            self.guest_memory(ty, definition)
        } else {
            let mut memory = SandboxMemory {
                bytes: Bytes::Flag,
                definition,
                ty: *ty,
                shared: Arc::clone(self.shared),
            };
            memory.publish();
            Ok(boxed(memory))
        }
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err(unsupported("host tables").to_string())
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        definition: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        if !self
            .shared
            .usage(|usage| usage.may_add_elements(ty.minimum.into()))
        {
            return Err(format!(
                "a table of {} elements exceeds the limit on table elements",
                ty.minimum
            ));
        }
        let mut bounded = *ty;
        let most = ty.minimum.saturating_add(self.table_growth);
        bounded.maximum = Some(ty.maximum.map_or(most, |declared| declared.min(most)));
        // SAFETY: wasmer calls this with the address of this table's definition in the instance that it is making.
        // Compiled code relies on a maximum only if it equals the minimum, and such a maximum does not change here.
        unsafe { VMTable::from_definition(&bounded, style, definition) }
    }
}

/// The numbers about a module's tables that are needed to limit them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tables {
    /// Initial elements of all tables together.
    pub(crate) elements: u64,
    /// The number of tables that can grow.
    pub(crate) growable: u32,
}

impl Tables {
    pub(crate) fn add(&mut self, ty: &TableType) {
        self.elements += u64::from(ty.minimum);
        if ty.maximum != Some(ty.minimum) {
            self.growable += 1;
        }
    }
}

/// A memory of one instance.
#[derive(Debug)]
struct SandboxMemory {
    bytes: Bytes,
    definition: NonNull<VMMemoryDefinition>,
    ty: MemoryType,
    /// The limit and the counts of memory, and the flag, which must live as long as compiled code can read it.
    shared: Arc<Shared>,
}

/// The bytes of a memory.
#[derive(Debug)]
enum Bytes {
    /// The guest's memory, in a slot.
    Slot(Slot),
    /// The guest's memory, allocated by wasmer.
    Engine(VMOwnedMemory),
    /// No bytes. This is the memory for the flag: its base is the address of the flag (see [`crate::poll`]).
    Flag,
}

// SAFETY: the definition is in the instance that this memory belongs to; instance and memory move between threads
// together, inside one sandbox. The slot, wasmer's memory and the flag, which is atomic, are Send.
unsafe impl Send for SandboxMemory {}
// SAFETY: through `&SandboxMemory` one gets only numbers and the value of the pointer; every use of that pointer has
// its own SAFETY comment.
unsafe impl Sync for SandboxMemory {}

impl SandboxMemory {
    /// Writes the base and the length of the memory for compiled code. wasmer does this itself for a memory that it
    /// allocated.
    fn publish(&mut self) {
        let (base, current_length) = match &self.bytes {
            Bytes::Slot(slot) => (slot.base(), slot.len()),
            Bytes::Flag => (self.shared.flag(), 0),
            Bytes::Engine(_) => return,
        };
        // SAFETY: the definition belongs to this memory and is valid as long as its instance; neither wasmer nor this
        // backend keeps a reference to it.
        unsafe {
            self.definition.write(VMMemoryDefinition {
                base,
                current_length,
            });
        }
    }
}

impl LinearMemory for SandboxMemory {
    fn ty(&self) -> MemoryType {
        MemoryType {
            minimum: self.size(),
            ..self.ty
        }
    }

    fn size(&self) -> Pages {
        match &self.bytes {
            Bytes::Slot(slot) => pages(slot.len()),
            Bytes::Engine(memory) => memory.size(),
            Bytes::Flag => Pages(0),
        }
    }

    fn style(&self) -> MemoryStyle {
        STYLE
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let before = self.size();
        let bytes = grown(&self.shared, before, delta, self.ty.maximum)?;
        let done = match &mut self.bytes {
            Bytes::Slot(slot) => slot.grow_to(bytes).is_ok(),
            Bytes::Engine(memory) => memory.grow(delta).is_ok(),
            Bytes::Flag => delta == Pages(0),
        };
        if !done {
            self.shared.usage(|usage| usage.refuse());
            return Err(cannot_grow(before, delta));
        }
        self.publish();
        Ok(before)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.definition
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(unsupported("cloning a sandbox's memory"))
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(unsupported("copying a sandbox's memory"))
    }
}

/// The bytes there are after growing by `delta`, if maximum and limit allow it; a refusal is noted.
fn grown(
    shared: &Shared,
    before: Pages,
    delta: Pages,
    maximum: Option<Pages>,
) -> Result<usize, MemoryError> {
    let most = maximum
        .unwrap_or(Pages::max_value())
        .min(Pages::max_value());
    let after = u64::from(before.0) + u64::from(delta.0);
    let bytes = after * PAGE;
    let allowed = shared.usage(|usage| {
        if after > u64::from(most.0) {
            usage.refuse();
            return false;
        }
        usage.may_grow_to(bytes)
    });
    if !allowed {
        return Err(cannot_grow(before, delta));
    }
    usize::try_from(bytes).map_err(|_| cannot_grow(before, delta))
}

fn cannot_grow(current: Pages, attempted_delta: Pages) -> MemoryError {
    MemoryError::CouldNotGrow {
        current,
        attempted_delta,
    }
}

fn unsupported(what: &str) -> MemoryError {
    MemoryError::UnsupportedOperation {
        message: format!("{what}: a sandbox never needs it"),
    }
}

fn boxed(memory: impl LinearMemory + Sync + 'static) -> VMMemory {
    VMMemory(Box::new(memory))
}

fn pages(bytes: usize) -> Pages {
    Pages(u32::try_from(bytes as u64 / PAGE).unwrap_or(WASM_MAX_PAGES))
}
