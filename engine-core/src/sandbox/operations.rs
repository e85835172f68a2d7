//! The operations that a guest asks the host for by name: `gojinn.call`, and `gojinn.reply` for what it answered.
//!
//! Requests and replies are bytes. The operations say what is in them.

use std::sync::Arc;

use super::event::{Event, HostReply};
use super::wasi::{bytes, bytes_mut};
use super::{HostState, Stop};

/// Why an operation gave no reply. The reply is then a text in UTF-8 that says it in words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub(crate) enum Refusal {
    /// There is no operation of that name.
    UnknownOperation = -1,
    /// The request is malformed, or a pointer is outside of the guest's memory.
    BadRequest = -3,
    /// The operation is not served while a snapshot is recorded or verified.
    NotNow = -6,
    /// What was asked for does not exist.
    NotFound = -7,
}

/// What the last operation of a sandbox answered.
#[derive(Debug, Default)]
pub(crate) enum Reply {
    /// There was none yet, or it was empty.
    #[default]
    Empty,
    /// Bytes that all sandboxes of the function share.
    Shared(Arc<[u8]>),
    /// Bytes of the host, for this sandbox alone.
    Bytes(Vec<u8>),
    /// A text that says why the operation was refused.
    Text(String),
}

impl Reply {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Shared(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }
}

/// The longest name of an operation that is quoted in a reply.
const QUOTED: usize = 64;

/// `gojinn.call`: does the operation of that name. At least 0: the number of bytes of the reply, which `gojinn.reply` copies.
/// Below 0: it was refused, and the reply says why.
pub fn call(
    host: &mut HostState,
    memory: &mut [u8],
    op_ptr: i32,
    op_len: i32,
    request_ptr: i32,
    request_len: i32,
) -> Result<i32, Stop> {
    let (Ok(operation), Ok(request)) = (
        bytes(memory, op_ptr, op_len),
        bytes(memory, request_ptr, request_len),
    ) else {
        return Ok(refused(
            host,
            Refusal::BadRequest,
            "the operation's name or its request is outside of the guest's memory".into(),
        ));
    };
    if operation == b"deployment.data" {
        return Ok(deployment_data(host, request));
    }
    if let Some(observed) = &mut host.observed {
        observed.call();
        let text = "the host is not called while a snapshot is recorded or verified";
        return Ok(refused(host, Refusal::NotNow, text.into()));
    }
    if !host.suspends {
        let name = String::from_utf8_lossy(&operation[..operation.len().min(QUOTED)]);
        let text = format!("there is no operation {name:?}; there is: deployment.data");
        return Ok(refused(host, Refusal::UnknownOperation, text));
    }
    let Some(HostReply { code, bytes }) = host.resumed_with.take() else {
        host.hold_event_of(operation.len() + request.len())?;
        let (operation, request) = (operation.to_vec(), request.to_vec());
        return Err(host.wait_for(memory, Event::Call { operation, request }));
    };
    if let Some(why) = host.call.interruption() {
        return Err(why.into());
    }
    let len = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    host.reply = Reply::Bytes(bytes);
    Ok(if code < 0 { code } else { len })
}

/// `gojinn.reply`: copies the reply of the last `gojinn.call`, or as much of it as `len` bytes are. Returns the number of bytes
/// that it copied, or a number below 0 if they are not in the guest's memory.
pub fn reply(host: &mut HostState, memory: &mut [u8], ptr: i32, len: i32) -> Result<i32, Stop> {
    let Ok(out) = bytes_mut(memory, ptr, len) else {
        return Ok(Refusal::BadRequest as i32);
    };
    let reply = host.reply.bytes();
    let copied = reply.len().min(out.len());
    out[..copied].copy_from_slice(&reply[..copied]);
    Ok(i32::try_from(copied).unwrap_or(i32::MAX))
}

