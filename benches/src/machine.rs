//! What the machine is, and what this process uses of it.

use std::fs;
use std::time::Duration;

/// CPU time of the calling thread.
#[must_use]
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to, and lives as long as the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Lets the calling thread sleep as long as it says, and not up to 50 µs longer.
pub fn wake_on_time() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a number of the calling thread's.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
    }
}

/// One line about processor, kernel and versions.
#[must_use]
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_matches([' ', '\t', ':'])
        });
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{} cores ({model}), Linux {kernel}, wasmtime 48.0.8, wasmer 7.3.0 (cranelift), wasmi 2.0.0, gojinn {}",
        cores(),
        env!("CARGO_PKG_VERSION")
    )
}

/// Cores this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Load averages of 1, 5 and 15 minutes.
#[must_use]
pub fn load() -> String {
    read("/proc/loadavg")
        .split(' ')
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What this process holds right now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Resident bytes, of what is shared its share.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Memory mappings.
    pub mappings: usize,
    /// Threads.
    pub threads: usize,
}

impl Held {
    /// Reads it from `/proc`.
    #[must_use]
    pub fn now() -> Self {
        let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        Self {
            resident: resident(),
            // One of them is the folder being read.
            descriptors: entries("/proc/self/fd").saturating_sub(1),
            mappings: fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count()),
            threads: entries("/proc/self/task"),
        }
    }
}

/// Resident bytes of this process; of pages that several mappings share, this counts each once.
#[must_use]
pub fn resident() -> u64 {
    rollup("Pss:")
}

/// Resident bytes that are this process's own and in no file. An image, which slots share until they write, is in one.
#[must_use]
pub fn anonymous() -> u64 {
    rollup("Anonymous:")
}

fn rollup(field: &str) -> u64 {
    fs::read_to_string("/proc/self/smaps_rollup")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .unwrap_or_default()
        * 1024
}

/// From now on, large pieces of heap go back to the system when they are freed. Left alone, the allocator keeps up to 32 MiB of
/// what was freed at the end of each thread's arena, where [`trim`] does not reach: a guest's memory would be found there
/// when it is gone, and missing where it is measured.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread; both are parameters that it knows.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Gives freed memory back to the system, so that what is resident is in use.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_string()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_something() {
        let files: Vec<_> = (0..40)
            .map(|_| fs::File::open("/proc/self/maps").unwrap())
            .collect();
        let held = Held::now();
        assert!(held.resident > 0 && held.mappings > 0 && held.threads > 0);
        assert!(held.descriptors >= files.len());
    }
}
