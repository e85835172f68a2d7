//! What a program asked of the host before its state was captured: whatever it got then would be frozen for all requests.

/// Counts kept during a step of a run-up, and during no request.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Whether the program is to tidy up before it reads its next request.
    pub(crate) tidy: bool,
    /// Bytes of each `random_get`.
    pub(crate) random: Vec<u32>,
    /// Each reading of the realtime clock, in nanoseconds since 1970.
    pub(crate) realtime: Vec<u64>,
    /// The smallest reading of the monotonic clock, in nanoseconds.
    pub(crate) first_monotonic: Option<u64>,
    /// Operations on files, folders and sockets, beyond asking which folders there are.
    pub(crate) files: u32,
    /// The first of them.
    pub(crate) first_file: Option<&'static str>,
    /// Whether the program said by `gojinn.ready` that it may be warmed up.
    pub(crate) ready: bool,
}

/// Entries of a list; a guest that asks more often has asked too often already.
const MOST: usize = 4096;

impl Observed {
    /// No counts yet.
    pub(crate) fn new(tidy: bool) -> Self {
        Self {
            tidy,
            ..Self::default()
        }
    }

    pub(crate) fn random(&mut self, bytes: u32) {
        if self.random.len() < MOST {
            self.random.push(bytes);
        }
    }

    pub(crate) fn realtime(&mut self, nanos: u64) {
        if self.realtime.len() < MOST {
            self.realtime.push(nanos);
        }
    }

    pub(crate) fn monotonic(&mut self, nanos: u64) {
        let first = self.first_monotonic.get_or_insert(nanos);
        *first = nanos.min(*first);
    }

    pub(crate) fn file(&mut self, name: &'static str) {
        // Which folders there are is part of the function's configuration, and so of what its snapshot is made for.
        if matches!(
            name,
            "fd_prestat_get" | "fd_prestat_dir_name" | "fd_fdstat_get"
        ) {
            return;
        }
        self.files = self.files.saturating_add(1);
        self.first_file.get_or_insert(name);
    }
}
