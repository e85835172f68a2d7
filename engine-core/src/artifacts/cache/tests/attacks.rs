//! What is done to entries and to the key.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::{Folder, Host, dropped_and_healed, filled};
use crate::CodeSource;
use crate::artifacts::cache::CacheConfig;
use crate::fake::Fake;

/// Numbers that differ from run to run; a failure prints what it was about.
fn random(below: usize) -> usize {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    (u64::from_le_bytes(bytes) % below as u64) as usize
}

#[test]
fn a_second_start_compiles_nothing() {
    let folder = filled(3);
    let host = Host::new(&folder.cache());
    for number in 1..=3 {
        assert_eq!(host.deploy(number), CodeSource::Cache);
    }
    assert_eq!((host.fake.compiled(), host.engine.compilations()), (0, 0));
    let stats = host.stats();
    assert_eq!((stats.hits, stats.misses), (3, 0));
    let sizes = folder.entries().into_iter().map(|entry| {
        let facts = fs::metadata(entry).unwrap();
        assert_eq!(facts.mode() & 0o777, 0o600);
        facts.len()
    });
    assert_eq!(stats.bytes, sizes.sum::<u64>());
    let metrics = host.engine.render_metrics();
    assert!(
        metrics.contains("gojinn_engine_cache_hits_total 3"),
        "{metrics}"
    );
}

#[test]
fn code_is_read_into_a_file_or_onto_the_heap() {
    let folder = filled(1);
    for maps in [true, false] {
        let fake = Fake {
            maps,
            ..Fake::new()
        };
        let host = Host::with(fake, CacheConfig::new(folder.cache()));
        assert_eq!(host.deploy(1), CodeSource::Cache);
        let mapped = host.fake.mapped.load(Ordering::SeqCst);
        assert_eq!(mapped > 0, maps && cfg!(target_os = "linux"));
    }
    // Onto the heap, damage is found as well.
    let entry = folder.entry();
    let mut damaged = fs::read(&entry).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&entry, damaged).unwrap();
    let fake = Fake {
        maps: false,
        ..Fake::new()
    };
    let host = Host::with(fake, CacheConfig::new(folder.cache()));
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert!(host.warning().contains("MAC"), "{}", host.warning());
}

#[test]
fn a_byte_flipped_anywhere() {
    let folder = filled(1);
    let entry = folder.entry();
    let sound = fs::read(&entry).unwrap();
    for _ in 0..200 {
        let (at, bit) = (random(sound.len()), random(8));
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&entry, &flipped).unwrap();
        dropped_and_healed(&folder, &format!("bit {bit} of byte {at}"));
    }
}

#[test]
fn a_length_that_promises_too_much() {
    let folder = filled(1);
    let entry = folder.entry();
    let sound = fs::read(&entry).unwrap();
    for len in [0, 1, u64::MAX, u64::MAX - 200, 1 << 40] {
        let mut forged = sound.clone();
        forged[24..32].copy_from_slice(&len.to_le_bytes());
        fs::write(&entry, &forged).unwrap();
        dropped_and_healed(&folder, &format!("length {len}"));
    }
}

#[test]
fn truncated_at_every_kind_of_place() {
    let folder = filled(1);
    let entry = folder.entry();
    let sound = fs::read(&entry).unwrap();
    let all = sound.len();
    for len in [
        0,
        1,
        7,
        8,
        23,
        71,
        72,
        73,
        80,
        82,
        all / 2,
        all - 33,
        all - 32,
        all - 31,
        all - 1,
    ] {
        fs::write(&entry, &sound[..len]).unwrap();
        dropped_and_healed(&folder, &format!("{len} of {all} bytes"));
    }
    fs::write(&entry, [sound.as_slice(), b"x"].concat()).unwrap();
    dropped_and_healed(&folder, "a byte too many");
    // A hole of a terabyte: nothing is reserved for it.
    fs::File::options()
        .write(true)
        .open(&entry)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let warning = dropped_and_healed(&folder, "a terabyte");
    assert!(warning.contains("larger"), "{warning}");
}

