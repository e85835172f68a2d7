//! The hostcalls of `http_handler`, the ABI of <https://http-wasm.io>: a guest reads and changes its request and the response.
//!
//! The state is the call's [`Exchange`]; here are the pointers. What the ABI does not allow ends the guest with a reason for the
//! log, as a trap does: it has no way to tell the guest.

use crate::contract::http_wasm::{Body, Exchange, FEATURES, Kind, Violation};

use super::event::Event;
use super::wasi::{bytes, bytes_mut};
use super::{HostState, Stop};

/// `enable_features`: the features that are enabled now, those that were asked for among them if there are such.
pub fn enable_features(host: &mut HostState, _: &mut [u8], features: i32) -> Result<i32, Stop> {
    host.features |= features.cast_unsigned() & FEATURES;
    Ok(host.features.cast_signed())
}

/// `get_config`: the function's `guest_config`.
pub fn get_config(
    host: &mut HostState,
    memory: &mut [u8],
    buf: i32,
    limit: i32,
) -> Result<i32, Stop> {
    let config = host.program.data.clone();
    let written = give(memory, buf, limit, config.as_deref().unwrap_or_default());
    written.map_err(|why| host.violation(&why))
}

/// `log_enabled`: whether a guest should make a record of that level: 0 info, 1 warn, 2 error. Records of level -1, debug, are kept
/// as well, but usually they are not looked at.
pub fn log_enabled(_: &mut HostState, _: &mut [u8], level: i32) -> Result<i32, Stop> {
    Ok(i32::from((0..3).contains(&level)))
}

/// `log`: adds a record to the call's log.
pub fn log(
    host: &mut HostState,
    memory: &mut [u8],
    level: i32,
    message: i32,
    message_len: i32,
) -> Result<(), Stop> {
    if level >= 3 {
        return Ok(());
    }
    match take(memory, "a log message", message, message_len) {
        Ok(text) => {
            host.logs.record(level.saturating_add(1), text);
            Ok(())
        }
        Err(why) => Err(host.violation(&why)),
    }
}

/// `get_method`.
pub fn get_method(
    host: &mut HostState,
    memory: &mut [u8],
    buf: i32,
    limit: i32,
) -> Result<i32, Stop> {
    host.exchange(|exchange| give(memory, buf, limit, exchange.method()))
}

/// `set_method`.
pub fn set_method(
    host: &mut HostState,
    memory: &mut [u8],
    method: i32,
    method_len: i32,
) -> Result<(), Stop> {
    host.exchange(|exchange| exchange.set_method(take(memory, "a method", method, method_len)?))
}

/// `get_uri`.
pub fn get_uri(host: &mut HostState, memory: &mut [u8], buf: i32, limit: i32) -> Result<i32, Stop> {
    host.exchange(|exchange| give(memory, buf, limit, exchange.uri()))
}

/// `set_uri`.
pub fn set_uri(
    host: &mut HostState,
    memory: &mut [u8],
    uri: i32,
    uri_len: i32,
) -> Result<(), Stop> {
    host.exchange(|exchange| exchange.set_uri(take(memory, "a URI", uri, uri_len)?))
}

/// `get_protocol_version`.
pub fn get_protocol_version(
    host: &mut HostState,
    memory: &mut [u8],
    buf: i32,
    limit: i32,
) -> Result<i32, Stop> {
    host.exchange(|exchange| give(memory, buf, limit, exchange.protocol()))
}

/// `get_source_addr`.
pub fn get_source_addr(
    host: &mut HostState,
    memory: &mut [u8],
    buf: i32,
    limit: i32,
) -> Result<i32, Stop> {
    host.exchange(|exchange| give(memory, buf, limit, exchange.source()))
}

/// `get_header_names`.
pub fn get_header_names(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    buf: i32,
    limit: i32,
) -> Result<i64, Stop> {
    host.exchange(|exchange| {
        let names = exchange.names(Kind::of(kind)?);
        give_list(memory, buf, limit, names.iter().map(Vec::as_slice))
    })
}

/// `get_header_values`.
pub fn get_header_values(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    name: i32,
    name_len: i32,
    buf: i32,
    limit: i32,
) -> Result<i64, Stop> {
    host.exchange(|exchange| {
        let name = take(memory, "the name of a header", name, name_len)?.to_vec();
        let values = exchange.values(Kind::of(kind)?, &name)?;
        give_list(memory, buf, limit, values.into_iter())
    })
}

/// `set_header_value`.
pub fn set_header_value(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    name: i32,
    name_len: i32,
    value: i32,
    value_len: i32,
) -> Result<(), Stop> {
    host.exchange(|exchange| {
        let (name, value) = take_header(memory, name, name_len, value, value_len)?;
        exchange.set(Kind::of(kind)?, name, value)
    })
}

/// `add_header_value`.
pub fn add_header_value(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    name: i32,
    name_len: i32,
    value: i32,
    value_len: i32,
) -> Result<(), Stop> {
    host.exchange(|exchange| {
        let (name, value) = take_header(memory, name, name_len, value, value_len)?;
        exchange.add(Kind::of(kind)?, name, value)
    })
}

/// `remove_header`.
pub fn remove_header(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    name: i32,
    name_len: i32,
) -> Result<(), Stop> {
    host.exchange(|exchange| {
        let name = take(memory, "the name of a header", name, name_len)?;
        exchange.remove(Kind::of(kind)?, name)
    })
}

