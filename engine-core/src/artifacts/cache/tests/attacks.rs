//! Tests that damage, forge and exchange entries and the key.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::{Directory, Host, dropped_and_healed, filled};
use crate::CodeSource;
use crate::artifacts::cache::CacheConfig;
use crate::fake::Fake;

/// Numbers that differ from run to run. A failed assertion prints what was done.
fn random(below: usize) -> usize {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    (u64::from_le_bytes(bytes) % below as u64) as usize
}

#[test]
fn a_second_start_compiles_nothing() {
    let directory = filled(3);
    let host = Host::new(&directory.cache());
    for number in 1..=3 {
        assert_eq!(host.deploy(number), CodeSource::Cache);
    }
    assert_eq!((host.fake.compiled(), host.engine.compilations()), (0, 0));
    let stats = host.stats();
    assert_eq!((stats.hits, stats.misses), (3, 0));
    let sizes = directory.entries().into_iter().map(|entry| {
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
    let directory = filled(1);
    for maps in [true, false] {
        let fake = Fake {
            maps,
            ..Fake::new()
        };
        let host = Host::with(fake, CacheConfig::new(directory.cache()));
        assert_eq!(host.deploy(1), CodeSource::Cache);
        let mapped = host.fake.mapped.load(Ordering::SeqCst);
        assert_eq!(mapped > 0, maps && cfg!(target_os = "linux"));
    }
    // Damage is also found if the code is read to the heap.
    let entry = directory.entry();
    let mut damaged = fs::read(&entry).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&entry, damaged).unwrap();
    let fake = Fake {
        maps: false,
        ..Fake::new()
    };
    let host = Host::with(fake, CacheConfig::new(directory.cache()));
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert!(host.warning().contains("MAC"), "{}", host.warning());
}

#[test]
fn a_byte_flipped_anywhere() {
    let directory = filled(1);
    let entry = directory.entry();
    let sound = fs::read(&entry).unwrap();
    for _ in 0..200 {
        let (at, bit) = (random(sound.len()), random(8));
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&entry, &flipped).unwrap();
        dropped_and_healed(&directory, &format!("bit {bit} of byte {at}"));
    }
}

#[test]
fn a_length_that_promises_too_much() {
    let directory = filled(1);
    let entry = directory.entry();
    let sound = fs::read(&entry).unwrap();
    for len in [0, 1, u64::MAX, u64::MAX - 200, 1 << 40] {
        let mut forged = sound.clone();
        forged[24..32].copy_from_slice(&len.to_le_bytes());
        fs::write(&entry, &forged).unwrap();
        dropped_and_healed(&directory, &format!("length {len}"));
    }
}

#[test]
fn truncated_in_every_part() {
    let directory = filled(1);
    let entry = directory.entry();
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
        dropped_and_healed(&directory, &format!("{len} of {all} bytes"));
    }
    fs::write(&entry, [sound.as_slice(), b"x"].concat()).unwrap();
    dropped_and_healed(&directory, "a byte too many");
    // A sparse file of a terabyte: no memory is reserved for it.
    fs::File::options()
        .write(true)
        .open(&entry)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let warning = dropped_and_healed(&directory, "a terabyte");
    assert!(warning.contains("larger"), "{warning}");
}

#[test]
fn two_entries_exchanged() {
    let directory = filled(2);
    let [one, two] = &directory.entries()[..] else {
        panic!("two entries")
    };
    let aside = directory.cache().join("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(two, one).unwrap();
    fs::rename(&aside, two).unwrap();
    let host = Host::new(&directory.cache());
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.deploy(2), CodeSource::Compiled);
    assert_eq!(host.stats().dropped, 2);
    assert_eq!(host.engine.warnings().len(), 2);
    let next = Host::new(&directory.cache());
    assert_eq!(
        (next.deploy(1), next.deploy(2)),
        (CodeSource::Cache, CodeSource::Cache)
    );
}

#[test]
fn an_entry_of_another_engine() {
    let directory = filled(1);
    let sound = directory.entry();
    let other = || Fake {
        fingerprint: "fake 2".into(),
        ..Fake::new()
    };
    // Under its own name it is not found.
    let host = Host::with(other(), CacheConfig::new(directory.cache()));
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!((host.stats().misses, host.stats().dropped), (1, 0));
    let [theirs] = &directory
        .entries()
        .into_iter()
        .filter(|entry| *entry != sound)
        .collect::<Vec<_>>()[..]
    else {
        panic!("one more entry")
    };
    // Under the name of the other engine's entry it is refused.
    fs::copy(theirs, &sound).unwrap();
    let warning = dropped_and_healed(&directory, "another engine's entry");
    assert!(warning.contains("another"), "{warning}");
}

#[test]
fn an_entry_of_another_installation() {
    let (directory, theirs) = (filled(1), filled(1));
    fs::copy(theirs.entry(), directory.entry()).unwrap();
    let warning = dropped_and_healed(&directory, "another installation's entry");
    assert!(warning.contains("MAC"), "{warning}");
}

