//! A regular file inside of a mounted directory, as wasi-common uses it.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::sync::Arc;

use wasi_common::file::{Advice, FdFlags, FileType, Filestat, WasiFile};
use wasi_common::snapshots::preview_1::error::Errno;
use wasi_common::sync::file::File;
use wasi_common::{Error, SystemTimeSpec};

use super::directory::sane;
use super::{Handle, Sandbox};

/// The maximum number of bytes that one read or write transfers. A larger one is done in part, so that the deadline is
/// checked often.
const MOST: usize = 1 << 20;

/// An open file, in non-blocking mode. That has no effect on a file on disk, but reading some files that only look like
/// one, such as in `/proc`, would block.
///
/// It is not in append mode, in which Linux ignores the offset of `pwrite` and writes at the end.
pub(super) struct OpenFile {
    file: File,
    /// Whether the guest has asked for non-blocking mode. This is only shown to the guest.
    nonblock: bool,
    /// Whether the guest has asked for append mode: each `write` goes to the end.
    append: bool,
    writable: bool,
    /// The reference that counts this handle.
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

    /// Writes at the end, and sets the offset after the written bytes.
    async fn append(&self, bufs: &[IoSlice<'_>]) -> Result<u64, Error> {
        #[cfg(target_os = "linux")]
        if let Some(file) = self.file.pollable() {
            use rustix::io::{Errno, ReadWriteFlags, pwritev2};

            // With an offset of -1 the file's own offset moves. Bytes that another process appends are not overwritten.
            match pwritev2(file, bufs, u64::MAX, ReadWriteFlags::APPEND) {
                Ok(written) => return Ok(written as u64),
                // The file system, or a sandbox around the host, does not support the flag.
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
        // The modes of the file itself stay. This call only finds out whether there are flags that cannot be set.
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
        // The system would allow this for a file that is open for reading.
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

/// The first buffer that is not empty, cut to the maximum. wasi-common passes one buffer only.
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
