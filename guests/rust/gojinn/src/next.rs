//! The response that lets a request go on to Caddy's next handler.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// How a request changes that goes on to Caddy's next handler, in place of being answered. Print it as the function's response:
///
/// ```
/// let next = gojinn::Next::new()
///     .header("X-User", "alice")
///     .remove_header("Cookie")
///     .var("user", "alice")
///     .response_header("X-Frame-Options", "DENY");
/// println!("{next}");
/// ```
#[derive(Debug, Clone, Default, Serialize)]
pub struct Next {
    next: True,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    headers: Changes,
    vars: BTreeMap<String, String>,
    response_headers: Changes,
}

/// Headers by their name in lower case, as one name must not be there twice. One without values is removed.
type Changes = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, Copy, Default)]
struct True;

impl Serialize for True {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl Next {
    /// The request goes on as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the method.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Replaces path and query, which are percent-encoded.
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// Sets a header of the request, and replaces what the client sent. A second value for the same name is added.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        add(&mut self.headers, name, value.into());
        self
    }

    /// Removes a header of the request.
    pub fn remove_header(mut self, name: &str) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), Vec::new());
        self
    }

    /// Sets the variable `{http.vars.NAME}` for later handlers.
    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// Sets a header of the response, whichever handler writes it. A second value for the same name is added.
    pub fn response_header(mut self, name: &str, value: impl Into<String>) -> Self {
        add(&mut self.response_headers, name, value.into());
        self
    }

    /// Removes a header of the response.
    pub fn remove_response_header(mut self, name: &str) -> Self {
        self.response_headers
            .insert(name.to_ascii_lowercase(), Vec::new());
        self
    }
}

fn add(changes: &mut Changes, name: &str, value: String) {
    changes
        .entry(name.to_ascii_lowercase())
        .or_default()
        .push(value);
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&json)
    }
}
