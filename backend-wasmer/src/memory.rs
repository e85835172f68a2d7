//! Linear memories and tables of one sandbox, as wasmer asks for them while it makes an instance.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use engine_core::backend::MemorySource;
use engine_core::memory::{GUARD, RESERVED, Slot};
use engine_core::{MemoryUse, PAGE};
use wasmer::sys::Tunables;
use wasmer::sys::vm::{
    LinearMemory, MemoryError, MemoryStyle, TableStyle, VMConfig, VMMemory, VMMemoryDefinition,
    VMOwnedMemory, VMTable, VMTableDefinition,
};
use wasmer::{MemoryType, Pages, TableType, WASM_MAX_PAGES};

use crate::shared::Shared;

/// The one style there is: 4 GiB of address space and a guard behind it, exactly what a [`Slot`] reserves.
///
/// Read in wasmer-compiler-cranelift 7.3.0, `bounds_checks.rs`: an access is not checked where
/// `u32::MAX <= bound + guard - (offset + size)`, that is, it ends within bound + guard; others are checked in full.
pub(crate) const STYLE: MemoryStyle = MemoryStyle::Static {
    bound: Pages(WASM_MAX_PAGES),
    offset_guard_size: GUARD as u64,
};

const _: () = assert!(RESERVED as u64 == WASM_MAX_PAGES as u64 * PAGE);

/// Guests' stack: wasmer runs them on stacks of its own, so that the size of the calling thread's does not matter.
const STACK: usize = 1 << 20;

/// The stack size in wasmer's words.
pub(crate) const VM_CONFIG: VMConfig = VMConfig {
    wasm_stack_size: Some(STACK),
};

/// What compiled code relies on, and no more: for compiling.
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

/// Memory and tables for exactly one instance: made on the stack, asked, and dropped.
pub(crate) struct Resources<'a> {
    shared: &'a Arc<Shared>,
    /// `None`: taken already.
    memory: Cell<Option<MemorySource>>,
    /// How many of the module's memories come before the flag's: none or one.
    guest_memories: usize,
    memories_made: Cell<usize>,
    /// Elements that each growable table may have beyond its minimum.
    table_growth: u32,
}

impl<'a> Resources<'a> {
    /// wasmer has no hook in the growth of a table, so what the limit leaves is divided among the tables that can grow,
    /// and becomes their maximum; a refused growth is then wasmer's, and not counted.
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        memory: MemorySource,
        guest_memories: usize,
        tables: Tables,
        used: &MemoryUse,
    ) -> Self {
        let left = used.table_elements_left().saturating_sub(tables.elements);
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
                // SAFETY: wasmer asks with the place of this memory's definition in the instance that it is making.
                let memory = unsafe { VMOwnedMemory::from_definition(ty, &STYLE, definition) }?;
                (bytes.max(minimum), Bytes::Engine(memory))
            }
        };
        if len < minimum || !self.shared.usage(|usage| usage.may_grow_to(len)) {
            return Err(MemoryError::InvalidMemory {
                reason: format!("{len} bytes of memory do not fit the module or its limit"),
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
                "a table of {} elements exceeds the limit",
                ty.minimum
            ));
        }
        let mut bounded = *ty;
        let most = ty.minimum.saturating_add(self.table_growth);
        bounded.maximum = Some(ty.maximum.map_or(most, |declared| declared.min(most)));
        // SAFETY: wasmer asks with the place of this table's definition in the instance that it is making. Compiled code
        // knows a maximum only where it equals the minimum, and that is not changed here.
        unsafe { VMTable::from_definition(&bounded, style, definition) }
    }
}

/// The tables of a module, as far as their bound needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tables {
    /// Initial elements of all of them.
    pub(crate) elements: u64,
    /// How many can grow.
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
    /// Bound and figures; and the flag, which lives as long as code can read it.
    shared: Arc<Shared>,
}

/// What a memory consists of.
#[derive(Debug)]
enum Bytes {
    /// The guest's, in a slot.
    Slot(Slot),
    /// The guest's, made by wasmer.
    Engine(VMOwnedMemory),
    /// No byte: its base is the flag (see [`crate::poll`]).
    Flag,
}

// SAFETY: the definition lies in the instance that this memory belongs to; instance and memory move between threads
// together, inside one sandbox. Slot, wasmer's memory and the flag, which is atomic, are Send.
unsafe impl Send for SandboxMemory {}
// SAFETY: `&SandboxMemory` gives out numbers and the pointer's value only; a use of that pointer has its own proof.
unsafe impl Sync for SandboxMemory {}

impl SandboxMemory {
    /// Tells compiled code where the memory is and how long. wasmer does that itself for what it has made.
    fn publish(&mut self) {
        let (base, current_length) = match &self.bytes {
            Bytes::Slot(slot) => (slot.base(), slot.len()),
            Bytes::Flag => (self.shared.flag(), 0),
            Bytes::Engine(_) => return,
        };
        // SAFETY: the place was given for this memory and stays valid as long as its instance; no reference to it is kept
        // by wasmer or by us.
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