#[test]
fn another_kind_of_file_instead_of_an_entry() {
    let directory = filled(1);
    let entry = directory.entry();
    let elsewhere = directory.0.join("elsewhere");
    fs::copy(&entry, &elsewhere).unwrap();

    fs::remove_file(&entry).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    let warning = dropped_and_healed(&directory, "a link to a sound entry");
    assert!(warning.contains("symbolic link"), "{warning}");
    assert!(elsewhere.exists(), "what a link leads to is not touched");

    fs::remove_file(&entry).unwrap();
    symlink("/dev/zero", &entry).unwrap();
    dropped_and_healed(&directory, "a link to a device");

    // No process writes to this FIFO: opening it for reading would block for ever.
    fs::remove_file(&entry).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&entry)
            .status()
            .unwrap()
            .success()
    );
    let warning = dropped_and_healed(&directory, "a FIFO");
    assert!(warning.contains("not a regular file"), "{warning}");

    fs::remove_file(&entry).unwrap();
    let socket = UnixListener::bind(&entry).unwrap();
    dropped_and_healed(&directory, "a socket");
    drop(socket);

    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    dropped_and_healed(&directory, "a directory");
}

#[test]
fn an_entry_that_others_may_write_or_own() {
    let directory = filled(1);
    let entry = directory.entry();
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&entry, fs::Permissions::from_mode(mode)).unwrap();
        let warning = dropped_and_healed(&directory, &format!("mode {mode:o}"));
        assert!(warning.contains(&format!("{mode:o}")), "{warning}");
    }
    // Only root can give a file away.
    let other = fs::metadata(&entry).unwrap().uid() + 1;
    if std::os::unix::fs::chown(&entry, Some(other), None).is_ok() {
        let warning = dropped_and_healed(&directory, "a foreign owner");
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
        ("a directory", |key| {
            fs::remove_file(key).unwrap();
            fs::create_dir(key).unwrap();
        }),
    ];
    for (what, attack) in attacks {
        let directory = filled(3);
        let old = fs::read(directory.cache().join("key")).unwrap();
        attack(&directory.cache().join("key"));
        let host = Host::new(&directory.cache());
        assert_eq!(host.stats().dropped, 3, "{what}: all entries are dropped");
        assert_eq!(host.deploy(1), CodeSource::Compiled, "{what}");
        let warning = host.warning();
        assert!(warning.contains("3 entries"), "{what}: {warning}");
        let key = directory.cache().join("key");
        assert_ne!(fs::read(&key).unwrap(), old, "{what}");
        assert_eq!(fs::read(&key).unwrap().len(), 32, "{what}");
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600, "{what}");
        let next = Host::new(&directory.cache());
        assert_eq!(next.deploy(1), CodeSource::Cache, "{what}");
        assert_eq!(next.engine.warnings(), [""; 0], "{what}");
    }
}

#[test]
fn another_key_of_the_right_form() {
    let directory = filled(1);
    fs::write(directory.cache().join("key"), [7; 32]).unwrap();
    let warning = dropped_and_healed(&directory, "an exchanged key");
    assert!(warning.contains("MAC"), "{warning}");
}

#[test]
fn an_artifact_that_its_backend_refuses() {
    let directory = filled(1);
    let host = Host::new(&directory.cache());
    host.fake.refuse_loads.store(1, Ordering::SeqCst);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    let stats = host.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.dropped, stats.stored),
        (0, 1, 1, 1)
    );
    assert!(host.warning().contains("not today"));
    assert_eq!(Host::new(&directory.cache()).deploy(1), CodeSource::Cache);
}

#[test]
fn entries_that_were_used_longest_ago_are_evicted() {
    let directory = filled(4);
    let size = fs::metadata(&directory.entries()[0]).unwrap().len();
    for entry in directory.entries() {
        let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
        let file = fs::File::options().write(true).open(entry).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let bounded = || CacheConfig {
        max_bytes: 2 * size,
        ..CacheConfig::new(directory.cache())
    };
    Host::new(&directory.cache()).deploy(3);
    let host = Host::with(Fake::new(), bounded());
    assert_eq!((host.stats().evicted, host.stats().bytes), (2, 2 * size));
    assert_eq!(host.deploy(3), CodeSource::Cache, "used last, so kept");
    assert_eq!(host.deploy(9), CodeSource::Compiled);
    assert_eq!((host.stats().evicted, host.stats().bytes), (3, 2 * size));
    assert_eq!(host.deploy(3), CodeSource::Cache);
    assert_eq!(
        host.engine.warnings(),
        [""; 0],
        "evicting causes no warning"
    );
    assert_eq!(
        Host::with(Fake::new(), bounded()).deploy(9),
        CodeSource::Cache
    );
}

#[test]
fn an_entry_larger_than_the_cache_is_not_kept() {
    let directory = Directory::new();
    let config = CacheConfig {
        max_bytes: 1000,
        ..CacheConfig::new(directory.cache())
    };
    let host = Host::with(Fake::new(), config);
    assert_eq!(host.deploy(1), CodeSource::Compiled);
    assert_eq!(host.stats().write_failures, 1);
    assert!(host.warning().contains("raise the cache's bound"));
    assert_eq!(directory.entries().len(), 0);
}

#[test]
fn files_of_dead_processes_are_removed() {
    let directory = filled(1);
    let (old, new, foreign) = (
        directory.cache().join("tmp-0123"),
        directory.cache().join("tmp-4567"),
        directory.cache().join("notes.txt"),
    );
    for path in [&old, &new, &foreign] {
        fs::write(path, b"half").unwrap();
    }
    for path in [&old, &foreign] {
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let host = Host::new(&directory.cache());
    assert!(!old.exists());
    assert!(new.exists(), "it may be in use");
    assert!(foreign.exists(), "not ours");
    assert_eq!(host.deploy(1), CodeSource::Cache);
}
