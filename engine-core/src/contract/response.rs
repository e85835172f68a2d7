//! A guest's answer, checked.

use std::borrow::Cow;

use super::Next;

/// A guest's answer. It satisfies every rule of the contract, so it can be sent as it is.
///
/// It borrows the parts of the guest's output that needed no decoding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response<'a> {
    /// 200 to 599.
    pub status: u16,
    /// Whether the guest named the status. If it did not, `status` is 200.
    pub names_status: bool,
    /// (canonical name, trimmed value) in the guest's order; the values of one name are next to each other. Names are
    /// unique in any case, hop-by-hop headers and the body's framing are removed.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    /// The body, decoded. Empty for 204, 205 and 304.
    pub body: Cow<'a, [u8]>,
    /// Whether the body is a stream: all that the guest writes after the response.
    pub streams: bool,
    /// If it is there, the guest does not answer: the request goes on to the web server's next handler. `status` is then
    /// 200, and there are no headers and no body.
    pub next: Option<Box<Next<'a>>>,
}
