//! Measures how much memory slots hold, while sandboxes run in them and afterwards.

use std::sync::Arc;
use std::time::Duration;

use engine_core::Result;

use crate::guests::Guest;
use crate::machine;
use crate::prepared::Prepared;
use crate::subjects::{Kind, Mode, Subject};

/// The number of sandboxes that are measured together, unless the backend keeps fewer slots for a module.
const TOGETHER: usize = 24;

/// When they are measured after their start. Sleepers have dirtied their pages by then, and sleep for as long again.
const MEANWHILE: Duration = Duration::from_millis(350);

/// The anonymous bytes of each measured slot.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The number of slots; or of sandboxes if there are no slots.
    pub count: usize,
    /// Bytes while their sandboxes run. Correct for sleepers only.
    pub busy: u64,
    /// Bytes after their reset.
    pub idle: u64,
}

impl Footprint {
    /// Measures `compiled` in `mode`. The heap must be [kept small](machine::keep_heap_small).
    pub fn of(compiled: &Prepared, kind: Kind, mode: Mode, guest: &Arc<Guest>) -> Result<Self> {
        let count = warm(compiled, kind, mode, guest)?;
        // Load the module again: some backends keep a module's used instances.
        let prepared = compiled.reloaded()?;
        let subject = Subject::deploy(Arc::new(prepared.clone()), kind, mode, guest)?;
        machine::trim();
        // The deployment has tried one sandbox in a slot, which is one of those that are counted below.
        let pool = subject.shared.engine.pool();
        let on_trial = pool.map_or(0, |pool| pool.stats().resident_bytes);
        let before = machine::anonymous().saturating_sub(on_trial);
        let mut busy = 0;
        together(&prepared, &subject, count, || {
            std::thread::sleep(MEANWHILE);
            busy = machine::anonymous();
        });
        machine::trim();
        let idle = machine::anonymous();
        let each = |now: u64| now.saturating_sub(before) / count as u64;
        Ok(Self {
            count,
            busy: each(busy),
            idle: each(idle),
        })
    }
}

/// Makes the callers' thread stacks and arenas resident, and finds out how many slots to measure.
fn warm(compiled: &Prepared, kind: Kind, mode: Mode, guest: &Arc<Guest>) -> Result<usize> {
    let prepared = compiled.reloaded()?;
    let subject = Subject::deploy(Arc::new(prepared.clone()), kind, mode, guest)?;
    together(&prepared, &subject, TOGETHER, || {});
    let pool = subject.shared.engine.pool();
    let waiting = pool.map_or(0, |pool| pool.stats().waiting);
    Ok(match usize::try_from(waiting) {
        // Only the pooled instances are in slots. The memory of further sandboxes would be allocated.
        Ok(waiting) if waiting > 0 && kind == Kind::Wasmi => waiting.min(TOGETHER),
        _ => TOGETHER,
    })
}

/// Runs `count` sandboxes that all exist at the same moment, and `meanwhile` at the same time.
fn together(prepared: &Prepared, subject: &Subject, count: usize, meanwhile: impl FnOnce()) {
    prepared.meet(Some(count));
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| subject.shared.sandbox());
        }
        meanwhile();
    });
    prepared.meet(None);
}
