//! A regular file inside of a mounted folder, as wasi-common sees it.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::sync::Arc;

use wasi_common::file::{Advice, FdFlags, FileType, Filestat, WasiFile};
use wasi_common::snapshots::preview_1::error::Errno;
use wasi_common::sync::file::File;
use wasi_common::{Error, SystemTimeSpec};

use super::folder::sane;
use super::{Handle, Sandbox};

/// The most bytes one read or write moves; more is done in part, so that a look at the deadline is never far.
const MOST: usize = 1 << 20;

/// An open file, in non-blocking mode: that means nothing to a file on disk, but some that only look like one, as in
/// `/proc`, would make a read wait.
///
/// It is not in append mode, in which Linux would write at the end whatever offset `pwrite` is given.
pub(super) struct OpenFile {
    file: File,
    /// Whether the guest asked for non-blocking mode: what it is shown.
    nonblock: bool,
    /// Whether the guest asked for append mode: each `write` goes to the end.
    append: bool,
    writable: bool,
    /// Held to be counted.
    _counted: (Arc<Sandbox>, Handle),
}

impl OpenFile {
    pub(super) fn new(
        file: File,
        flags: FdFlags,
        writable: bool,
        counted: (Arc<Sandbox>, Handle),
    ) -> Self {
        Self {
            file,
            nonblock: flags.contains(FdFlags::NONBLOCK),
            append: flags.contains(FdFlags::APPEND),
            writable,
            _counted: counted,
        }
    }

    /// Writes at the end, and leaves the offset behind what was written.
    async fn append(&self, bufs: &[IoSlice<'_>]) -> Result<u64, Error> {
        #[cfg(target_os = "linux")]
        if let Some(file) = self.file.pollable() {
            use rustix::io::{Errno, ReadWriteFlags, pwritev2};

            // An offset of -1 moves the file's own one. Another process that appends is not written over.
            match pwritev2(file, bufs, u64::MAX, ReadWriteFlags::APPEND) {
                Ok(written) => return Ok(written as u64),
                // A file system, or a sandbox around the host, that does not know the flag.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        self.file.seek(SeekFrom::End(0)).await?;
        self.file.write_vectored(bufs).await
    }

    fn may_write(&self) -> Result<(), Error> {
        if self.writable {
            Ok(())
        } else {
            Err(Errno::Rofs.into())
        }
    }
}

#[wiggle::async_trait]
impl WasiFile for OpenFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        self.file.get_filetype().await
    }

    async fn datasync(&self) -> Result<(), Error> {
        self.file.datasync().await
    }

    async fn sync(&self) -> Result<(), Error> {
        self.file.sync().await
    }

    async fn get_fdflags(&self) -> Result<FdFlags, Error> {
        let mut flags = self.file.get_fdflags().await?;
        flags.set(FdFlags::NONBLOCK, self.nonblock);
        flags.set(FdFlags::APPEND, self.append);
        Ok(flags)
    }

    async fn set_fdflags(&mut self, flags: FdFlags) -> Result<(), Error> {
        // The modes of the file itself stay. wasi-common only finds out whether there are flags that cannot be set.
        let other = flags - FdFlags::APPEND;
        self.file.set_fdflags(other | FdFlags::NONBLOCK).await?;
        self.nonblock = flags.contains(FdFlags::NONBLOCK);
        self.append = flags.contains(FdFlags::APPEND);
        Ok(())
    }

    async fn get_filestat(&self) -> Result<Filestat, Error> {
        Ok(sane(self.file.get_filestat().await?))
    }

    async fn set_filestat_size(&self, size: u64) -> Result<(), Error> {
        self.may_write()?;
        self.file.set_filestat_size(size).await
    }

    async fn advise(&self, offset: u64, len: u64, advice: Advice) -> Result<(), Error> {
        self.file.advise(offset, len, advice).await
    }

    async fn set_times(
        &self,
        atime: Option<SystemTimeSpec>,
        mtime: Option<SystemTimeSpec>,
    ) -> Result<(), Error> {
        // The system would allow it on a file that is open for reading.
        self.may_write()?;
        self.file.set_times(atime, mtime).await
    }

    async fn read_vectored<'a>(&self, bufs: &mut [IoSliceMut<'a>]) -> Result<u64, Error> {
        match first_mut(bufs) {
            Some(buf) => self.file.read_vectored(&mut [buf]).await,
            None => Ok(0),
        }
    }

    async fn read_vectored_at<'a>(
        &self,
        bufs: &mut [IoSliceMut<'a>],
        offset: u64,
    ) -> Result<u64, Error> {
        match first_mut(bufs) {
            Some(buf) => self.file.read_vectored_at(&mut [buf], offset).await,
            None => Ok(0),
        }
    }

    async fn write_vectored<'a>(&self, bufs: &[IoSlice<'a>]) -> Result<u64, Error> {
        self.may_write()?;
        let bufs = bounded(bufs);
        if self.append && bufs.iter().any(|buf| !buf.is_empty()) {
            self.append(&bufs).await
        } else {
            self.file.write_vectored(&bufs).await
        }
    }

    async fn write_vectored_at<'a>(&self, bufs: &[IoSlice<'a>], offset: u64) -> Result<u64, Error> {
        self.may_write()?;
        self.file.write_vectored_at(&bounded(bufs), offset).await
    }

    async fn seek(&self, to: SeekFrom) -> Result<u64, Error> {
        self.file.seek(to).await
    }
}

/// The first buffer with room, bounded. wasi-common hands over one only.
fn first_mut<'b>(bufs: &'b mut [IoSliceMut<'_>]) -> Option<IoSliceMut<'b>> {
    let buf = bufs.iter_mut().find(|buf| !buf.is_empty())?;
    let len = buf.len().min(MOST);
    Some(IoSliceMut::new(&mut buf[..len]))
}

fn bounded<'b>(bufs: &'b [IoSlice<'_>]) -> Vec<IoSlice<'b>> {
    let mut room = MOST;
    let mut parts = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let len = buf.len().min(room);
        parts.push(IoSlice::new(&buf[..len]));
        room -= len;
    }
    parts
}
