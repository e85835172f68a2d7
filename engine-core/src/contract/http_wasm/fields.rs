//! The headers or the trailers of one message, as a guest of http-wasm reads and changes them.

use std::borrow::Cow;

use super::exchange::Violation;
use crate::contract::HeaderChanges;
use crate::contract::headers::{self, MAX_HEADER_BYTES, MAX_HEADERS};

/// Fields in their order, and the names that the guest has changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// (canonical name, value).
    list: Vec<(String, Vec<u8>)>,
    /// Canonical names.
    changed: Vec<String>,
}

impl Fields {
    /// Those of a message that exists. Names that are no tokens are left out.
    pub(super) fn of<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let list = fields.filter_map(|(name, value)| Some((canonical(name)?, value.to_vec())));
        Self {
            list: list.collect(),
            changed: Vec::new(),
        }
    }

    /// All names in lower case, sorted, each once.
    pub(super) fn names(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<_> = self
            .list
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase().into_bytes())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The values of a name, in any case.
    pub(super) fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.list
            .iter()
            .filter(|(found, _)| found.as_bytes().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Replaces all values of a name by one.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        let Some((name, value)) = checked(name, value)? else {
            return Ok(());
        };
        self.list.retain(|(found, _)| *found != name);
        self.list.push((name.clone(), value));
        self.change(name)
    }

    /// Adds a value to a name.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        let Some((name, value)) = checked(name, value)? else {
            return Ok(());
        };
        self.list.push((name.clone(), value));
        self.change(name)
    }

    /// Removes all values of a name.
    pub(super) fn remove(&mut self, name: &[u8]) -> Result<(), Violation> {
        let Some((name, _)) = checked(name, b"")? else {
            return Ok(());
        };
        self.list.retain(|(found, _)| *found != name);
        self.change(name)
    }

    /// Notes a changed name. What a guest has set is bounded, as the headers of an answer are.
    fn change(&mut self, name: String) -> Result<(), Violation> {
        if !self.changed.contains(&name) {
            self.changed.push(name);
        }
        let ours = |name: &String| self.changed.contains(name);
        let (mut count, mut bytes) = (0, 0);
        for (name, value) in self.list.iter().filter(|(name, _)| ours(name)) {
            count += 1;
            bytes += name.len() + value.len();
        }
        let names: usize = self.changed.iter().map(String::len).sum();
        if count.max(self.changed.len()) > MAX_HEADERS || bytes.max(names) > MAX_HEADER_BYTES {
            return Err(Violation::new(format!(
                "the guest sets more than {MAX_HEADERS} headers, or more than {} KiB of them",
                MAX_HEADER_BYTES / 1024
            )));
        }
        Ok(())
    }

    /// What the guest has changed.
    pub(super) fn changes(&self) -> HeaderChanges<'static> {
        let mut changes = HeaderChanges::default();
        for name in &self.changed {
            let before = changes.set.len();
            let values = self.list.iter().filter(|(found, _)| found == name);
            let pairs = values.map(|(name, value)| {
                let (name, value) = (name.clone(), value.clone());
                (Cow::Owned(name), Cow::Owned(value))
            });
            changes.set.extend(pairs);
            if changes.set.len() == before {
                changes.delete.push(Cow::Owned(name.clone()));
            }
        }
        changes
    }
}

/// A valid name as Go spells it.
fn canonical(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let canonical = headers::canonical(Cow::Borrowed(name)).ok()?;
    Some(canonical.into_owned())
}

/// A field that a guest sets: canonical name and trimmed value. `None`: only the server can set it, so nothing changes.
fn checked(name: &[u8], value: &[u8]) -> Result<Option<(String, Vec<u8>)>, Violation> {
    let Some(name) = canonical(name) else {
        return Err(Violation::new(if name.is_empty() {
            "the name of a header is empty".into()
        } else {
            format!(
                "{:?} is not a valid header name",
                String::from_utf8_lossy(&name[..name.len().min(40)])
            )
        }));
    };
    if let Some(byte) = headers::illegal_in_value(value) {
        return Err(Violation::new(format!(
            "the value of header {name:.40} contains the byte {byte:#04x}; a header is one line without control characters"
        )));
    }
    if headers::is_framing(name.as_bytes()) {
        return Ok(None);
    }
    // Of ASCII's white space only blanks and tabs are left: the others were refused.
    Ok(Some((name, value.trim_ascii().to_vec())))
}
