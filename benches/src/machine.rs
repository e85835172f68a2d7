//! Facts about the machine, and how much of it this process uses.

use std::fs;
use std::time::Duration;

/// CPU time of the calling thread.
#[must_use]
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to `time`, which lives longer than the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Makes sleeps of the calling thread exact. By default they can take up to 50 µs longer.
pub fn wake_on_time() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes no pointers; sets a number of the calling thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
    }
}

/// One line about the processor, the kernel and the versions.
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

/// The number of cores that this process may use.
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

/// What this process holds at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Resident bytes. Of memory that is shared with other processes, this process's share.
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
            // One of them is the directory that is being read.
            descriptors: entries("/proc/self/fd").saturating_sub(1),
            mappings: fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count()),
            threads: entries("/proc/self/task"),
        }
    }
}

/// Resident bytes of this process. A page that several mappings share counts once.
#[must_use]
pub fn resident() -> u64 {
    rollup("Pss:")
}

/// Resident bytes of this process that are in no file. An image, which slots share until they write to it, is in a file.
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

/// Makes the allocator give large freed blocks back to the system from now on. By default it keeps up to 32 MiB at the
/// end of each thread's arena, which [`trim`] does not free: a guest's memory would then still be counted after the
/// guest has ended, and reused memory would not be counted while the next guest runs.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes no pointers and may be called from any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Gives freed memory back to the system, so that all resident memory is in use.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes no pointers and may be called from any thread.
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
