//! Mounts: directories of the host that a function may use. They are opened once at deployment, and each sandbox gets
//! them.
//!
//! wasi-common implements the calls. It works on our types for directories and files ([`directory`], [`mod@file`]),
//! which make sure that read-only mounts are not changed, and that only regular files and directories are opened.

mod budget;
mod directory;
mod file;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use wasi_common::WasiCtx;
use wasi_common::clocks::WasiClocks;
use wasi_common::snapshots::preview_1::error::Errno as WasiErrno;
use wasi_common::snapshots::preview_1::wasi_snapshot_preview1;
use wasi_common::sync::{Dir, ambient_authority, random_ctx, sched_ctx};
use wasi_common::table::Table;
use wiggle::GuestError;

pub use self::budget::FileBudget;
use self::budget::{Handle, Share};
use self::directory::Directory;
use super::errno::{Errno, Fail};
use super::rights::LostRights;
use crate::calls::Call;
use crate::error::{Error, Result};

/// One mount of a function: `mount <host> <guest> [rw]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountSpec {
    /// The directory on the host.
    pub host: PathBuf,
    /// The absolute path at which the guest sees it.
    pub guest: String,
    /// Whether the guest may change its contents.
    pub writable: bool,
}

/// The descriptor of the first mount.
const FIRST_FD: usize = 3;

/// The mounts of a function, opened when it is deployed.
///
/// They stay open. If another directory is moved to the path of one, sandboxes see it only after the next deployment.
#[derive(Clone, Debug)]
pub struct MountSet {
    mounts: Arc<[Mount]>,
    share: Arc<Share>,
}

#[derive(Debug)]
struct Mount {
    dir: Arc<Dir>,
    guest: PathBuf,
    writable: bool,
}

impl MountSet {
    /// Opens the directories, for a function that gets its share of `budget`. The error names the mount and what is wrong
    /// with it.
    pub fn new(specs: &[MountSpec], budget: &FileBudget) -> Result<Self> {
        let mut mounts: Vec<Mount> = Vec::with_capacity(specs.len());
        for spec in specs {
            let guest = guest_path(&spec.guest).map_err(|error| error.within(name(spec)))?;
            if mounts.iter().any(|mount| mount.guest == guest) {
                let message =
                    "another mount has the same guest path; give each mount a different one";
                return Err(Error::config(message).within(name(spec)));
            }
            let dir = open_directory(&spec.host).map_err(|error| error.within(name(spec)))?;
            mounts.push(Mount {
                dir: Arc::new(dir),
                guest,
                writable: spec.writable,
            });
        }
        Ok(Self {
            mounts: mounts.into(),
            share: budget.share(),
        })
    }

    /// Whether there are no mounts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// The same mounts, all read-only.
    pub(crate) fn read_only(&self) -> Self {
        let mounts = self.mounts.iter().map(|mount| Mount {
            dir: Arc::clone(&mount.dir),
            guest: mount.guest.clone(),
            writable: false,
        });
        Self {
            mounts: mounts.collect(),
            share: Arc::clone(&self.share),
        }
    }

    /// Whether the guest may write to any of them.
    pub(crate) fn any_writable(&self) -> bool {
        self.mounts.iter().any(|mount| mount.writable)
    }

    /// The mounts of one sandbox: descriptors 3 and up, in the order of the specs.
    pub fn open(&self) -> Result<Mounts> {
        let sandbox = Arc::new(Sandbox::new(Arc::clone(&self.share)));
        // wasi-common's own clocks and random numbers are not used: we implement those hostcalls.
        let mut context = WasiCtx::new(random_ctx(), WasiClocks::new(), sched_ctx(), Table::new());
        for fd in 0..FIRST_FD as i32 {
            // Close wasi-common's standard streams: we implement those. Their numbers are then free for other
            // descriptors.
            let mut nothing = wiggle::GuestMemory::Unshared(&mut []);
            let closed = settle(wasi_snapshot_preview1::fd_close(
                &mut context,
                &mut nothing,
                fd,
            ));
            debug_assert_eq!(closed, Ok(()));
        }
        for mount in self.mounts.iter() {
            let directory =
                Directory::mount(Arc::clone(&mount.dir), mount.writable, Arc::clone(&sandbox));
            context
                .push_preopened_dir(Box::new(directory), &mount.guest)
                .map_err(|error| {
                    let guest = mount.guest.display();
                    Error::host(format!("cannot mount {guest}: {error}"))
                })?;
        }
        Ok(Mounts {
            context,
            sandbox,
            lost: LostRights::default(),
            is_renumbered: false,
        })
    }
}

/// The open directories and files of one sandbox.
pub struct Mounts {
    pub(super) context: WasiCtx,
    sandbox: Arc<Sandbox>,
    /// The rights that the guest has given up.
    pub(super) lost: LostRights,
    /// Whether a descriptor has the number of another one.
    is_renumbered: bool,
}

impl Mounts {
    /// Whether a directory or file is open as `fd`.
    pub(super) fn is_open(&self, fd: i32) -> bool {
        self.context.table().contains_key(fd.cast_unsigned())
    }

    /// Whether the descriptors differ from those that [`MountSet::open`] of `set` makes: another one is open, one is
    /// closed, has lost rights or has another number.
    pub(crate) fn changed(&self, set: &MountSet) -> bool {
        let mut mounts = FIRST_FD..FIRST_FD + set.mounts.len();
        self.is_renumbered
            || !self.lost.is_empty()
            || self.sandbox.handles() != mounts.len()
            || mounts.any(|fd| !self.is_open(fd as i32))
    }

