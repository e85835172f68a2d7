//! A mounted directory, or a directory inside of one, as wasi-common uses it.
//!
//! cap-std resolves paths inside of the directory: neither `..` nor a symbolic link leads out of it.

use std::any::Any;
use std::fs::FileTimes;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cap_fs_ext::{
    DirExt, FollowSymlinks, Metadata, MetadataExt, OpenOptions, OpenOptionsFollowExt,
    OpenOptionsMaybeDirExt, OpenOptionsSyncExt,
};
use wasi_common::dir::{OpenResult, ReaddirCursor, ReaddirEntity, WasiDir};
use wasi_common::file::{FdFlags, FileType, Filestat, OFlags};
use wasi_common::snapshots::preview_1::error::Errno;
use wasi_common::sync::Dir;
use wasi_common::sync::file::{File, filetype_from};
use wasi_common::{Error, ErrorExt, SystemTimeSpec};

use super::file::OpenFile;
use super::{Handle, Sandbox, as_directory};

/// The number of directory entries between two checks of the deadline.
const ENTRIES: usize = 256;

/// An open directory.
pub(super) struct Directory {
    dir: Arc<Dir>,
    writable: bool,
    sandbox: Arc<Sandbox>,
    /// Held to be counted. A mount itself is opened once for all sandboxes, and is not.
    _handle: Option<Handle>,
}

impl Directory {
    /// A mount.
    pub(super) fn mount(dir: Arc<Dir>, writable: bool, sandbox: Arc<Sandbox>) -> Self {
        Self {
            dir,
            writable,
            sandbox,
            _handle: None,
        }
    }

    fn may_write(&self) -> Result<(), Error> {
        if self.writable {
            Ok(())
        } else {
            Err(Errno::Rofs.into())
        }
    }

    /// Opens a regular file or directory. Refuses everything else.
    ///
    /// Opening a FIFO blocks until another process opens its other end, and opening some devices has effects. So the
    /// type is checked before. Another process could replace the file between the two steps, so it is opened without
    /// blocking, and the type is checked again.
    fn open(
        &self,
        path: &Path,
        follow: bool,
        options: &mut OpenOptions,
    ) -> Result<OpenedFile, Error> {
        let found = if follow {
            self.dir.metadata(path)
        } else {
            self.dir.symlink_metadata(path)
        };
        // If the type cannot be read, try to open anyway: that may create the file, or else returns the better error.
        if let Ok(found) = found
            && !found.is_symlink()
        {
            only_files_and_directories(&found)?;
        }
        self.open_unseen(path, follow, options)
    }

    /// Opens without a check of the type before, and checks it afterwards.
    fn open_unseen(
        &self,
        path: &Path,
        follow: bool,
        options: &mut OpenOptions,
    ) -> Result<OpenedFile, Error> {
        options.maybe_dir(true).nonblock(true).follow(if follow {
            FollowSymlinks::Yes
        } else {
            FollowSymlinks::No
        });
        let file = self.dir.open_with(path, options)?;
        let found = file.metadata()?;
        only_files_and_directories(&found)?;
        Ok(if found.is_dir() {
            OpenedFile::Dir(Dir::from_std_file(file.into_std()))
        } else {
            OpenedFile::Regular(file.into_std())
        })
    }
}

enum OpenedFile {
    Dir(Dir),
    Regular(std::fs::File),
}

