//! What this machine offers to a pool: processors, memory, mappings and address space that this process may use.

use std::fs;

use super::reservation::{Reservation, page_size, reserve};

/// The number of shards: one for each CPU that a thread can run on, at most 64. More would only make searching them
/// slower.
pub(super) fn shards() -> usize {
    // SAFETY: sysconf takes no pointers and only reads.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(cpus).unwrap_or(1).clamp(1, 64)
}

/// Bytes of memory that this process may use: the machine's, or the limit of its control group, or what is left of its
/// address space.
pub(crate) fn memory() -> usize {
    // SAFETY: sysconf takes no pointers and only reads.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let machine = usize::try_from(pages).map_or(UNKNOWN_MEMORY, |pages| pages * page_size());
    let machine = cgroup_limits().fold(machine, usize::min);
    address_space_left().map_or(machine, |left| machine.min(left))
}

/// The number of mappings that this process may have.
pub(super) fn mappings() -> usize {
    // A system without this file has no such limit.
    read_number("/proc/sys/vm/max_map_count").unwrap_or(usize::MAX)
}

/// Address space for all but slots: code, threads with their stacks, the heap, and whatever else this process does.
pub(crate) const REST: usize = 1 << 30;

/// Bytes of address space that this process may have (`ulimit -v`). `None`: as many as there are.
pub(crate) fn address_space() -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the kernel writes to `limit`, which lives longer than the call.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    let limited = asked == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    limited.then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Bytes that are left of [`address_space`].
pub(crate) fn address_space_left() -> Option<usize> {
    let used = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = used.split(' ').next().and_then(|pages| pages.parse().ok());
    Some(address_space()?.saturating_sub(pages.unwrap_or(0) * page_size()))
}

/// How many slots fit into half of the address space, up to `wanted`. One may take more than half of it.
pub(crate) fn slots_in_address_space(wanted: usize) -> usize {
    if let (Some(limit), Some(left)) = (address_space(), address_space_left()) {
        let one = usize::from(left >= Reservation::BYTES + REST);
        return (limit / 2 / Reservation::BYTES).max(one).min(wanted);
    }
    // The system does not say how many address bits there are, so reserve and see. Twice as much, so that half stays
    // free.
    std::iter::successors(Some(wanted), |slots| Some(slots / 2))
        .find(|&slots| slots == 0 || fits(2 * slots * Reservation::BYTES))
        .unwrap_or(0)
}

fn fits(bytes: usize) -> bool {
    let Ok(at) = reserve(bytes) else {
        return false;
    };
    // SAFETY: unmaps the mapping just made, to which no other code has a pointer.
    unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
    true
}

/// The limits of this process's control group and of those above it, in bytes.
fn cgroup_limits() -> impl Iterator<Item = usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // "0::/path" for version 2, "4:memory:/path" for version 1.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = path.trim_end_matches('/');
        loop {
            limits.extend(read_number(&format!("{root}{group}/{file}")));
            let Some((above, _)) = group.rsplit_once('/') else {
                break;
            };
            group = above;
        }
    }
    limits.into_iter()
}

fn read_number(path: &str) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What we assume of a machine that does not say how much memory it has: 1 GiB.
const UNKNOWN_MEMORY: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_reports_plausible_resources() {
        assert!(shards() > 0);
        assert!(memory() > 16 << 20);
        assert!(mappings() > 1000);
        let slots = slots_in_address_space(100);
        assert!(slots <= 100);
        assert_eq!(slots_in_address_space(0), 0);
        // 2^20 slots are 6 PiB: more than 52 address bits.
        assert!(slots_in_address_space(1 << 20) < 1 << 20);
    }
}