    /// Records that the descriptor `from` is `to` now, which was closed before. Moves it if it is a directory or file.
    pub(super) fn renumbered(
        &mut self,
        is_mounted: bool,
        from: i32,
        to: i32,
    ) -> std::result::Result<(), Fail> {
        self.is_renumbered = true;
        if is_mounted {
            let moved = self
                .context
                .table()
                .renumber(from.cast_unsigned(), to.cast_unsigned());
            moved.map_err(|_| Errno::BADF)?;
            self.lost.renumber(from, to);
        }
        Ok(())
    }

    /// Must be called before each use of `context`. Tells long operations the deadline.
    pub(super) fn begin(&self, call: &Call) {
        let _ = self.sandbox.deadline.set(call.deadline());
    }
}

impl fmt::Debug for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounts").finish_non_exhaustive()
    }
}

/// What the directories and files of one sandbox share. Each holds a reference to it, so the number of references is
/// the number of open handles.
#[derive(Debug)]
struct Sandbox {
    deadline: OnceLock<Instant>,
    share: Arc<Share>,
}

impl Sandbox {
    /// The most directories and files one sandbox has open.
    const HANDLES: usize = 256;

    fn new(share: Arc<Share>) -> Self {
        Self {
            deadline: OnceLock::new(),
            share,
        }
    }

    /// One more directory or file. EMFILE: this guest has too many; ENFILE: all guests together have.
    fn may_open(self: &Arc<Self>) -> std::result::Result<Handle, WasiErrno> {
        if self.handles() >= Self::HANDLES {
            return Err(WasiErrno::Mfile);
        }
        self.share.open().ok_or(WasiErrno::Nfile)
    }

    /// The number of open directories and files.
    fn handles(self: &Arc<Self>) -> usize {
        // `Mounts` holds one reference.
        Arc::strong_count(self) - 1
    }

    fn overdue(&self) -> bool {
        self.deadline
            .get()
            .is_some_and(|deadline| Instant::now() >= *deadline)
    }
}

/// Calls one of wasi-common's functions on the mounts of the host state: `forward!(host, memory, NAME(ARGS))`. EBADF if
/// there are no mounts.
macro_rules! forward {
    ($host:expr, $memory:expr, $name:ident ( $( $arg:expr ),* )) => {{
        let mounts = $host.mounts.as_mut().ok_or($crate::sandbox::wasi::errno::Errno::BADF)?;
        if let Some(observed) = &mut $host.observed {
            observed.file(stringify!($name));
        }
        mounts.begin(&$host.call);
        let mut guest = wiggle::GuestMemory::Unshared(&mut *$memory);
        $crate::sandbox::wasi::mounts::settle(
            wasi_common::snapshots::preview_1::wasi_snapshot_preview1::$name(
                &mut mounts.context,
                &mut guest,
                $( $arg ),*
            ),
        )
    }};
}
pub(super) use forward;

/// Runs one of wasi-common's functions, which all complete at once, and translates the result.
pub(super) fn settle(
    call: impl Future<Output = wiggle::anyhow::Result<i32>>,
) -> std::result::Result<(), Fail> {
    let call = pin!(call);
    let mut task = Context::from_waker(Waker::noop());
    // A panic in wasi-common, because of an unusual file, must not end the host.
    match catch_unwind(AssertUnwindSafe(move || call.poll(&mut task))) {
        Ok(Poll::Ready(Ok(0))) => Ok(()),
        Ok(Poll::Ready(Ok(errno))) => {
            Err(Errno(u16::try_from(errno).unwrap_or(Errno::IO.0)).into())
        }
        Ok(Poll::Ready(Err(trap))) => Err(errno_of(&trap).into()),
        Ok(Poll::Pending) | Err(_) => Err(Errno::IO.into()),
    }
}

/// The errno for a trap of wasi-common, which traps on bad pointers and on errors without a number.
fn errno_of(trap: &wiggle::anyhow::Error) -> Errno {
    if let Some(error) = trap.downcast_ref::<GuestError>() {
        return guest_errno(error);
    }
    trap.downcast_ref::<io::Error>()
        .map_or(Errno::IO, Errno::of_io)
}

fn guest_errno(error: &GuestError) -> Errno {
    match error {
        GuestError::PtrOverflow | GuestError::PtrOutOfBounds(_) => Errno::FAULT,
        GuestError::InvalidUtf8(_) => Errno::ILSEQ,
        GuestError::InFunc { err, .. } => guest_errno(err),
        _ => Errno::INVAL,
    }
}

fn name(spec: &MountSpec) -> String {
    format!("mount {} {}", spec.host.display(), spec.guest)
}

/// The guest path without a slash at its end. An error if a guest could not open it.
fn guest_path(path: &str) -> Result<PathBuf> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Error::config("the guest path must be absolute, like /data"));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if path != "/" && !rest.split('/').all(plain) {
        return Err(Error::config(
            "the guest path must not have empty parts, `.`, `..` or NUL in it",
        ));
    }
    Ok(Path::new("/").join(rest))
}

fn open_directory(path: &Path) -> Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "the host directory does not exist; create it first",
            io::ErrorKind::NotADirectory => {
                "the host path is not a directory; mount the directory that contains it"
            }
            io::ErrorKind::PermissionDenied => {
                "the server's user may not read the host directory; check its permissions"
            }
            _ => "the host directory cannot be opened",
        };
        Error::config(message).because(error)
    })
}

/// The other directory of a rename or link, if it is one of ours.
fn as_directory(any: &dyn Any) -> Option<&Directory> {
    any.downcast_ref::<Directory>()
}

#[cfg(test)]
mod tests;