#[test]
fn two_entries_exchanged() {
    let folder = filled(2);
    let [one, two] = &folder.entries()[..] else {
        panic!("two entries")
    };
    let aside = folder.cache().join("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(two, one).unwrap();
    fs::rename(&aside, two).unwrap();
    let host = Host::new(&folder.cache());
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.deploy(2), CodeSource::Compiled);
    assert_eq!(host.stats().dropped, 2);
    assert_eq!(host.engine.warnings().len(), 2);
    let next = Host::new(&folder.cache());
    assert_eq!(
        (next.deploy(1), next.deploy(2)),
        (CodeSource::Cache, CodeSource::Cache)
    );
}

#[test]
fn an_entry_of_another_engine() {
    let folder = filled(1);
    let sound = folder.entry();
    let other = || Fake {
        fingerprint: "fake 2".into(),
        ..Fake::new()
    };
    // On its own it is simply not found.
    let host = Host::with(other(), CacheConfig::new(folder.cache()));
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!((host.stats().misses, host.stats().dropped), (1, 0));
    let [theirs] = &folder
        .entries()
        .into_iter()
        .filter(|entry| *entry != sound)
        .collect::<Vec<_>>()[..]
    else {
        panic!("one more entry")
    };
    // Under the other's name it is refused.
    fs::copy(theirs, &sound).unwrap();
    let warning = dropped_and_healed(&folder, "another engine's entry");
    assert!(warning.contains("another"), "{warning}");
}

#[test]
fn an_entry_of_another_installation() {
    let (folder, theirs) = (filled(1), filled(1));
    fs::copy(theirs.entry(), folder.entry()).unwrap();
    let warning = dropped_and_healed(&folder, "another installation's entry");
    assert!(warning.contains("MAC"), "{warning}");
}

#[test]
fn something_else_in_an_entrys_place() {
    let folder = filled(1);
    let entry = folder.entry();
    let elsewhere = folder.0.join("elsewhere");
    fs::copy(&entry, &elsewhere).unwrap();

    fs::remove_file(&entry).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    let warning = dropped_and_healed(&folder, "a link to a sound entry");
    assert!(warning.contains("symbolic link"), "{warning}");
    assert!(elsewhere.exists(), "what a link leads to is not touched");

    fs::remove_file(&entry).unwrap();
    symlink("/dev/zero", &entry).unwrap();
    dropped_and_healed(&folder, "a link to a device");

    // Nobody writes to it: whoever opened it to read would wait for ever.
    fs::remove_file(&entry).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&entry)
            .status()
            .unwrap()
            .success()
    );
    let warning = dropped_and_healed(&folder, "a FIFO");
    assert!(warning.contains("not a regular file"), "{warning}");

    fs::remove_file(&entry).unwrap();
    let socket = UnixListener::bind(&entry).unwrap();
    dropped_and_healed(&folder, "a socket");
    drop(socket);

    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    dropped_and_healed(&folder, "a folder");
}

#[test]
fn an_entry_that_others_may_write_or_own() {
    let folder = filled(1);
    let entry = folder.entry();
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&entry, fs::Permissions::from_mode(mode)).unwrap();
        let warning = dropped_and_healed(&folder, &format!("mode {mode:o}"));
        assert!(warning.contains(&format!("{mode:o}")), "{warning}");
    }
    // Only root can give a file away.
    let other = fs::metadata(&entry).unwrap().uid() + 1;
    if std::os::unix::fs::chown(&entry, Some(other), None).is_ok() {
        let warning = dropped_and_healed(&folder, "a foreign owner");
        assert!(warning.contains(&format!("user {other}")), "{warning}");
    }
}

