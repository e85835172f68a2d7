//! Cases about what a guest says instead of an answer: the request goes on to the web server's next handler.

use std::borrow::Cow;

use engine_core::Outcome;
use engine_core::contract::{HeaderChanges, Next, Request};

use super::{Fixture, expect, printer};

/// A request that goes on, with each kind of change.
pub(crate) fn all_changes() -> Next<'static> {
    Next {
        method: Some(Cow::Borrowed("PUT")),
        uri: Some(Cow::Borrowed("/b?c")),
        headers: HeaderChanges {
            set: vec![(Cow::Borrowed("X-User"), Cow::Borrowed(b"alice"))],
            delete: vec![Cow::Borrowed("Cookie")],
        },
        response_headers: HeaderChanges {
            set: vec![
                (Cow::Borrowed("Vary"), Cow::Borrowed(b"a")),
                (Cow::Borrowed("Vary"), Cow::Borrowed(b"b")),
            ],
            delete: vec![Cow::Borrowed("Server")],
        },
        vars: vec![(Cow::Borrowed("user"), Cow::Borrowed("alice"))],
        ..Next::default()
    }
}

/// A guest lets a request go on, with all changes that there are. The call ends well, and has no answer.
pub fn a_request_goes_on(fixture: &Fixture) {
    let function = fixture.deploy(&printer(
        r#"{"next":true,"method":"PUT","uri":"/b?c","headers":{"x-user":"alice","Cookie":null},
            "vars":{"user":"alice"},"response_headers":{"Vary":["a","b"],"Server":null}}"#,
        "",
    ));
    let expected = all_changes();
    for _ in 0..3 {
        let request = Request {
            method: b"GET",
            uri: b"/",
            body: b"a body",
            ..Request::default()
        };
        let permit = expect(fixture.engine.reserve());
        expect(function.call(permit, &request, &[], |answer| {
            assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
            let response = answer.response.expect("a response");
            assert!(response.headers.is_empty() && response.body.is_empty());
            assert_eq!(response.next.as_deref(), Some(&expected));
        }));
    }
}

/// `next` beside an answer, changes that break a rule, and an end that is not well are refused.
pub fn a_request_that_cannot_go_on_is_refused(fixture: &Fixture) {
    for (output, code, outcome) in [
        (r#"{"next":true,"status":200}"#, "", Outcome::BadOutput),
        (r#"{"next":true,"body":"x"}"#, "", Outcome::BadOutput),
        (
            r#"{"next":true,"uri":"http://example.org/"}"#,
            "",
            Outcome::BadOutput,
        ),
        (
            r#"{"next":true,"headers":{"A":"b\r\nC: d"}}"#,
            "",
            Outcome::BadOutput,
        ),
        (r#"{"next":true}"#, "unreachable", Outcome::Trap),
    ] {
        let function = fixture.deploy(&printer(output, code));
        let answer = fixture.get(&function);
        assert_eq!((answer.outcome, answer.status), (outcome, 502), "{output}");
        assert!(!answer.reason.is_empty(), "{output}");
    }
}
