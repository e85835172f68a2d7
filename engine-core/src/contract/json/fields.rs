//! Parses header fields: those of an answer, and those of a request that goes on.

use std::borrow::Cow;

use super::super::bad_output::Excerpt;
use super::super::headers::{self, Headers, Size};
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
        let name = headers::canonical(name.decode()?)
            .map_err(|name| BadOutput::at(at, headers::not_a_name(&name)))?;
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
                    size.add(reader.at(), name.len() + value.len())?;
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
                size.add(reader.at(), name.len() + value.len())?;
                headers.push((name, value));
                return Ok(());
            }
        }
        size.add(reader.at(), name.len())?;
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
