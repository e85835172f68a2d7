//! A directory that only this user can write to. It is held open, and every name is looked up in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptionsExt as _};

const LOCK: &str = "lock";
const TEMPORARY: &str = "tmp-";

/// How long to wait for another process that holds the lock, which it usually does for milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Permissions that let other users write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// All permissions of other users.
const OTHERS: u32 = 0o077;

/// The cache's directory.
pub(super) struct Directory {
    path: PathBuf,
    dir: Dir,
    /// The same directory, as a file that can be synced.
    file: File,
}

/// Why a file is not used.
#[derive(Debug)]
pub(super) enum Unfit {
    Missing,
    /// Its content, its kind or its permissions are wrong, for the given reason. It must never be trusted.
    Unsafe(String),
    /// The system refused, for a reason that may be temporary.
    Io(io::Error),
}

/// A file in the directory.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

/// The directory's lock, held until it is dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough if another thread is starting a process at this moment: between `fork` and
        // `exec` the child has the file open too, and would hold the lock.
        let _ = self.0.unlock();
    }
}

impl Directory {
    /// Opens the directory at `path`, and makes it if it is missing. `Err` says why it cannot be used.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        // Collecting the components removes a slash at the end, which would make the system follow a link.
        let path: PathBuf = path.components().collect();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(|error| match (error.raw_os_error(), made) {
                _ if path.is_symlink() => {
                    "it is a symbolic link; configure the directory that it leads to".to_string()
                }
                (Some(libc::ENOTDIR), _) if path.exists() => "it is not a directory".to_string(),
                (_, Err(made)) => format!("it cannot be made: {made}"),
                (_, Ok(())) => error.to_string(),
            })?;
        let facts = file.metadata().map_err(|error| error.to_string())?;
        if facts.uid() != own_uid() {
            return Err(format!(
                "it belongs to user {}, but this process runs as user {}; change its owner, or configure another directory",
                facts.uid(),
                own_uid()
            ));
        }
        if facts.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(format!(
                "other users than its owner can write to it (mode {:03o}); chmod 700 it",
                facts.mode() & 0o777
            ));
        }
        let dir = file
            .try_clone()
            .map(Dir::from_std_file)
            .map_err(|error| error.to_string())?;
        Ok(Self { path, dir, file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for reading, and returns its length too. The file must be regular, must belong to this user, and no
    /// other user may be able to write to it (nor to read it, if `private`). Follows no link, and never blocks: a FIFO
    /// of that name is refused.
    pub(super) fn read(&self, name: &str, private: bool) -> Result<(File, u64), Unfit> {
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        let file = match self.dir.open_with(name, &options) {
            Ok(file) => file.into_std(),
            Err(error) => return Err(self.unfit(name, error)),
        };
        let facts = file.metadata().map_err(Unfit::Io)?;
        let forbidden = if private { OTHERS } else { WRITABLE_BY_OTHERS };
        let wrong = if !facts.is_file() {
            "it is not a regular file".to_string()
        } else if facts.uid() != own_uid() {
            format!("it belongs to user {}", facts.uid())
        } else if facts.mode() & forbidden != 0 {
            format!(
                "other users have access to it (mode {:03o})",
                facts.mode() & 0o777
            )
        } else {
            return Ok((file, facts.len()));
        };
        Err(Unfit::Unsafe(wrong))
    }

    fn unfit(&self, name: &str, error: io::Error) -> Unfit {
        if error.kind() == io::ErrorKind::NotFound {
            return Unfit::Missing;
        }
        match self.dir.symlink_metadata(name) {
            Ok(facts) if facts.is_symlink() => Unfit::Unsafe("it is a symbolic link".into()),
            // Opening a socket fails, so its kind has to be asked for here.
            Ok(facts) if !facts.is_file() => Unfit::Unsafe("it is not a regular file".into()),
            _ => Unfit::Io(error),
        }
    }

    /// Writes `parts` to the file `name`: the whole file is on disk afterwards, or nothing has changed.
    pub(super) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let mut random = [0; 12];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let temporary = format!("{TEMPORARY}{}", hex(&random));
        let written = self
            .write_temporary(&temporary, parts)
            .and_then(|()| self.dir.rename(&temporary, &self.dir, name));
        if written.is_err() {
            self.remove(&temporary);
        }
        written?;
        // An error here is no failure of the write: it only means that the new name may not survive a power cut.
        let _ = self.file.sync_all();
        Ok(())
    }

    fn write_temporary(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let mut options = cap_std::fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .follow(FollowSymlinks::No)
            .mode(0o600);
        let mut file = self.dir.open_with(name, &options)?.into_std();
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()
    }

    /// Removes the file, link or empty directory `name`. A link is removed, not what it leads to.
    pub(super) fn remove(&self, name: &str) {
        if self.dir.remove_file(name).is_err() {
            // It may be a directory. If that fails too, the name stays unusable, and every attempt to use it is counted.
            let _ = self.dir.remove_dir(name);
        }
    }

    /// Whether there is anything with the name `name`. A link counts, even if it leads nowhere.
    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.symlink_metadata(name).is_ok()
    }

    /// All files in the directory.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            // Skip files that were removed meanwhile, and those whose names cannot be ours.
            let (Ok(facts), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else {
                continue;
            };
            files.push(Listed {
                name,
                len: facts.len(),
                modified: facts
                    .modified()
                    .map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std),
            });
        }
        Ok(files)
    }

    /// The directory's lock, if no other process holds it.
    pub(super) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let mut options = cap_std::fs::OpenOptions::new();
        options
            .write(true)
            .create(true)
            .follow(FollowSymlinks::No)
            .nonblock(true)
            .mode(0o600);
        let file = self.dir.open_with(LOCK, &options)?.into_std();
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The directory's lock. Waits for it, but not for ever: the process that holds it may have been stopped.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        let begun = Instant::now();
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if begun.elapsed() > LOCK_TIMEOUT {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process has held it for seconds",
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a file with that name is a temporary one, whose writer has not finished.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user whose rights this process has.
fn own_uid() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::geteuid() }
}