/// `read_body`: the number of bytes in the lower half of the result, and 1 in the upper half at the end of the body.
pub fn read_body(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    buf: i32,
    limit: i32,
) -> Result<i64, Stop> {
    host.exchange(|exchange| {
        let body = Body::of(kind)?;
        let Ok(out) = bytes_mut(memory, buf, limit) else {
            return Err(outside("the buffer for a body"));
        };
        let (len, ended) = exchange.read_body(body, out)?;
        Ok(i64::from(ended) << 32 | len as i64)
    })
}

/// `write_body`.
pub fn write_body(
    host: &mut HostState,
    memory: &mut [u8],
    kind: i32,
    buf: i32,
    len: i32,
) -> Result<(), Stop> {
    let part = match take(memory, "a part of a body", buf, len) {
        Ok(part) => part,
        Err(why) => return Err(host.violation(&why)),
    };
    let more = host.exchange(|exchange| Ok(exchange.grows_by(Body::of(kind)?, part.len())))?;
    host.hold(more)?;
    host.exchange(|exchange| exchange.write_body(Body::of(kind)?, part))
}

/// `get_status_code`.
pub fn get_status_code(host: &mut HostState, _: &mut [u8]) -> Result<i32, Stop> {
    host.exchange(|exchange| Ok(i32::from(exchange.status())))
}

/// `set_status_code`.
pub fn set_status_code(host: &mut HostState, _: &mut [u8], status: i32) -> Result<(), Stop> {
    host.exchange(|exchange| exchange.set_status(status))
}

impl HostState {
    /// Runs one hostcall over the call's request and response.
    fn exchange<R>(
        &mut self,
        hostcall: impl FnOnce(&mut Exchange) -> Result<R, Violation>,
    ) -> Result<R, Stop> {
        let result = match &mut self.http {
            Some(exchange) => hostcall(exchange),
            None => {
                return Err(self.violation(
                    &"there is no request: http_handler serves functions with `contract http-wasm`, after their start",
                ));
            }
        };
        result.map_err(|why| self.violation(&why))
    }

    /// The guest has handled its request, which goes on to the next handler. `context` is what it returned. False: there is no
    /// request.
    pub(crate) fn goes_on(&mut self, memory: &[u8], context: i64) -> bool {
        let Some(exchange) = &mut self.http else {
            return false;
        };
        self.context = context;
        let (next, body) = exchange.go_on(self.features);
        let next = Box::new(next);
        self.wait_for(memory, Event::Next { next, body });
        true
    }

    /// The host has replied what the next handler answered. Returns the context for `handle_response`: that of the guest, and
    /// whether the next handler failed.
    pub(crate) fn next_has_answered(&mut self) -> Result<i64, &'static str> {
        let (Some(exchange), Some(reply)) = (&mut self.http, self.resumed_with.take()) else {
            return Err("a bug: a guest of http-wasm is resumed without a reply");
        };
        exchange.answered(&reply.bytes)?;
        Ok(self.context >> 32 << 32 | i64::from(reply.code != 0))
    }

    /// Ends the guest for what it did.
    #[cold]
    fn violation(&mut self, why: &dyn std::fmt::Display) -> Stop {
        self.violated.get_or_insert_with(|| why.to_string());
        Stop::Violation
    }
}

/// Writes `value` to the guest's buffer if it fits. Returns its length.
fn give(memory: &mut [u8], buf: i32, limit: i32, value: &[u8]) -> Result<i32, Violation> {
    let len = i32::try_from(value.len()).unwrap_or(i32::MAX);
    // The limit is unsigned.
    if value.len() <= limit.cast_unsigned() as usize && !value.is_empty() {
        match bytes_mut(memory, buf, len) {
            Ok(out) => out.copy_from_slice(value),
            Err(_) => return Err(outside("the buffer for a result")),
        }
    }
    Ok(len)
}

/// Writes texts to the guest's buffer, with a NUL after each, if all of them fit. Returns their number in the upper half, and how
/// long they are in the lower.
fn give_list<'a>(
    memory: &mut [u8],
    buf: i32,
    limit: i32,
    texts: impl Iterator<Item = &'a [u8]>,
) -> Result<i64, Violation> {
    let mut list = Vec::new();
    let mut count = 0_i64;
    for text in texts {
        list.extend_from_slice(text);
        list.push(0);
        count += 1;
    }
    let len = give(memory, buf, limit, &list)?;
    Ok(count << 32 | i64::from(len))
}

/// The bytes that the guest passes.
fn take<'a>(memory: &'a [u8], what: &str, ptr: i32, len: i32) -> Result<&'a [u8], Violation> {
    if len == 0 {
        return Ok(&[]);
    }
    bytes(memory, ptr, len).map_err(|_| outside(what))
}

/// The header that the guest passes: name and value.
fn take_header(
    memory: &[u8],
    name: i32,
    name_len: i32,
    value: i32,
    value_len: i32,
) -> Result<(&[u8], &[u8]), Violation> {
    Ok((
        take(memory, "the name of a header", name, name_len)?,
        take(memory, "the value of a header", value, value_len)?,
    ))
}

#[cold]
fn outside(what: &str) -> Violation {
    Violation::new(format!("{what} is outside of the guest's memory"))
}

#[cfg(test)]
mod tests;
