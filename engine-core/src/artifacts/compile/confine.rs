//! Confines the process that compiles, before it reads a module: closes files, sets limits, and ties its life to its
//! parent's.

use std::io;

use super::wire::Order;

/// Closes all files but the first three. The process has inherited the files of the engine's process that were not marked
/// as close-on-exec.
pub(super) fn close_other_files() {
    #[cfg(target_os = "linux")]
    // SAFETY: this is called before the process has opened a file, so no value here owns a descriptor from 3 on.
    // Kernels before 5.9 do not have this call; files marked as close-on-exec are closed there too.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
    }
}

/// Makes the kernel kill this process when the thread that started it ends. Fails if `parent` has ended already.
pub(super) fn die_with_parent(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: sets an attribute of this process; no memory is involved.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::other("the engine's process has ended"));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}

/// Sets the limits of an order, and gives up rights that compiling does not need.
pub(super) fn limit(order: &Order) -> io::Result<()> {
    // This limit does not count address space that is only reserved, such as stacks and arenas.
    set(libc::RLIMIT_DATA, order.memory, 0)?;
    // At the first limit the kernel sends SIGXCPU, from which the engine knows what happened; at the second it kills.
    set(libc::RLIMIT_CPU, order.cpu_seconds, 1)?;
    // The reply is a file.
    set(libc::RLIMIT_FSIZE, order.memory, 0)?;
    // No core dumps: a process that a module crashes says why in one line, and a dump would take as much disk space as
    // the process had memory.
    set(libc::RLIMIT_CORE, 0, 0)?;
    #[cfg(target_os = "linux")]
    {
        // SAFETY: sets an attribute of this process; no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // When the machine runs out of memory, the kernel should kill this process first. Where writing this is
        // forbidden, the process is as likely to be killed as others.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    std::env::set_current_dir("/")
}

/// Lowers the soft limit to `value` and the hard limit to `value + beyond`. Limits that are lower already do not change.
fn set(resource: Resource, value: u64, beyond: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes to `limit`, which outlives the call.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_cur.min(value);
    limit.rlim_max = limit.rlim_max.min(value.saturating_add(beyond));
    // SAFETY: the kernel reads `limit`, which outlives the call.
    if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;
