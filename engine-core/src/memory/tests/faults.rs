//! Makes system calls fail on demand, on the thread of the test that asked for it.

use std::cell::RefCell;
use std::io;

use super::super::reservation::Syscall;

thread_local!(static PLANS: RefCell<Vec<Plan>> = const { RefCell::new(Vec::new()) });

struct Plan {
    syscall: Syscall,
    skip: u32,
    times: u32,
}

/// On this thread, lets the next `skip` calls of `syscall` pass and makes the following `times` calls fail.
pub(in super::super) fn fail(syscall: Syscall, skip: u32, times: u32) {
    PLANS.with_borrow_mut(|plans| {
        plans.retain(|plan| plan.syscall != syscall);
        plans.push(Plan {
            syscall,
            skip,
            times,
        });
    });
}

/// Ends all plans. Panics if a planned failure has not happened.
pub(in super::super) fn all_happened() {
    PLANS.with_borrow_mut(|plans| {
        for plan in plans.drain(..) {
            assert_eq!(plan.times, 0, "{:?} was not called", plan.syscall);
        }
    });
}

/// Called before every system call that can be made to fail.
pub(in super::super) fn check(syscall: Syscall) -> io::Result<()> {
    PLANS.with_borrow_mut(|plans| {
        let Some(plan) = plans.iter_mut().find(|plan| plan.syscall == syscall) else {
            return Ok(());
        };
        if plan.skip > 0 {
            plan.skip -= 1;
        } else if plan.times > 0 {
            plan.times -= 1;
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        Ok(())
    })
}