#[wiggle::async_trait]
impl WasiDir for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn open_file(
        &self,
        symlink_follow: bool,
        path: &str,
        oflags: OFlags,
        read: bool,
        write: bool,
        fdflags: FdFlags,
    ) -> Result<OpenResult, Error> {
        if write || oflags.intersects(OFlags::CREATE | OFlags::TRUNCATE) {
            self.may_write()?;
        }
        if fdflags.intersects(FdFlags::DSYNC | FdFlags::SYNC | FdFlags::RSYNC) {
            return Err(Error::not_supported());
        }
        let changing = OFlags::CREATE | OFlags::EXCLUSIVE | OFlags::TRUNCATE;
        if oflags.contains(OFlags::DIRECTORY) && oflags.intersects(changing) {
            return Err(Error::invalid_argument());
        }
        let handle = self.sandbox.may_open()?;

        let mut options = OpenOptions::new();
        if oflags.contains(OFlags::CREATE) {
            options.write(true);
            if oflags.contains(OFlags::EXCLUSIVE) {
                options.create_new(true);
            } else {
                options.create(true);
            }
        }
        options.truncate(oflags.contains(OFlags::TRUNCATE));
        if write {
            options.write(true);
        }
        // The system needs some access to open a file. wasi-common refuses reads that the guest has not asked for.
        options.read(read || !write);

        let path = Path::new(path);
        let opened = self
            .open(path, symlink_follow, &mut options)
            .or_else(|error| {
                // A file that may only be appended to is opened for nothing else.
                let append = write && fdflags.contains(FdFlags::APPEND);
                if !append
                    || oflags.contains(OFlags::TRUNCATE)
                    || error.downcast_ref() != Some(&Errno::Perm)
                {
                    return Err(error);
                }
                self.open(path, symlink_follow, options.append(true))
            });
        match opened? {
            OpenedFile::Dir(dir) => Ok(OpenResult::Dir(Box::new(Self {
                dir: Arc::new(dir),
                writable: self.writable,
                sandbox: Arc::clone(&self.sandbox),
                _handle: Some(handle),
            }))),
            OpenedFile::Regular(_) if oflags.contains(OFlags::DIRECTORY) => Err(Error::not_dir()),
            OpenedFile::Regular(file) => Ok(OpenResult::File(Box::new(OpenFile::new(
                File::from_cap_std(cap_std::fs::File::from_std(file)),
                fdflags,
                self.writable,
                (Arc::clone(&self.sandbox), handle),
            )))),
        }
    }

    async fn create_dir(&self, path: &str) -> Result<(), Error> {
        self.may_write()?;
        Ok(self.dir.create_dir(path)?)
    }

    async fn readdir(
        &self,
        cursor: ReaddirCursor,
    ) -> Result<Box<dyn Iterator<Item = Result<ReaddirEntity, Error>> + Send>, Error> {
        use std::os::unix::fs::DirEntryExt;

        let own = self.dir.dir_metadata()?.ino();
        let dots = [".", ".."].into_iter();
        let dots = dots.map(move |name| Ok(Some((FileType::Directory, own, name.to_owned()))));
        let entries = self.dir.entries()?.map(|entry| -> io::Result<_> {
            let entry = entry?;
            // Paths of a guest are UTF-8, so it could not use any other name.
            let Ok(name) = entry.file_name().into_string() else {
                return Ok(None);
            };
            Ok(Some((
                filetype_from(&entry.file_type()?),
                entry.ino(),
                name,
            )))
        });
        let skip = u64::from(cursor);
        let sandbox = Arc::clone(&self.sandbox);
        let listed = dots.chain(entries).enumerate();
        Ok(Box::new(listed.filter_map(move |(index, entry)| {
            if index % ENTRIES == 0 && sandbox.overdue() {
                return Some(Err(Errno::Intr.into()));
            }
            if (index as u64) < skip {
                return None;
            }
            match entry {
                Ok(Some((filetype, inode, name))) => Some(Ok(ReaddirEntity {
                    next: ReaddirCursor::from(index as u64 + 1),
                    inode,
                    name,
                    filetype,
                })),
                Ok(None) => None,
                Err(error) => Some(Err(error.into())),
            }
        })))
    }

    async fn symlink(&self, target: &str, path: &str) -> Result<(), Error> {
        self.may_write()?;
        // The guest could not follow such a link out of its mount, but another program that uses the directory could.
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(target).components().all(inside) {
            return Err(Error::perm());
        }
        Ok(self.dir.symlink(target, path)?)
    }

    async fn remove_dir(&self, path: &str) -> Result<(), Error> {
        self.may_write()?;
        Ok(self.dir.remove_dir(path)?)
    }

    async fn unlink_file(&self, path: &str) -> Result<(), Error> {
        self.may_write()?;
        Ok(self.dir.remove_file_or_symlink(path)?)
    }

    async fn read_link(&self, path: &str) -> Result<PathBuf, Error> {
        Ok(self.dir.read_link(path)?)
    }

    async fn get_filestat(&self) -> Result<Filestat, Error> {
        Ok(filestat(&self.dir.dir_metadata()?))
    }

    async fn get_path_filestat(
        &self,
        path: &str,
        follow_symlinks: bool,
    ) -> Result<Filestat, Error> {
        Ok(filestat(&if follow_symlinks {
            self.dir.metadata(path)?
        } else {
            self.dir.symlink_metadata(path)?
        }))
    }

    async fn rename(
        &self,
        path: &str,
        dest_dir: &dyn WasiDir,
        dest_path: &str,
    ) -> Result<(), Error> {
        let dest = as_directory(dest_dir.as_any()).ok_or_else(Error::badf)?;
        self.may_write()?;
        dest.may_write()?;
        Ok(self.dir.rename(path, &dest.dir, dest_path)?)
    }

    async fn hard_link(
        &self,
        path: &str,
        target_dir: &dyn WasiDir,
        target_path: &str,
    ) -> Result<(), Error> {
        let target = as_directory(target_dir.as_any()).ok_or_else(Error::badf)?;
        // The mount of the old name must be writable too, because the file could be changed through the new name.
        self.may_write()?;
        target.may_write()?;
        Ok(self.dir.hard_link(path, &target.dir, target_path)?)
    }

    async fn set_times(
        &self,
        path: &str,
        atime: Option<SystemTimeSpec>,
        mtime: Option<SystemTimeSpec>,
        follow_symlinks: bool,
    ) -> Result<(), Error> {
        self.may_write()?;
        let path = Path::new(path);
        if !follow_symlinks {
            return Ok(self.dir.set_symlink_times(path, spec(atime), spec(mtime))?);
        }
        // cap-std's function opens the file, and would block on a FIFO.
        let mut times = FileTimes::new();
        if let Some(at) = atime {
            times = times.set_accessed(time(at));
        }
        if let Some(at) = mtime {
            times = times.set_modified(time(at));
        }
        let file = match self.open(path, true, OpenOptions::new().read(true))? {
            OpenedFile::Dir(dir) => dir.into_std_file(),
            OpenedFile::Regular(file) => file,
        };
        Ok(file.set_times(times)?)
    }
}

