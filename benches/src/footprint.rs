//! What slots hold of memory: while sandboxes run in them, and afterwards.

use std::sync::Arc;
use std::time::Duration;

use engine_core::Result;

use crate::guests::Guest;
use crate::machine;
use crate::prepared::Prepared;
use crate::subjects::{Kind, Mode, Subject};

/// Sandboxes that are looked at together, unless the backend keeps fewer slots for a module.
const TOGETHER: usize = 24;

/// How long after they were started. Sleepers have dirtied their pages by then, and sleep for as long again.
const MEANWHILE: Duration = Duration::from_millis(350);

/// Anonymous bytes for each of the slots that were looked at.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// How many slots, or sandboxes where there are none.
    pub count: usize,
    /// While their sandboxes run: right for sleepers only.
    pub busy: u64,
    /// After their reset.
    pub idle: u64,
}

impl Footprint {
    /// That of `compiled` in `mode`. The heap must be [kept small](machine::keep_heap_small).
    pub fn of(compiled: &Prepared, kind: Kind, mode: Mode, guest: &Arc<Guest>) -> Result<Self> {
        let count = warm(compiled, kind, mode, guest)?;
        // A module of its own again: some keep what a sandbox leaves.
        let prepared = compiled.reloaded()?;
        let subject = Subject::deploy(Arc::new(prepared.clone()), kind, mode, guest)?;
        machine::trim();
        // Deploying it took a slot on trial, which is one of those that are counted below.
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

/// Brings the thread stacks and arenas that come with the callers, and finds out how many slots to look at.
fn warm(compiled: &Prepared, kind: Kind, mode: Mode, guest: &Arc<Guest>) -> Result<usize> {
    let prepared = compiled.reloaded()?;
    let subject = Subject::deploy(Arc::new(prepared.clone()), kind, mode, guest)?;
    together(&prepared, &subject, TOGETHER, || {});
    let pool = subject.shared.engine.pool();
    let waiting = pool.map_or(0, |pool| pool.stats().waiting);
    Ok(match usize::try_from(waiting) {
        // Only its kept instances are in slots: more sandboxes at once would have memory of their own.
        Ok(waiting) if waiting > 0 && kind == Kind::Wasmi => waiting.min(TOGETHER),
        _ => TOGETHER,
    })
}

/// Runs `count` sandboxes that all exist at one moment, and `meanwhile` beside them.
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