#[test]
fn a_key_that_is_lost() {
    type Attack = fn(&std::path::Path);
    let attacks: [(&str, Attack); 6] = [
        ("removed", |key| fs::remove_file(key).unwrap()),
        ("cut short", |key| fs::write(key, [7; 31]).unwrap()),
        ("emptied", |key| fs::write(key, []).unwrap()),
        ("readable by others", |key| {
            fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("a link", |key| {
            let aside = key.with_file_name("aside");
            fs::rename(key, &aside).unwrap();
            symlink(&aside, key).unwrap();
        }),
        ("a folder", |key| {
            fs::remove_file(key).unwrap();
            fs::create_dir(key).unwrap();
        }),
    ];
    for (what, attack) in attacks {
        let folder = filled(3);
        let old = fs::read(folder.cache().join("key")).unwrap();
        attack(&folder.cache().join("key"));
        let host = Host::new(&folder.cache());
        assert_eq!(host.stats().dropped, 3, "{what}: no entry counts any more");
        assert_eq!(host.deploy(1), CodeSource::Compiled, "{what}");
        let warning = host.warning();
        assert!(warning.contains("3 entries"), "{what}: {warning}");
        let key = folder.cache().join("key");
        assert_ne!(fs::read(&key).unwrap(), old, "{what}");
        assert_eq!(fs::read(&key).unwrap().len(), 32, "{what}");
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600, "{what}");
        let next = Host::new(&folder.cache());
        assert_eq!(next.deploy(1), CodeSource::Cache, "{what}");
        assert_eq!(next.engine.warnings(), [""; 0], "{what}");
    }
}

#[test]
fn another_key_of_the_right_form() {
    let folder = filled(1);
    fs::write(folder.cache().join("key"), [7; 32]).unwrap();
    let warning = dropped_and_healed(&folder, "an exchanged key");
    assert!(warning.contains("MAC"), "{warning}");
}

#[test]
fn an_artifact_that_its_backend_refuses() {
    let folder = filled(1);
    let host = Host::new(&folder.cache());
    host.fake.refuse_loads.store(1, Ordering::SeqCst);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    let stats = host.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.dropped, stats.stored),
        (0, 1, 1, 1)
    );
    assert!(host.warning().contains("not today"));
    assert_eq!(Host::new(&folder.cache()).deploy(1), CodeSource::Cache);
}

#[test]
fn what_is_used_longest_ago_makes_room() {
    let folder = filled(4);
    let size = fs::metadata(&folder.entries()[0]).unwrap().len();
    for entry in folder.entries() {
        let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
        let file = fs::File::options().write(true).open(entry).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let bounded = || CacheConfig {
        max_bytes: 2 * size,
        ..CacheConfig::new(folder.cache())
    };
    Host::new(&folder.cache()).deploy(3);
    let host = Host::with(Fake::new(), bounded());
    assert_eq!((host.stats().evicted, host.stats().bytes), (2, 2 * size));
    assert_eq!(host.deploy(3), CodeSource::Cache, "used last, so kept");
    assert_eq!(host.deploy(9), CodeSource::Compiled);
    assert_eq!((host.stats().evicted, host.stats().bytes), (3, 2 * size));
    assert_eq!(host.deploy(3), CodeSource::Cache);
    assert_eq!(host.engine.warnings(), [""; 0], "making room is no trouble");
    assert_eq!(
        Host::with(Fake::new(), bounded()).deploy(9),
        CodeSource::Cache
    );
}

#[test]
fn an_entry_larger_than_the_cache_is_not_kept() {
    let folder = Folder::new();
    let config = CacheConfig {
        max_bytes: 1000,
        ..CacheConfig::new(folder.cache())
    };
    let host = Host::with(Fake::new(), config);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.stats().write_failures, 1);
    assert!(host.warning().contains("raise the cache's bound"));
    assert_eq!(folder.entries().len(), 0);
}

#[test]
fn what_dead_processes_left_behind_is_removed() {
    let folder = filled(1);
    let (old, new, foreign) = (
        folder.cache().join("tmp-0123"),
        folder.cache().join("tmp-4567"),
        folder.cache().join("notes.txt"),
    );
    for path in [&old, &new, &foreign] {
        fs::write(path, b"half").unwrap();
    }
    for path in [&old, &foreign] {
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let host = Host::new(&folder.cache());
    assert!(!old.exists());
    assert!(new.exists(), "it may be in use");
    assert!(foreign.exists(), "not ours");
    assert_eq!(host.deploy(1), CodeSource::Cache);
}
