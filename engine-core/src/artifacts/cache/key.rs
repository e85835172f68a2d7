//! The key of an installation, which tells entries that this user's processes wrote from all others.

use std::fmt;
use std::io::Read;

use super::directory::{Directory, Unfit};
use super::entry::is_entry;

const NAME: &str = "key";
const LEN: usize = 32;

/// 32 random bytes that only this user can read.
pub(super) struct Key([u8; LEN]);

/// A key that existed and cannot be used any more.
pub(super) struct Lost {
    pub(super) why: String,
    /// The number of entries that were removed, because they had been written with it.
    pub(super) removed: u64,
}

impl Key {
    /// The directory's key. If there is none, or none that can be trusted, a new key is made; `Lost` then describes the
    /// old one.
    pub(super) fn of(directory: &Directory) -> Result<(Self, Option<Lost>), String> {
        if let Ok(key) = read(directory) {
            return Ok((key, None));
        }
        // One process makes the key. Others that start at the same time wait here, and then read it.
        let _lock = directory
            .lock()
            .map_err(|error| format!("its lock cannot be taken: {error}"))?;
        let (why, missing) = match read(directory) {
            Ok(key) => return Ok((key, None)),
            Err(Unfit::Missing) => ("the old key is gone".to_string(), true),
            Err(Unfit::Unsafe(why)) => (format!("the old key cannot be trusted: {why}"), false),
            // The key may be fine, so do not replace it.
            Err(Unfit::Io(error)) => return Err(format!("its key cannot be read: {error}")),
        };
        let entries = directory
            .list()
            .map_err(|error| format!("it cannot be listed: {error}"))?;
        let mut removed = 0;
        for file in entries.iter().filter(|file| is_entry(&file.name)) {
            directory.remove(&file.name);
            removed += 1;
        }
        if !missing {
            directory.remove(NAME);
        }
        let mut bytes = [0; LEN];
        getrandom::fill(&mut bytes).map_err(|error| format!("no key can be made: {error}"))?;
        directory
            .write(NAME, &[&bytes])
            .map_err(|error| format!("its key cannot be written: {error}"))?;
        let lost = (removed > 0 || !missing).then_some(Lost { why, removed });
        Ok((Self(bytes), lost))
    }

    /// A hasher for hashes that cannot be made without the key.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

fn read(directory: &Directory) -> Result<Key, Unfit> {
    let (mut file, len) = directory.read(NAME, true)?;
    let mut bytes = [0; LEN];
    if len != LEN as u64 {
        return Err(Unfit::Unsafe(format!(
            "it has {len} bytes instead of {LEN}"
        )));
    }
    file.read_exact(&mut bytes).map_err(Unfit::Io)?;
    Ok(Key(bytes))
}
