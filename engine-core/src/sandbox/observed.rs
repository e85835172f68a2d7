//! What a program asked of the host before its state was captured: whatever it got then would be frozen for all requests.

use super::world::WorldState;

/// Kept during a recorded run, and during no request.
#[derive(Debug)]
pub(crate) struct Observed {
    /// The entropy and the clocks of the run.
    pub(crate) world: WorldState,
    /// Whether the program is to tidy up before it reads its next request.
    pub(crate) tidy: bool,
    pub(crate) asked: Asked,
}

/// What a program asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Bytes of each `random_get`.
    pub(crate) random: Vec<u32>,
    /// Each reading of the realtime clock, in nanoseconds since 1970.
    pub(crate) realtime: Vec<u64>,
    /// How often it read the monotonic clock.
    pub(crate) monotonic: u64,
    /// Operations on files, directories and sockets, beyond asking which directories there are.
    pub(crate) files: u32,
    /// The first of them.
    pub(crate) first_file: Option<&'static str>,
    /// Operations of `gojinn.call` that the host does.
    pub(crate) calls: u32,
    /// Whether the program said by `gojinn.ready` that it may be warmed up.
    pub(crate) ready: bool,
}

/// Entries of a list; a guest that asks more often has asked too often already.
const MOST: usize = 4096;

impl Observed {
    /// Nothing asked yet.
    pub(crate) fn new(world: WorldState, tidy: bool) -> Self {
        Self {
            world,
            tidy,
            asked: Asked::default(),
        }
    }

    /// Notes a call of `random_get`, whose bytes then come from [`WorldState::fill`].
    pub(crate) fn random(&mut self, bytes: u32) {
        self.world.ask();
        if self.asked.random.len() < MOST {
            self.asked.random.push(bytes);
        }
    }

    /// A reading of the realtime clock.
    pub(crate) fn realtime(&mut self) -> u64 {
        self.world.ask();
        let nanos = self.world.realtime();
        if self.asked.realtime.len() < MOST {
            self.asked.realtime.push(nanos);
        }
        nanos
    }

    /// A reading of the monotonic clock.
    pub(crate) fn monotonic(&mut self) -> u64 {
        self.world.ask();
        self.asked.monotonic += 1;
        self.world.monotonic()
    }

    /// Notes an operation of `gojinn.call` that the host does.
    pub(crate) fn call(&mut self) {
        self.asked.calls = self.asked.calls.saturating_add(1);
    }

    pub(crate) fn file(&mut self, name: &'static str) {
        // Which directories there are is part of the function's configuration, and so of what its snapshot is made for.
        if matches!(
            name,
            "fd_prestat_get" | "fd_prestat_dir_name" | "fd_fdstat_get"
        ) {
            return;
        }
        self.asked.files = self.asked.files.saturating_add(1);
        self.asked.first_file.get_or_insert(name);
    }
}

impl Asked {
    /// Both together: `other` came after.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.random.extend(&other.random);
        self.realtime.extend(&other.realtime);
        self.monotonic += other.monotonic;
        self.files = self.files.saturating_add(other.files);
        self.first_file = self.first_file.or(other.first_file);
        self.calls = self.calls.saturating_add(other.calls);
        self.ready |= other.ready;
        self
    }
}
