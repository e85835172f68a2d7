//! The seeds of the target `wasi`, as source. `fuzz/tests/seeds.rs` checks that the files equal it.

use super::scenario::{Op, Scenario};

/// All seeds: the name of the file, and the scenario.
#[must_use]
pub fn all() -> Vec<(&'static str, Scenario)> {
    let plain = |steps: Vec<Vec<Op>>| scenario(false, steps);
    let mounted = |steps: Vec<Vec<Op>>| scenario(true, steps);
    vec![
        ("nothing", plain(vec![])),
        (
            "read-stdin-and-echo-it",
            plain(vec![
                text(256, "    "),
                iovec(0, 512, 16),
                call("fd_read", &[0, 0, 1, 16]),
                call("fd_write", &[1, 0, 1, 24]),
                call("fd_read", &[0, 0, 1, 16]),
                call("fd_write", &[2, 0, 1, 24]),
            ]),
        ),
        (
            "arguments-and-environment",
            plain(vec![
                call("args_sizes_get", &[0, 4]),
                call("args_get", &[64, 512]),
                call("environ_sizes_get", &[8, 12]),
                call("environ_get", &[128, 1024]),
                call("environ_get", &[65_532, 65_530]),
            ]),
        ),
        (
            "arguments-over-the-end-of-memory",
            plain(vec![
                call("args_get", &[131_064, 131_070]),
                call("environ_get", &[-4, -1]),
                call("args_sizes_get", &[131_069, 0]),
            ]),
        ),
        (
            "overlapping-iovecs-read-into-themselves",
            plain(vec![
                iovec(0, 0, 24),
                iovec(8, 4, 24),
                iovec(16, 8, -1),
                call("fd_read", &[0, 0, 3, 4]),
                call("fd_read", &[0, 0, 2, 8]),
                call("fd_write", &[1, 0, 3, 0]),
            ]),
        ),
        (
            "more-iovecs-than-allowed",
            plain(vec![
                call("fd_write", &[1, 0, 1024, 8]),
                call("fd_write", &[1, 0, 1025, 8]),
                call("fd_write", &[2, 0, -1, 8]),
                call("fd_read", &[0, 131_064, 2, 8]),
            ]),
        ),
        (
            "more-output-than-allowed",
            plain(vec![
                // Three writes with twice the limit of a body and 256 KiB; then an empty one, and then one byte too many.
                iovec(0, 0, 131_072),
                call("fd_write", &[1, 0, 1, 8]),
                iovec(0, 0, 131_072),
                call("fd_write", &[1, 0, 1, 8]),
                iovec(0, 0, 8192),
                call("fd_write", &[1, 0, 1, 8]),
                iovec(0, 0, 0),
                call("fd_write", &[1, 0, 1, 8]),
                iovec(0, 0, 1),
                call("fd_write", &[1, 0, 1, 8]),
            ]),
        ),
        (
            "log-lines-of-all-kinds",
            plain(vec![
                text(64, "one\ntwo\n\nthree"),
                iovec(0, 64, 14),
                call("fd_write", &[2, 0, 1, 16]),
                call("host_log", &[0, 64, 3]),
                call("host_log", &[99, 64, 9000]),
                call("host_log", &[-1, -1, -1]),
                call("fd_write", &[2, 0, 1, 16]),
            ]),
        ),
        (
            "standard-descriptors-renumbered-and-closed",
            plain(vec![
                call("fd_fdstat_get", &[1, 64]),
                call("fd_fdstat_set_flags", &[1, 4]),
                call("fd_filestat_get", &[2, 128]),
                call("fd_seek", &[0, 0, 1, 8]),
                call("fd_tell", &[1, 8]),
                call("fd_renumber", &[1, 2]),
                call("fd_renumber", &[0, 0]),
                call("fd_close", &[1]),
                call("fd_close", &[1]),
                call("fd_write", &[1, 0, 0, 8]),
                call("fd_renumber", &[2, 1]),
                call("fd_prestat_get", &[3, 8]),
            ]),
        ),
        (
            "clocks-and-randomness",
            plain(vec![
                call("clock_res_get", &[0, 0]),
                call("clock_time_get", &[1, 1, 8]),
                call("clock_time_get", &[4, 0, 8]),
                call("clock_time_get", &[0, 0, 131_065]),
                call("random_get", &[32, 100]),
                call("random_get", &[0, -1]),
                call("random_get", &[131_000, 73]),
                call("sched_yield", &[]),
                call("proc_raise", &[9]),
            ]),
        ),
        (
            "poll-descriptors",
            plain(vec![
                subscription(0, 1, 0),
                subscription(48, 2, 1),
                subscription(96, 2, 77),
                call("poll_oneoff", &[0, 1024, 3, 2048]),
                call("poll_oneoff", &[0, 16, 3, 8]),
                call("poll_oneoff", &[0, 0, 0, 0]),
                call("poll_oneoff", &[0, 131_000, 4096, 0]),
            ]),
        ),
        (
            "poll-for-a-millisecond",
            plain(vec![
                poke(8, 0),
                poke(16, 1),
                poke(24, 1_000_000),
                call("poll_oneoff", &[0, 1024, 1, 2048]),
            ]),
        ),
        (
            "exit-with-a-code-after-output",
            plain(vec![
                iovec(0, 256, 33),
                call("fd_write", &[1, 0, 1, 16]),
                call("proc_exit", &[-1]),
                call("fd_write", &[1, 0, 1, 16]),
            ]),
        ),
        (
            "memory-grown-and-used",
            plain(vec![
                vec![Op::Grow { pages: 2 }],
                iovec(0, 131_064, 16),
                call("fd_read", &[0, 0, 1, 131_100]),
                call("random_get", &[131_072, 131_072]),
                vec![
                    Op::Grow { pages: 200 },
                    Op::Grow { pages: 13 },
                    Op::Grow { pages: 4 },
                ],
                call("args_get", &[393_200, 393_210]),
            ]),
        ),
        (
            "a-read-overwrites-the-script",
            plain(vec![
                iovec(0, 65_900, 37),
                vec![Op::Fill {
                    at: 512,
                    len: 64,
                    byte: 0x41,
                }],
                call("fd_read", &[0, 0, 1, 8]),
                call("clock_res_get", &[0, 0]),
                call("clock_res_get", &[0, 0]),
            ]),
        ),
        (
            "sockets",
            plain(vec![
                call("sock_accept", &[0, 0, 8]),
                call("sock_recv", &[0, 0, 1, 0, 8, 12]),
                call("sock_send", &[1, 0, 1, 0, 8]),
                call("sock_shutdown", &[1, 3]),
            ]),
        ),
        (
            "paths-without-a-mount",
            plain(vec![
                text(0, "hello.txt"),
                call("path_open", &[3, 1, 0, 9, 0, -1, -1, 0, 64]),
                call("path_filestat_get", &[0, 1, 0, 9, 64]),
                call("path_symlink", &[0, 9, 3, 0, 9]),
            ]),
        ),
        (
            "mount-listed-and-a-file-read",
            mounted(vec![
                call("fd_prestat_get", &[3, 0]),
                call("fd_prestat_dir_name", &[3, 16, 7]),
                call("fd_readdir", &[3, 1024, 512, 0, 8]),
                call("fd_readdir", &[3, 1024, 30, 1, 8]),
                text(64, "hello.txt"),
                call("path_open", &[3, 1, 64, 9, 0, 0x1fff_ffff, 0, 0, 80]),
                iovec(0, 2048, 100),
                call("fd_read", &[4, 0, 1, 88]),
                call("fd_seek", &[4, -3, 2, 96]),
                call("fd_pread", &[4, 0, 1, 2, 88]),
                call("fd_filestat_get", &[4, 128]),
                call("fd_write", &[4, 0, 1, 88]),
                call("fd_renumber", &[4, 1]),
                call("fd_close", &[4]),
            ]),
        ),
        (
            "mount-left-by-every-way",
            mounted(vec![
                text(0, "way-out\0"),
                text(16, "../secret.txt"),
                text(32, "folder/../../secret.txt"),
                text(64, "/etc/passwd"),
                iovec(128, 2048, 100),
                call("path_open", &[3, 1, 0, 7, 0, 2, 0, 0, 80]),
                call("path_open", &[3, 1, 16, 13, 0, 2, 0, 0, 80]),
                call("path_open", &[3, 1, 32, 23, 0, 2, 0, 0, 80]),
                call("path_open", &[3, 1, 64, 11, 0, 2, 0, 0, 80]),
                call("path_readlink", &[3, 0, 7, 512, 100, 80]),
                call("path_filestat_get", &[3, 1, 0, 7, 512]),
                call("path_filestat_get", &[3, 0, 0, 7, 512]),
                call("fd_read", &[4, 128, 1, 88]),
            ]),
        ),
        (
            "mount-written-to-by-every-way",
            mounted(vec![
                text(0, "hello.txt"),
                text(16, "new"),
                call("path_open", &[3, 1, 0, 9, 8, 64, 0, 0, 80]),
                call("path_open", &[3, 0, 16, 3, 1, 64, 0, 0, 80]),
                call("path_create_directory", &[3, 16, 3]),
                call("path_link", &[3, 0, 0, 9, 3, 16, 3]),
                call("path_symlink", &[0, 9, 3, 16, 3]),
                call("path_rename", &[3, 0, 9, 3, 16, 3]),
                call("path_unlink_file", &[3, 0, 9]),
                call("path_remove_directory", &[3, 0, 9]),
                call("path_filestat_set_times", &[3, 0, 0, 9, 0, 0, 10]),
                call("path_open", &[3, 1, 0, 9, 0, 2, 0, 0, 80]),
                call("fd_filestat_set_size", &[4, 0]),
                call("fd_filestat_set_times", &[4, 0, 0, 10]),
                call("fd_allocate", &[4, 0, 1 << 20]),
                call("fd_pwrite", &[4, 128, 1, 0, 88]),
            ]),
        ),
        (
            "mount-with-bad-pointers",
            mounted(vec![
                call("fd_prestat_get", &[3, 131_065]),
                call("fd_prestat_dir_name", &[3, 131_068, 7]),
                call("fd_readdir", &[3, -1, -1, -1, -1]),
                call("path_open", &[3, 1, 131_070, 9, 0, 2, 0, 0, 80]),
                call("path_open", &[3, -1, 0, 9, -1, -1, -1, -1, -1]),
                call("path_filestat_get", &[3, 1, 0, i64::from(i32::MIN), 0]),
                call("path_readlink", &[3, 0, 7, 131_070, 7, 131_071]),
                call("fd_advise", &[3, -1, -1, 77]),
                call("fd_renumber", &[3, 0]),
                call("fd_renumber", &[3, i64::from(i32::MAX)]),
                call("fd_close", &[3]),
            ]),
        ),
    ]
}

fn scenario(mounted: bool, steps: Vec<Vec<Op>>) -> Scenario {
    Scenario {
        mounted,
        steps: steps.concat(),
    }
}

fn call(name: &str, args: &[i64]) -> Vec<Op> {
    vec![Op::call(name, args)]
}

fn poke(at: u16, value: u64) -> Vec<Op> {
    vec![Op::Poke { at, value }]
}

fn iovec(at: u16, ptr: u32, len: i32) -> Vec<Op> {
    poke(at, u64::from(ptr) | u64::from(len.cast_unsigned()) << 32)
}

/// A subscription to a descriptor.
fn subscription(at: u16, tag: u8, fd: u32) -> Vec<Op> {
    [
        poke(at, at.into()),
        poke(at + 8, tag.into()),
        poke(at + 16, fd.into()),
    ]
    .concat()
}

fn text(at: u16, text: &str) -> Vec<Op> {
    let words = text.as_bytes().chunks(8).zip((at..).step_by(8));
    words
        .map(|(word, at)| {
            let mut value = [0; 8];
            value[..word.len()].copy_from_slice(word);
            Op::Poke {
                at,
                value: u64::from_le_bytes(value),
            }
        })
        .collect()
}
