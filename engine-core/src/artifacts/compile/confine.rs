//! What a process that compiles takes from itself before it looks at a module.

use std::io;

use super::wire::Order;

/// Closes everything but the first three files: what the engine's process had open, where it was not marked as its own.
pub(super) fn close_other_files() {
    #[cfg(target_os = "linux")]
    // SAFETY: to be called before the process has opened anything, so no descriptor from 3 on is anybody's here. Kernels before
    // 5.9 refuse it; what is marked as it should be is closed there too.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
    }
}

/// Has the kernel kill this process when the thread that started it ends. An error if `parent` has ended already.
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

/// Sets the limits of an order, and gives up what compiling does not need.
pub(super) fn limit(order: &Order) -> io::Result<()> {
    // Memory that is only reserved does not count, so that stacks and arenas do not use it up.
    set(libc::RLIMIT_DATA, order.memory, 0)?;
    // The signal comes at the first limit and says what happened; at the second the kernel kills.
    set(libc::RLIMIT_CPU, order.cpu_seconds, 1)?;
    // The reply is a file.
    set(libc::RLIMIT_FSIZE, order.memory, 0)?;
    // A process that dies over a module says why in a line; a dump would take as much disk as it had memory.
    set(libc::RLIMIT_CORE, 0, 0)?;
    #[cfg(target_os = "linux")]
    {
        // SAFETY: sets an attribute of this process; no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // Where the machine runs out of memory, this process goes first. It may be forbidden, and then is as likely as any other.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    std::env::set_current_dir("/")
}

/// Lowers a limit, the hard one to `beyond` more; one that is lower already stays.
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
