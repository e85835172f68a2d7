//! A guest's answer, checked.

use std::borrow::Cow;

/// A guest's answer. It keeps every rule of the contract, so it can be sent as it is.
///
/// It borrows from the guest's output wherever that needed no decoding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response<'a> {
    /// 200 to 599.
    pub status: u16,
    /// (canonical name, trimmed value) in the guest's order; the values of one name stand together. Names are unique in
    /// any case, hop-by-hop headers and the body's framing are removed.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The body, decoded. Empty for 204 and 304.
    pub body: Cow<'a, [u8]>,
}
