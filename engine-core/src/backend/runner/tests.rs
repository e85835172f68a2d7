//! Tests of the runner with instances in plain Rust: which methods it calls, in which order, and when instances are
//! reused.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::ErrorKind;
use crate::calls::{Calls, Interrupt, Interruption};
use crate::memory::{Image, Pool, PoolConfig, Slot};
use crate::outcome::{Trap, TrapCode};
use crate::sandbox::{Buffers, HostState, Stop};
use crate::start::{Patch, StartState};

const PAGE: usize = 65_536;

/// What a guest does at an entry.
type Guest = fn(&mut Scripted, &str) -> Step;

/// A module whose instances run `guest`. `SLOTS`: whether a slot is worth its cost for one sandbox.
struct Code<const SLOTS: bool> {
    guest: Guest,
    made: AtomicU32,
    made_in_slots: AtomicU32,
    refuses_slots: AtomicBool,
    interrupts: Arc<Interrupts>,
}

#[derive(Default)]
struct Interrupts(AtomicU32);

impl Interrupt for Interrupts {
    fn interrupt(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An instance with one global `g`, which is 1 at first, and five elements in its tables.
struct Scripted {
    guest: Guest,
    slot: Option<Slot>,
    bytes: Vec<u8>,
    global: i32,
    host: Option<Box<HostState>>,
    meter: Meter,
    interrupt: Arc<dyn Interrupt>,
    entered: Vec<String>,
    resets: bool,
}

impl<const SLOTS: bool> Instantiate for Arc<Code<SLOTS>> {
    type Instance = OfCode<SLOTS>;
    const SLOT_FOR_ONE_SANDBOX: bool = SLOTS;

    fn make(&self, memory: MemorySource, mut meter: Meter) -> Result<Self::Instance> {
        self.made.fetch_add(1, Ordering::SeqCst);
        assert!(meter.may_add_elements(5));
        meter.made();
        let (slot, bytes) = match memory {
            MemorySource::Slot(_) if self.refuses_slots.load(Ordering::SeqCst) => {
                return Err(Error::host("no slot, please"));
            }
            MemorySource::Slot(slot) => {
                self.made_in_slots.fetch_add(1, Ordering::SeqCst);
                (Some(slot), Vec::new())
            }
            MemorySource::Engine { bytes } => (None, vec![0; bytes as usize]),
        };
        Ok(OfCode(Scripted {
            guest: self.guest,
            slot,
            bytes,
            global: 1,
            host: None,
            meter,
            interrupt: Arc::clone(&self.interrupts) as Arc<dyn Interrupt>,
            entered: Vec::new(),
            resets: true,
        }))
    }
}

struct OfCode<const SLOTS: bool>(Scripted);

impl<const SLOTS: bool> Instance for OfCode<SLOTS> {
    type Module = Arc<Code<SLOTS>>;
    type Global = ();

    fn memory(&mut self) -> &mut [u8] {
        self.0.memory()
    }

    fn find_global(&mut self, _: &Self::Module, name: &str) -> Option<()> {
        (name == "g").then_some(())
    }

    fn global(&mut self, (): &()) -> Option<GlobalValue> {
        Some(GlobalValue::I32(self.0.global))
    }

    fn set_global(&mut self, (): &(), value: GlobalValue) -> Result<()> {
        let GlobalValue::I32(value) = value else {
            return Err(Error::host("it is an i32"));
        };
        self.0.global = value;
        Ok(())
    }

    fn interrupt<'a>(&'a mut self, _: &'a Self::Module) -> Option<&'a Arc<dyn Interrupt>> {
        assert!(self.0.host.is_none(), "before the host state");
        Some(&self.0.interrupt)
    }

    fn put(&mut self, host: Box<HostState>) {
        self.0.host = Some(host);
    }

    fn take(&mut self) -> Option<Box<HostState>> {
        self.0.host.take()
    }

    fn enter(&mut self, _: &Self::Module, entry: &str) -> Step {
        self.0.entered.push(entry.to_owned());
        (self.0.guest)(&mut self.0, entry)
    }

    fn used(&self) -> MemoryUse {
        self.0.meter.used()
    }

    fn globals(&mut self, _: &Self::Module) -> Vec<()> {
        vec![()]
    }

    fn reset(&mut self) -> Result<()> {
        let slot = self
            .0
            .slot
            .take()
            .expect("only what is in a slot is used again");
        let slot = self.0.slot.insert(slot.reset()?);
        slot.set_waiting(true);
        if self.0.resets {
            Ok(())
        } else {
            Err(Error::host("not this one"))
        }
    }

    fn begin(&mut self, used: MemoryUse) {
        self.0.meter.begin(used);
        if let Some(slot) = &mut self.0.slot {
            slot.set_waiting(false);
        }
    }
}

impl Scripted {
    fn memory(&mut self) -> &mut [u8] {
        match &self.slot {
            None => &mut self.bytes,
            // SAFETY: these bytes are accessible and belong to the slot, which is borrowed with `self`.
            Some(slot) => unsafe { std::slice::from_raw_parts_mut(slot.base(), slot.len()) },
        }
    }

    fn stop(&mut self, why: Stop) -> Step {
        self.host.as_mut().expect("it runs").stop(why);
        Step::Stopped
    }
}

/// A runner of `guest`, with room in its pool for `pooled` instances.
fn runner<const SLOTS: bool>(
    guest: Guest,
    pooled: usize,
) -> (Runner<Arc<Code<SLOTS>>>, Arc<Code<SLOTS>>) {
    let code = Arc::new(Code {
        guest,
        made: AtomicU32::new(0),
        made_in_slots: AtomicU32::new(0),
        refuses_slots: AtomicBool::new(false),
        interrupts: Arc::default(),
    });
    let module = Arc::clone(&code);
    let runner = match pooled {
        0 => Runner::new(module),
        most => Runner::with_pool(module, most, &InstanceBudget::new(most)),
    };
    (runner, code)
}

/// A start with a page of memory that begins with "image".
fn state() -> StartState {
    let image = Image::new(PAGE as u64, &[(0, b"image")]).unwrap();
    StartState {
        image: Some(Arc::new(image)),
        is_restorable: true,
        ..StartState::default()
    }
}

fn finished(progress: Progress) -> Finished {
    match progress {
        Progress::Finished(finished) => finished,
        Progress::Waiting(_) => panic!("the guest waits"),
    }
}

struct Lab {
    calls: Calls,
    pool: Pool,
    point: Arc<StartState>,
}

impl Lab {
    fn new(state: StartState) -> Self {
        Self {
            calls: Calls::new(8).unwrap(),
            pool: Pool::new(PoolConfig::default()).unwrap(),
            point: Arc::new(state),
        }
    }

    fn job(&self, capture: Option<&str>) -> Job {
        let call = self.calls.reserve().unwrap().begin(Duration::from_secs(60));
        let contract = crate::contract::default();
        let (program, buffers, limits) =
            (Arc::default(), Buffers::default(), SandboxLimits::default());
        Job {
            entries: ["first", "second"].map(String::from).into(),
            host: Box::new(HostState::new(
                call, program, None, contract, buffers, &limits,
            )),
            capture: capture.map(|name| [name.to_owned()].into()),
        }
    }

    /// Runs one sandbox, in a slot if its backend uses one.
    fn run(&self, module: &dyn Module, capture: Option<&str>) -> Finished {
        let slots =
            |image: &Arc<Image>| self.pool.slot(image, SandboxLimits::default().memory).ok();
        let start = Start::new(Arc::clone(&self.point), Some(&slots));
        let mut sandbox = module
            .instantiate(start, &SandboxLimits::default())
            .unwrap();
        finished(sandbox.run(self.job(capture)))
    }

    fn run_without_slot(&self, module: &dyn Module, capture: Option<&str>) -> Finished {
        let start = Start::new(Arc::clone(&self.point), None);
        let mut sandbox = module
            .instantiate(start, &SandboxLimits::default())
            .unwrap();
        finished(sandbox.run(self.job(capture)))
    }
}

fn trap(finished: &Finished) -> &Trap {
    match &finished.exit {
        GuestExit::Trap(trap) => trap,
        GuestExit::Exit(code) => panic!("exit code {code}"),
    }
}

#[test]
fn a_new_instance_has_the_image_the_globals_and_the_patches() {
    let lab = Lab::new(StartState {
        globals: vec![("g".into(), GlobalValue::I32(7))],
        patches: vec![Patch::Bytes {
            at: 1,
            bytes: Box::new(*b"MA"),
        }],
        ..state()
    });
    let (runner, code) = runner::<true>(|_, _| Step::Returned, 0);
    for finished in [
        lab.run(&runner, Some("g")),
        lab.run_without_slot(&runner, Some("g")),
    ] {
        assert_eq!(finished.exit, GuestExit::Exit(0));
        let captured = finished.captured.unwrap();
        assert_eq!(captured.memory.len(), PAGE);
        assert_eq!(&captured.memory[..6], b"iMAge\0");
        assert_eq!(captured.globals, [("g".to_owned(), GlobalValue::I32(7))]);
        assert_eq!(finished.host.memory.peak(), PAGE as u64);
    }
    assert_eq!(code.made_in_slots.load(Ordering::SeqCst), 1);
    assert_eq!(lab.pool.stats().busy, 0);
}

#[test]
fn a_start_that_does_not_fit_is_refused_with_a_reason() {
    for (name, value, words) in [
        (
            "missing",
            GlobalValue::I32(1),
            "the global missing of a new sandbox cannot be set",
        ),
        ("g", GlobalValue::I64(1), "it is an i32"),
    ] {
        let lab = Lab::new(StartState {
            globals: vec![(name.into(), value)],
            ..state()
        });
        let (runner, _) = runner::<true>(|_, _| Step::Returned, 0);
        let start = Start::new(Arc::clone(&lab.point), None);
        let refused = runner
            .instantiate(start, &SandboxLimits::default())
            .err()
            .unwrap();
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let (runner, code) = runner::<true>(|_, _| Step::Returned, 2);
    let limits = SandboxLimits {
        memory: PAGE as u64 - 1,
        ..SandboxLimits::default()
    };
    let start = Start::from(state());
    let refused = runner.instantiate(start, &limits).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.to_string().contains("65536 bytes"), "{refused}");
    assert_eq!(code.made.load(Ordering::SeqCst), 0);
}

fn unreachable() -> Trap {
    Trap::new(TrapCode::Unreachable, "here")
}

#[test]
fn a_job_ends_with_the_first_entry_that_does_not_return() {
    let guest: Guest = |instance, entry| match entry {
        "second" => instance.stop(Stop::Exit(instance.entered.len() as i32)),
        _ => Step::Returned,
    };
    let lab = Lab::new(state());
    let finished = lab.run(&runner::<true>(guest, 0).0, None);
    assert_eq!(finished.exit, GuestExit::Exit(2));
    let finished = lab.run(
        &runner::<true>(|i, _| i.stop(Stop::Exit(i.entered.len() as i32)), 0).0,
        None,
    );
    assert_eq!(finished.exit, GuestExit::Exit(1));
    let finished = lab.run(
        &runner::<true>(|_, _| Step::Trapped(unreachable()), 0).0,
        None,
    );
    assert_eq!(*trap(&finished), unreachable());
}

#[test]
fn a_panic_and_a_stop_without_a_reason_are_the_hosts_fault() {
    let lab = Lab::new(state());
    for (guest, words) in [
        ((|_, _| panic!("oh no")) as Guest, "oh no"),
        (|_, _| Step::Stopped, "no reason"),
        (|_, _| Step::fault("no stack".into()), "no stack"),
    ] {
        let finished = lab.run(&runner::<true>(guest, 0).0, Some("g"));
        let trap = trap(&finished);
        assert_eq!(trap.code, TrapCode::Host);
        assert!(trap.detail.contains(words), "{trap}");
        assert!(finished.captured.is_some());
    }
}

/// Returns whether memory and the global are as at the start, and changes both.
fn spoil(instance: &mut Scripted) -> bool {
    let memory = instance.memory();
    let is_pristine = &memory[..5] == b"image" && memory[5..].iter().all(|&byte| byte == 0);
    memory.fill(0xa5);
    std::mem::replace(&mut instance.global, -1) == 7 && is_pristine
}

#[test]
fn a_reused_instance_finds_nothing_of_the_last_sandbox() {
    let guest: Guest = |instance, _| match spoil(instance) {
        true => instance.stop(Stop::Exit(3)),
        false => instance.stop(Stop::Exit(99)),
    };
    let lab = Lab::new(StartState {
        globals: vec![("g".into(), GlobalValue::I32(7))],
        ..state()
    });
    let (runner, code) = runner::<true>(guest, 2);
    for _ in 0..5 {
        let finished = lab.run(&runner, None);
        assert_eq!(finished.exit, GuestExit::Exit(3));
        assert_eq!(finished.host.memory.table_elements(), 5);
        assert_eq!((lab.pool.stats().busy, lab.pool.stats().waiting), (0, 1));
    }
    assert_eq!(code.made.load(Ordering::SeqCst), 1);
    // Too little for its tables: another is made, and the one that waits stays.
    let limits = SandboxLimits {
        table_elements: 4,
        ..SandboxLimits::default()
    };
    let start = Start::new(Arc::clone(&lab.point), None);
    let made = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runner.instantiate(start, &limits).is_ok()
    }));
    assert!(
        made.is_err(),
        "the scripted engine asserts that its tables fit"
    );
    assert_eq!(lab.pool.stats().waiting, 1);
    drop(runner);
    assert_eq!((lab.pool.stats().busy, lab.pool.stats().waiting), (0, 0));
}

