//! Parses header fields: those of an answer, and those of a request that goes on.

use std::borrow::Cow;

use super::super::bad_output::Excerpt;
use super::super::headers::{self, Headers, MAX_HEADER_BYTES, MAX_HEADERS};
use super::super::{BadOutput, HeaderChanges, stand_in};
use super::reader::Reader;

/// Takes an object of header fields, the value of the key `key`. Names with `null` or an empty array are in `delete`. An
/// answer does not send them, but they may not occur twice in it either.
pub(super) fn read<'a>(reader: &mut Reader<'a>, key: &str) -> Result<HeaderChanges<'a>, BadOutput> {
    if reader.peek() != Some(b'{') {
        let at = reader.at();
        reader.skip(1)?;
        return Err(BadOutput::at(
            at,
            format!("{key} must be an object of strings or arrays of strings"),
        ));
    }
    let mut headers = Headers::new();
    let mut valueless: Vec<Cow<'a, str>> = Vec::new();
    let mut size = Size::of("headers");
    reader.object(|reader, name| {
        let at = reader.at();
        let name = headers::canonical(name.decode()?).map_err(|name| {
            BadOutput::at(
                at,
                format!(
                    "{} is not a valid header name; a name may contain letters, digits, hyphens and !#$%&'*+.^_`|~ only",
                    Excerpt(&name)
                ),
            )
        })?;
        if headers.iter().any(|(seen, _)| *seen == name) || valueless.contains(&name) {
            return Err(BadOutput::at(
                at,
                format!(
                    "the header {} occurs a second time (case does not matter); write its values as one array",
                    Excerpt(&name)
                ),
            ));
        }
        match reader.peek() {
            Some(b'[') => {
                let before = headers.len();
                reader.array(|reader| {
                    let value = read_header_value(reader, &name)?;
                    size.add(reader, name.len() + value.len())?;
                    headers.push((Cow::clone(&name), value));
                    Ok(())
                })?;
                if headers.len() > before {
                    return Ok(());
                }
            }
            Some(b'n') if reader.take_null() => {}
            _ => {
                let value = read_header_value(reader, &name)?;
                size.add(reader, name.len() + value.len())?;
                headers.push((name, value));
                return Ok(());
            }
        }
        size.add(reader, name.len())?;
        valueless.push(name);
        Ok(())
    })?;
    headers::remove_servers(&mut headers, headers::is_framing);
    valueless.retain(|name| !headers::is_framing(name.as_bytes()));
    Ok(HeaderChanges {
        set: headers,
        delete: valueless,
    })
}

fn read_header_value<'a>(reader: &mut Reader<'a>, name: &str) -> Result<Cow<'a, [u8]>, BadOutput> {
    let next = reader.peek();
    let at = reader.at();
    if next != Some(b'"') {
        reader.skip(2)?;
        return Err(BadOutput::at(
            at,
            format!(
                "the value of header {} must be a string or an array of strings",
                Excerpt(name)
            ),
        ));
    }
    let value = reader.string()?.decode()?;
    headers::check_value(name, value.as_bytes()).map_err(|why| BadOutput::at(at, why))?;
    Ok(stand_in::to_bytes(headers::trimmed(value)))
}

/// How many fields or variables there are so far, and their size.
pub(super) struct Size {
    /// How errors call them.
    what: &'static str,
    count: usize,
    bytes: usize,
}

impl Size {
    pub(super) fn of(what: &'static str) -> Self {
        Self {
            what,
            count: 0,
            bytes: 0,
        }
    }

    pub(super) fn add(&mut self, reader: &Reader<'_>, bytes: usize) -> Result<(), BadOutput> {
        self.count += 1;
        self.bytes += bytes;
        if self.count <= MAX_HEADERS && self.bytes <= MAX_HEADER_BYTES {
            return Ok(());
        }
        Err(BadOutput::at(reader.at(), headers::too_many(self.what)))
    }
}
