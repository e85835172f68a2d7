//! The key of an installation: what tells this user's entries from anybody else's.

use std::fmt;
use std::io::Read;

use super::entry::is_entry;
use super::folder::{Folder, Unfit};

const NAME: &str = "key";
const LEN: usize = 32;

/// 32 random bytes that only this user can read.
pub(super) struct Key([u8; LEN]);

/// A key that was there, or must have been, and is no good any more.
pub(super) struct Lost {
    pub(super) why: String,
    /// Entries that were removed with it.
    pub(super) removed: u64,
}

impl Key {
    /// The folder's key; a new one where there is none, or none that is fit, together with what became of the old one.
    pub(super) fn of(folder: &Folder) -> Result<(Self, Option<Lost>), String> {
        if let Ok(key) = read(folder) {
            return Ok((key, None));
        }
        // One process makes the key, all that start at the same time take it.
        let _lock = folder
            .lock()
            .map_err(|error| format!("its lock cannot be taken: {error}"))?;
        let (why, missing) = match read(folder) {
            Ok(key) => return Ok((key, None)),
            Err(Unfit::Missing) => ("the old one is gone".to_string(), true),
            Err(Unfit::Unsafe(why)) => (format!("the old one cannot be trusted: {why}"), false),
            // It may be fine: not to be replaced.
            Err(Unfit::Io(error)) => return Err(format!("its key cannot be read: {error}")),
        };
        let entries = folder
            .list()
            .map_err(|error| format!("it cannot be listed: {error}"))?;
        let mut removed = 0;
        for file in entries.iter().filter(|file| is_entry(&file.name)) {
            folder.remove(&file.name);
            removed += 1;
        }
        if !missing {
            folder.remove(NAME);
        }
        let mut bytes = [0; LEN];
        getrandom::fill(&mut bytes).map_err(|error| format!("no key can be made: {error}"))?;
        folder
            .write(NAME, &[&bytes])
            .map_err(|error| format!("its key cannot be written: {error}"))?;
        let lost = (removed > 0 || !missing).then_some(Lost { why, removed });
        Ok((Self(bytes), lost))
    }

    /// A hash that nobody without the key can make.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

fn read(folder: &Folder) -> Result<Key, Unfit> {
    let (mut file, len) = folder.read(NAME, true)?;
    let mut bytes = [0; LEN];
    if len != LEN as u64 {
        return Err(Unfit::Unsafe(format!(
            "it has {len} bytes instead of {LEN}"
        )));
    }
    file.read_exact(&mut bytes).map_err(Unfit::Io)?;
    Ok(Key(bytes))
}
