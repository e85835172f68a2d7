//! What is done to the folder: the engine serves without it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::{Folder, Host, filled};
use crate::CodeSource;
use crate::artifacts::cache::{CacheConfig, Purged};
use crate::engine::FunctionConfig;
use crate::error::ErrorKind;
use crate::fake::{Fake, module};

/// An engine on a folder that cannot be used: it serves, and says why once.
#[track_caller]
fn unused(cache: &Path) -> String {
    let host = Host::new(cache);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.deploy(2), CodeSource::Compiled);
    let stats = host.stats();
    assert_eq!((stats.hits, stats.stored, stats.dropped), (0, 0, 0));
    let warning = host.warning();
    assert!(warning.contains("is not used"), "{warning}");
    warning
}

#[test]
fn a_folder_is_made_private() {
    let folder = Folder::new();
    let deep = folder.0.join("a/b/cache");
    assert_eq!(Host::new(&deep).deploy(1), CodeSource::Compiled);
    assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, 0o700);
    assert_eq!(Host::new(&deep).deploy(1), CodeSource::Cache);
}

#[test]
fn a_folder_that_others_can_write_to() {
    for mode in [0o720, 0o702, 0o777, 0o1777] {
        let folder = filled(1);
        fs::set_permissions(folder.cache(), fs::Permissions::from_mode(mode)).unwrap();
        let warning = unused(&folder.cache());
        assert!(warning.contains("chmod 700"), "{warning}");
    }
}

#[test]
fn a_folder_of_somebody_else() {
    let folder = filled(1);
    // Only root can give a folder away.
    let other = fs::metadata(folder.cache()).unwrap().uid() + 1;
    if std::os::unix::fs::chown(folder.cache(), Some(other), None).is_ok() {
        let warning = unused(&folder.cache());
        assert!(warning.contains(&format!("user {other}")), "{warning}");
    }
}

#[test]
fn a_link_to_a_folder() {
    let folder = filled(1);
    let link = folder.0.join("link");
    symlink(folder.cache(), &link).unwrap();
    let warning = unused(&link);
    assert!(warning.contains("symbolic link"), "{warning}");
    let warning = unused(&folder.0.join("link/"));
    assert!(warning.contains("symbolic link"), "{warning}");
    assert_eq!(Host::new(&folder.cache()).deploy(1), CodeSource::Cache);
}

#[test]
fn not_a_folder() {
    let folder = Folder::new();
    fs::write(folder.cache(), b"a file").unwrap();
    let warning = unused(&folder.cache());
    assert!(warning.contains("not a folder"), "{warning}");
    let warning = unused(&folder.cache().join("below"));
    assert!(warning.contains("cannot be made"), "{warning}");
    unused(Path::new("/proc/no/such/folder"));
    unused(Path::new(""));
}

#[test]
fn a_folder_that_goes_away() {
    let folder = filled(1);
    let host = Host::new(&folder.cache());
    fs::remove_dir_all(folder.cache()).unwrap();
    for number in 1..=3 {
        assert_eq!(host.deploy(number), CodeSource::Compiled);
    }
    assert_eq!(host.stats().write_failures, 3);
    assert!(host.warning().contains("cannot be written to"));
}

#[test]
fn a_folder_that_is_read_only() {
    let folder = filled(1);
    fs::set_permissions(folder.cache(), fs::Permissions::from_mode(0o500)).unwrap();
    let host = Host::new(&folder.cache());
    assert_eq!(host.deploy(1), CodeSource::Cache);
    let writable = fs::write(folder.cache().join("probe"), b"").is_ok();
    assert_eq!(host.deploy(2), CodeSource::Compiled);
    // Permissions do not keep root out.
    if !writable {
        assert_eq!(host.stats().write_failures, 1);
        assert!(host.warning().contains("cannot be written to"));
    }
    fs::set_permissions(folder.cache(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_interpreters_code_is_not_kept() {
    let folder = Folder::new();
    let interpreter = Fake {
        native: false,
        ..Fake::new()
    };
    let host = Host::with(interpreter, CacheConfig::new(folder.cache()));
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!((host.stats().misses, host.stats().stored), (0, 0));
    assert_eq!(folder.entries().len(), 0);
}

#[test]
fn a_purge_leaves_what_runs() {
    let folder = filled(2);
    let host = Host::new(&folder.cache());
    let config = FunctionConfig::default();
    let running = host.engine.deploy(&module(1), config).unwrap();
    let bytes = host.stats().bytes;
    let purged = host.engine.purge_cache().unwrap();
    assert_eq!(purged, Purged { entries: 2, bytes });
    assert_eq!((folder.entries().len(), host.stats().bytes), (0, 0));
    assert_eq!(host.engine.purge_cache().unwrap(), Purged::default());

    assert_eq!(host.deploy(1), CodeSource::Memory);
    drop(running);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.deploy(1), CodeSource::Cache, "the key is the same");
    assert_eq!(host.engine.warnings(), [""; 0]);
}

#[test]
fn what_cannot_be_purged_is_said() {
    let folder = filled(1);
    let host = Host::new(&folder.cache());
    let entry = folder.entry();
    fs::remove_file(&entry).unwrap();
    fs::create_dir_all(entry.join("full")).unwrap();
    let error = host.engine.purge_cache().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.to_string().contains("still there"), "{error}");

    let not_a_folder = folder.0.join("file");
    fs::write(&not_a_folder, b"").unwrap();
    let error = Host::new(&not_a_folder).engine.purge_cache().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