#[test]
fn an_instance_is_kept_after_a_return_and_an_exit_only() {
    for (guest, kept) in [
        ((|_, _| Step::Returned) as Guest, 1),
        (|instance, _| instance.stop(Stop::Exit(0)), 1),
        (|instance, _| instance.stop(Stop::Exit(9)), 1),
        (|instance, _| instance.stop(Stop::OutputLimit), 0),
        (
            |instance, _| instance.stop(Stop::Interrupted(Interruption::Deadline)),
            0,
        ),
        (|_, _| Step::Trapped(unreachable()), 0),
        // The host has recorded an exit, and then something else failed.
        (
            |instance, _| {
                instance.stop(Stop::Exit(0));
                Step::fault("no stack".into())
            },
            0,
        ),
        (
            |instance, _| {
                instance.stop(Stop::Exit(0));
                panic!("after the exit")
            },
            0,
        ),
        (
            |instance, _| {
                instance.resets = false;
                Step::Returned
            },
            0,
        ),
    ] {
        let lab = Lab::new(state());
        let (runner, _) = runner::<true>(guest, 2);
        lab.run(&runner, None);
        let stats = lab.pool.stats();
        assert_eq!((stats.busy, stats.waiting), (0, kept));
    }
}

#[test]
fn instances_of_a_start_that_is_not_restorable_are_never_reused() {
    let lab = Lab::new(StartState {
        is_restorable: false,
        ..state()
    });
    let (runner, code) = runner::<true>(|_, _| Step::Returned, 2);
    for _ in 0..3 {
        lab.run(&runner, None);
    }
    assert_eq!(code.made.load(Ordering::SeqCst), 3);
    assert_eq!(lab.pool.stats().waiting, 0);
}