/// `deployment.data`: the bytes of the function's configuration. They are the same in each sandbox of the function, so a guest may
/// ask for them also while its snapshot is recorded or verified.
fn deployment_data(host: &mut HostState, request: &[u8]) -> i32 {
    if !request.is_empty() {
        let text = "deployment.data takes no request; pass a length of 0";
        return refused(host, Refusal::BadRequest, text.into());
    }
    let Some(data) = host.program.data.clone() else {
        let text = "the function's configuration has no data";
        return refused(host, Refusal::NotFound, text.into());
    };
    // A deployment checks that the length is an i32.
    let len = i32::try_from(data.len()).unwrap_or(i32::MAX);
    host.reply = Reply::Shared(data);
    len
}

fn refused(host: &mut HostState, why: Refusal, text: String) -> i32 {
    host.reply = Reply::Text(text);
    why as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Program;
    use crate::sandbox::wasi::testing::host;

    const NAME: &[u8] = b"deployment.data";

    fn with_data(data: Option<&[u8]>) -> HostState {
        let mut host = host();
        host.program = Arc::new(Program {
            data: data.map(Arc::from),
            ..Program::default()
        });
        host
    }

    fn memory_with(name: &[u8]) -> Vec<u8> {
        let mut memory = vec![0; 256];
        memory[..name.len()].copy_from_slice(name);
        memory
    }

    fn text(host: &mut HostState) -> String {
        let mut memory = vec![0; 256];
        let len = reply(host, &mut memory, 0, 256).unwrap();
        String::from_utf8(memory[..len.try_into().unwrap()].to_vec()).unwrap()
    }

    #[test]
    fn data_arrives_whole_and_in_parts() {
        let mut host = with_data(Some(b"let me = 1"));
        let mut memory = memory_with(NAME);
        for _ in 0..2 {
            assert_eq!(call(&mut host, &mut memory, 0, 15, 0, 0), Ok(10));
            assert_eq!(reply(&mut host, &mut memory, 100, 100), Ok(10));
            assert_eq!(&memory[100..111], b"let me = 1\0");
            assert_eq!(reply(&mut host, &mut memory, 200, 3), Ok(3));
            assert_eq!(&memory[200..204], b"let\0");
            assert_eq!(reply(&mut host, &mut memory, 0, 0), Ok(0));
        }
        let mut empty = with_data(Some(b""));
        assert_eq!(call(&mut empty, &mut memory, 0, 15, 0, 0), Ok(0));
        assert_eq!(reply(&mut empty, &mut memory, 100, 100), Ok(0));
    }

    #[test]
    fn what_is_refused_says_why() {
        let mut host = with_data(None);
        assert_eq!(reply(&mut host, &mut memory_with(NAME), 0, 9), Ok(0));
        for (name, request, code, part) in [
            (NAME, 0, -7, "no data"),
            (NAME, 1, -3, "takes no request"),
            (b"deployment.date", 0, -1, "\"deployment.date\""),
            (b"http.send", 0, -1, "\"http.send\""),
            (b"\xff\0\n", 0, -1, "no operation"),
            (b"", 0, -1, "\"\""),
            (&[b'a'; 200], 0, -1, "aaa\""),
        ] {
            let mut memory = memory_with(name);
            let len = i32::try_from(name.len()).unwrap();
            assert_eq!(call(&mut host, &mut memory, 0, len, 0, request), Ok(code));
            let text = text(&mut host);
            assert!(text.contains(part) && text.len() < 150, "{text}");
        }
    }

    #[test]
    fn pointers_outside_of_memory_are_refused() {
        let mut host = with_data(Some(b"data"));
        let mut memory = memory_with(NAME);
        for (op, op_len, request, request_len) in [
            (250, 7, 0, 0),
            (-1, 1, 0, 0),
            (0, -1, 0, 0),
            (0, 15, 255, 2),
            (0, 15, -1, 1),
            (0, 15, 0, -1),
            (i32::MIN, i32::MIN, i32::MIN, i32::MIN),
        ] {
            let code = call(&mut host, &mut memory, op, op_len, request, request_len);
            assert_eq!(code, Ok(-3));
            assert!(text(&mut host).contains("outside of the guest's memory"));
        }
        for (ptr, len) in [(250, 7), (-1, 1), (0, -1), (i32::MIN, i32::MIN)] {
            assert_eq!(reply(&mut host, &mut memory, ptr, len), Ok(-3));
        }
        assert_eq!(memory, memory_with(NAME));
    }
}
