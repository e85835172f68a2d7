//! What a suspended guest waits for, and what the host replies.

use std::time::Instant;

use crate::contract::Next;

/// What a guest waits for. The host deals with it, and resumes the call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A time. `None` is beyond the range of the clock.
    Sleep(Option<Instant>),
    /// That the host takes the output of a stream: there is as much as may wait.
    Output,
    /// More of the request's body, or the end of it; or that time, if there is one.
    Body(Option<Instant>),
    /// The reply to a host call.
    Call {
        /// The name of the operation.
        operation: Vec<u8>,
        /// The request, as the guest gave it.
        request: Vec<u8>,
    },
    /// The response of the web server's next handler.
    Next {
        /// How the request has changed.
        next: Box<Next<'static>>,
        /// The request's body, if it was replaced.
        body: Vec<u8>,
    },
}

/// The code of a reply whose bytes are the last ones of the request's body.
pub const BODY_ENDS: i32 = 1;

impl Event {
    /// How many bytes the host gets with it, without the changes of a request, which are bounded.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Sleep(_) | Self::Output | Self::Body(_) => 0,
            Self::Call { operation, request } => operation.len() + request.len(),
            Self::Next { next, body } => {
                let early = next.early.as_ref().map_or(0, |(_, early)| early.len());
                body.len() + early
            }
        }
    }
}

/// What the host has done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostReply {
    /// 0, or the negative code of a host call. For [`Event::Body`]: [`BODY_ENDS`], or 0 if more may follow.
    pub code: i32,
    /// The reply's bytes.
    pub bytes: Vec<u8>,
}