#[test]
fn only_reusable_instances_get_a_slot_if_slots_are_expensive() {
    let lab = Lab::new(state());
    let (once, code) = runner::<false>(|_, _| Step::Returned, 0);
    assert_eq!(lab.run(&once, None).exit, GuestExit::Exit(0));
    assert_eq!(code.made_in_slots.load(Ordering::SeqCst), 0);

    let trapping: Guest = |_, _| Step::Trapped(unreachable());
    let (runner, code) = runner::<false>(trapping, 2);
    for _ in 0..8 {
        lab.run(&runner, None);
    }
    // After each loss some sandboxes get no slot: one, then three, then seven.
    assert_eq!(code.made.load(Ordering::SeqCst), 8);
    assert!(code.made_in_slots.load(Ordering::SeqCst) < 8);
}

#[test]
fn an_instance_that_cannot_be_made_in_a_slot_is_made_without() {
    let lab = Lab::new(state());
    let guest: Guest = |instance, _| {
        let is_image = &instance.memory()[..5] == b"image";
        instance.stop(Stop::Exit(i32::from(!is_image)))
    };
    let (runner, code) = runner::<true>(guest, 2);
    code.refuses_slots.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(lab.run(&runner, None).exit, GuestExit::Exit(0));
    }
    assert_eq!(code.made.load(Ordering::SeqCst), 6);
    assert_eq!(lab.pool.stats().busy, 0);
}

#[test]
fn an_interruption_reaches_the_guest_while_it_runs_and_not_afterwards() {
    let lab = Lab::new(state());
    let (runner, code) = runner::<true>(|_, _| Step::Returned, 0);
    let permit = lab.calls.reserve().unwrap();
    let id = permit.id();
    assert!(lab.calls.cancel(id));
    let mut job = Lab::new(state()).job(None);
    let (program, buffers, limits) = (Arc::default(), Buffers::default(), SandboxLimits::default());
    let call = permit.begin(Duration::from_secs(60));
    let contract = crate::contract::default();
    job.host = Box::new(HostState::new(
        call, program, None, contract, buffers, &limits,
    ));
    let start = Start::new(Arc::clone(&lab.point), None);
    let finished = finished(runner.instantiate(start, &limits).unwrap().run(job));
    assert_eq!(
        code.interrupts.0.load(Ordering::SeqCst),
        1,
        "when it was armed"
    );
    assert_eq!(
        finished.host.call().interruption(),
        Some(Interruption::Cancelled)
    );
    lab.calls.cancel(id);
    assert_eq!(code.interrupts.0.load(Ordering::SeqCst), 1);
}