fn only_files_and_directories(found: &Metadata) -> Result<(), Error> {
    if found.is_file() || found.is_dir() {
        Ok(())
    } else {
        Err(Errno::Acces.into())
    }
}

fn filestat(found: &Metadata) -> Filestat {
    sane(Filestat {
        device_id: found.dev(),
        inode: found.ino(),
        filetype: filetype_from(&found.file_type()),
        nlink: found.nlink(),
        size: found.len(),
        atim: found.accessed().ok().map(|at| at.into_std()),
        mtim: found.modified().ok().map(|at| at.into_std()),
        ctim: found.created().ok().map(|at| at.into_std()),
    })
}

/// Removes times before 1970, because wasi-common panics on them.
pub(super) fn sane(mut stat: Filestat) -> Filestat {
    for time in [&mut stat.atim, &mut stat.mtim, &mut stat.ctim] {
        *time = time.filter(|time| *time >= SystemTime::UNIX_EPOCH);
    }
    stat
}

fn time(at: SystemTimeSpec) -> SystemTime {
    match at {
        SystemTimeSpec::SymbolicNow => SystemTime::now(),
        SystemTimeSpec::Absolute(at) => at.into_std(),
    }
}

fn spec(at: Option<SystemTimeSpec>) -> Option<cap_fs_ext::SystemTimeSpec> {
    at.map(|at| match at {
        SystemTimeSpec::SymbolicNow => cap_fs_ext::SystemTimeSpec::SymbolicNow,
        SystemTimeSpec::Absolute(at) => cap_fs_ext::SystemTimeSpec::Absolute(at),
    })
}

#[cfg(test)]
mod tests {
    use super::super::FileBudget;
    use super::*;
    use wasi_common::sync::ambient_authority;

    fn sandbox() -> Arc<Sandbox> {
        Arc::new(Sandbox::new(FileBudget::new(10).share()))
    }

    #[test]
    fn special_files_that_appear_after_the_check_are_refused_without_blocking() {
        let dev = Dir::open_ambient_dir("/dev", ambient_authority()).expect("there is /dev");
        let dev = Directory::mount(Arc::new(dev), true, sandbox());
        let here = super::super::tests::Directory::new();
        here.fifo("fifo");
        let dir = Dir::open_ambient_dir(here.path(""), ambient_authority()).expect("a directory");
        let here = Directory::mount(Arc::new(dir), true, sandbox());
        for (directory, name) in [(&dev, "null"), (&here, "fifo")] {
            for (read, write) in [(true, false), (true, true), (false, true)] {
                let options = &mut OpenOptions::new();
                options.read(read).write(write);
                assert!(
                    directory
                        .open_unseen(Path::new(name), true, options)
                        .is_err()
                );
            }
        }
    }
}
