//! What the client gets for the way in which a guest has ended.

use std::borrow::Cow;

use crate::contract::http_wasm::Exchange;
use crate::contract::{Contract, Response};
use crate::limits::SandboxLimits;
use crate::outcome::{GuestExit, Outcome, TrapCode};
use crate::sandbox::{MEMORY_FULL, MemoryUse, Output};

/// Why the client does not get a response of the function.
pub(super) struct Refusal {
    pub(super) outcome: Outcome,
    pub(super) status: u16,
    pub(super) reason: String,
}

/// The table at the end of `docs/contract.md`: which outcome and status a guest's exit leads to.
pub(super) fn judge<'a>(
    exit: &GuestExit,
    used: MemoryUse,
    stdout: &'a [u8],
    exchange: Option<Box<Exchange>>,
    output: Output,
    contract: &dyn Contract,
    limits: &SandboxLimits,
) -> Result<Response<'a>, Refusal> {
    let refusal = |outcome, status, reason| {
        Err(Refusal {
            outcome,
            status,
            reason,
        })
    };
    let refused = used.refused();
    let out_of_memory = |what: &str| {
        if used.refused_for_engine() {
            let full = "it was refused memory because the engine's memory (max_memory) was full";
            return refusal(
                Outcome::Oom,
                503,
                format!("the guest ended with {what} after {full}"),
            );
        }
        let reason = format!(
            "the guest ended with {what} after it was refused memory beyond memory_limit ({} bytes)",
            limits.memory_bytes()
        );
        refusal(Outcome::Oom, 502, reason)
    };
    match exit {
        GuestExit::Exit(0) if let Some(exchange) = exchange => Ok(exchange.into_response()),
        GuestExit::Exit(0) if matches!(output, Output::Body { .. }) => Ok(Response {
            status: 200,
            names_status: false,
            headers: Vec::new(),
            body: Cow::Borrowed(output.body(stdout).unwrap_or_default()),
            streams: true,
            next: None,
        }),
        GuestExit::Exit(0) => match contract.parse_response(stdout) {
            Ok(response) if response.body.len() > limits.output => refusal(
                Outcome::BadOutput,
                502,
                format!(
                    "the response's body has {} bytes, more than max_output ({})",
                    response.body.len(),
                    limits.output
                ),
            ),
            Ok(response) => Ok(response),
            Err(bad) => refusal(Outcome::BadOutput, 502, bad.to_string()),
        },
        GuestExit::Exit(code) if refused > 0 => out_of_memory(&format!("exit code {code}")),
        GuestExit::Exit(code) => refusal(
            Outcome::Trap,
            502,
            format!(
                "the guest ended with exit code {code}; its output is used only with exit code 0"
            ),
        ),
        GuestExit::Trap(trap) => match trap.code {
            TrapCode::Deadline => refusal(
                Outcome::Timeout,
                504,
                format!(
                    "the guest did not end within its timeout of {:?}",
                    limits.timeout
                ),
            ),
            TrapCode::Cancelled => refusal(
                Outcome::Cancelled,
                499,
                "the call was cancelled: its client went away".into(),
            ),
            TrapCode::OutputLimit => refusal(
                Outcome::BadOutput,
                502,
                format!(
                    "the guest wrote more than {} bytes to stdout, twice max_output ({} bytes) and 256 KiB",
                    limits.stdout(),
                    limits.output
                ),
            ),
            TrapCode::Host => refusal(Outcome::Error, 500, trap.to_string()),
            TrapCode::MemoryFull => refusal(Outcome::Oom, 503, MEMORY_FULL.into()),
            _ if refused > 0 => out_of_memory(&trap.to_string()),
            _ => refusal(Outcome::Trap, 502, format!("the guest trapped: {trap}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Trap;

    fn outcome(exit: GuestExit, refused: u32) -> (Outcome, u16) {
        let mut used = MemoryUse::new(&SandboxLimits::default());
        for _ in 0..refused {
            used.refuse();
        }
        match judge(
            &exit,
            used,
            b"{}",
            None,
            Output::Whole,
            crate::contract::default(),
            &SandboxLimits::default(),
        ) {
            Ok(response) => (Outcome::Ok, response.status),
            Err(refusal) => (refusal.outcome, refusal.status),
        }
    }

    fn trap(code: TrapCode) -> GuestExit {
        GuestExit::Trap(Trap::new(code, ""))
    }

    #[test]
    fn the_table_of_the_contract() {
        assert_eq!(outcome(GuestExit::Exit(0), 0), (Outcome::Ok, 200));
        assert_eq!(outcome(GuestExit::Exit(0), 3), (Outcome::Ok, 200));
        assert_eq!(outcome(GuestExit::Exit(2), 0), (Outcome::Trap, 502));
        assert_eq!(outcome(GuestExit::Exit(2), 1), (Outcome::Oom, 502));
        assert_eq!(
            outcome(trap(TrapCode::Unreachable), 0),
            (Outcome::Trap, 502)
        );
        assert_eq!(outcome(trap(TrapCode::Unreachable), 1), (Outcome::Oom, 502));
        assert_eq!(
            outcome(trap(TrapCode::StackOverflow), 0),
            (Outcome::Trap, 502)
        );
        assert_eq!(
            outcome(trap(TrapCode::Deadline), 1),
            (Outcome::Timeout, 504)
        );
        assert_eq!(
            outcome(trap(TrapCode::Cancelled), 0),
            (Outcome::Cancelled, 499)
        );
        assert_eq!(
            outcome(trap(TrapCode::OutputLimit), 0),
            (Outcome::BadOutput, 502)
        );
        assert_eq!(outcome(trap(TrapCode::Host), 0), (Outcome::Error, 500));
        assert_eq!(outcome(trap(TrapCode::MemoryFull), 0), (Outcome::Oom, 503));
    }
}
