//! Tests with a directory that cannot be used: the engine works without it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::{Directory, Host, filled};
use crate::CodeSource;
use crate::artifacts::cache::{CacheConfig, Purged};
use crate::engine::FunctionConfig;
use crate::error::ErrorKind;
use crate::fake::{Fake, module};

/// Makes an engine on a directory that cannot be used. It works, and says once why there is no cache.
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
fn a_directory_is_made_private() {
    let directory = Directory::new();
    let deep = directory.0.join("a/b/cache");
    assert_eq!(Host::new(&deep).deploy(1), CodeSource::Compiled);
    assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, 0o700);
    assert_eq!(Host::new(&deep).deploy(1), CodeSource::Cache);
}

#[test]
fn a_directory_that_others_can_write_to() {
    for mode in [0o720, 0o702, 0o777, 0o1777] {
        let directory = filled(1);
        fs::set_permissions(directory.cache(), fs::Permissions::from_mode(mode)).unwrap();
        let warning = unused(&directory.cache());
        assert!(warning.contains("chmod 700"), "{warning}");
    }
}

#[test]
fn a_directory_of_another_user() {
    let directory = filled(1);
    // Only root can give a directory away.
    let other = fs::metadata(directory.cache()).unwrap().uid() + 1;
    if std::os::unix::fs::chown(directory.cache(), Some(other), None).is_ok() {
        let warning = unused(&directory.cache());
        assert!(warning.contains(&format!("user {other}")), "{warning}");
    }
}

#[test]
fn a_link_to_a_directory() {
    let directory = filled(1);
    let link = directory.0.join("link");
    symlink(directory.cache(), &link).unwrap();
    let warning = unused(&link);
    assert!(warning.contains("symbolic link"), "{warning}");
    let warning = unused(&directory.0.join("link/"));
    assert!(warning.contains("symbolic link"), "{warning}");
    assert_eq!(Host::new(&directory.cache()).deploy(1), CodeSource::Cache);
}

#[test]
fn not_a_directory() {
    let directory = Directory::new();
    fs::write(directory.cache(), b"a file").unwrap();
    let warning = unused(&directory.cache());
    assert!(warning.contains("not a directory"), "{warning}");
    let warning = unused(&directory.cache().join("below"));
    assert!(warning.contains("cannot be made"), "{warning}");
    unused(Path::new("/proc/no/such/directory"));
    unused(Path::new(""));
}

#[test]
fn a_directory_that_goes_away() {
    let directory = filled(1);
    let host = Host::new(&directory.cache());
    fs::remove_dir_all(directory.cache()).unwrap();
    for number in 1..=3 {
        assert_eq!(host.deploy(number), CodeSource::Compiled);
    }
    assert_eq!(host.stats().write_failures, 3);
    assert!(host.warning().contains("cannot be written to"));
}

#[test]
fn a_directory_that_is_read_only() {
    let directory = filled(1);
    fs::set_permissions(directory.cache(), fs::Permissions::from_mode(0o500)).unwrap();
    let host = Host::new(&directory.cache());
    assert_eq!(host.deploy(1), CodeSource::Cache);
    let writable = fs::write(directory.cache().join("probe"), b"").is_ok();
    assert_eq!(host.deploy(2), CodeSource::Compiled);
    // Root can write whatever the permissions are.
    if !writable {
        assert_eq!(host.stats().write_failures, 1);
        assert!(host.warning().contains("cannot be written to"));
    }
    fs::set_permissions(directory.cache(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_interpreters_code_is_not_kept() {
    let directory = Directory::new();
    let interpreter = Fake {
        native: false,
        ..Fake::new()
    };
    let host = Host::with(interpreter, CacheConfig::new(directory.cache()));
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!((host.stats().misses, host.stats().stored), (0, 0));
    assert_eq!(directory.entries().len(), 0);
}

#[test]
fn a_purge_leaves_running_functions_alone() {
    let directory = filled(2);
    let host = Host::new(&directory.cache());
    let config = FunctionConfig::default();
    let running = host.engine.deploy(&module(1), config).unwrap();
    let bytes = host.stats().bytes;
    let purged = host.engine.purge_cache().unwrap();
    assert_eq!(purged, Purged { entries: 2, bytes });
    assert_eq!((directory.entries().len(), host.stats().bytes), (0, 0));
    assert_eq!(host.engine.purge_cache().unwrap(), Purged::default());

    assert_eq!(host.deploy(1), CodeSource::Memory);
    drop(running);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.deploy(1), CodeSource::Cache, "the key is the same");
    assert_eq!(host.engine.warnings(), [""; 0]);
}

#[test]
fn a_purge_that_fails_is_an_error() {
    let directory = filled(1);
    let host = Host::new(&directory.cache());
    let entry = directory.entry();
    fs::remove_file(&entry).unwrap();
    fs::create_dir_all(entry.join("full")).unwrap();
    let error = host.engine.purge_cache().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.to_string().contains("still there"), "{error}");

    let not_a_directory = directory.0.join("file");
    fs::write(&not_a_directory, b"").unwrap();
    let error = Host::new(&not_a_directory)
        .engine
        .purge_cache()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
