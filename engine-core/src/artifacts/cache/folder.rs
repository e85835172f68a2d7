//! A folder that only this user can write to, held open: every name is looked up in it and nowhere else.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptionsExt as _};

const LOCK: &str = "lock";
const TEMPORARY: &str = "tmp-";

/// How long to wait for another process that makes the key, which takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Permissions that let somebody else write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Permissions of anybody else.
const OTHERS: u32 = 0o077;

/// The folder.
pub(super) struct Folder {
    path: PathBuf,
    dir: Dir,
    /// The same once more, as what can be synced.
    file: File,
}

/// Why a file is not used.
#[derive(Debug)]
pub(super) enum Unfit {
    Missing,
    /// Its content, its kind or its permissions are wrong, for the reason given: it must not be trusted, ever.
    Unsafe(String),
    /// The system refused, for reasons that may pass.
    Io(io::Error),
}

/// A file that is there.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

/// Held until dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, but for a process that another thread is just starting: until it has become another program, it
        // has the file open too.
        let _ = self.0.unlock();
    }
}

impl Folder {
    /// Opens the folder at `path`, made if it is missing. `Err` says in words why it cannot be used.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        // Without a slash at its end, which would have the last link followed.
        let path: PathBuf = path.components().collect();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(|error| match (error.raw_os_error(), made) {
                _ if path.is_symlink() => {
                    "it is a symbolic link; name the folder it leads to".to_string()
                }
                (Some(libc::ENOTDIR), _) if path.exists() => "it is not a folder".to_string(),
                (_, Err(made)) => format!("it cannot be made: {made}"),
                (_, Ok(())) => error.to_string(),
            })?;
        let facts = file.metadata().map_err(|error| error.to_string())?;
        if facts.uid() != own_uid() {
            return Err(format!(
                "it belongs to user {}, this process runs as {}: chown it, or name another",
                facts.uid(),
                own_uid()
            ));
        }
        if facts.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(format!(
                "others than its owner can write to it (mode {:03o}): chmod 700",
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

    /// Opens a file for reading that is regular, ours, and writable by nobody else (`private`: not even readable).
    /// Follows no link and waits for nobody, whatever stands under that name. Also tells its length.
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
                "others have access to it (mode {:03o})",
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
            // A socket cannot be opened at all.
            Ok(facts) if !facts.is_file() => Unfit::Unsafe("it is not a regular file".into()),
            _ => Unfit::Io(error),
        }
    }

    /// Puts `parts` under `name`, on disk and as a whole, or leaves everything as it was.
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
        // Not a failure of the write: whether the name survives a power cut is all that is open.
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

    /// Removes whatever stands under `name`, as far as it can be removed. A link is removed, not what it leads to.
    pub(super) fn remove(&self, name: &str) {
        if self.dir.remove_file(name).is_err() {
            // A folder, perhaps. Where that fails too, the name stays unusable and every use of it is counted.
            let _ = self.dir.remove_dir(name);
        }
    }

    /// Whether anything stands under `name`. A link counts as itself.
    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.symlink_metadata(name).is_ok()
    }

    /// Every file.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            // A file that is gone meanwhile, or whose name is none of ours, is none of ours.
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

    /// The folder's lock if no other process has it.
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

    /// The folder's lock, waited for, but not for ever: its holder may have been stopped.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        let begun = Instant::now();
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process has held its lock for seconds",
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a file of that name is one that somebody has not finished writing.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user whose rights this process has.
fn own_uid() -> u32 {
    // SAFETY: reads a number; cannot fail.
    unsafe { libc::geteuid() }
}
