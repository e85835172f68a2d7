//! Tests of which times are recognised as the collector's.

use super::*;

#[test]
fn stamps_of_the_collector_are_found() {
    let mut stopped = Stopped::new();
    assert!(collector_stamps(&stopped.go, &stopped.memory).is_empty());
    let times = [1_795_000_000_123_456_789, 1_795_000_000_223_456_789];
    stopped.set(MEMSTATS, times[1]);
    stopped.set(MEMSTATS + 8, 70_000);
    for (cycle, (pause, end)) in [30_000, 40_000].into_iter().zip(times).enumerate() {
        stopped.set(MEMSTATS + 16 + 8 * cycle as u64, pause);
        stopped.set(MEMSTATS + 2064 + 8 * cycle as u64, end);
    }
    stopped.set(MEMSTATS + 4112, 2 | 1 << 32);
    let found = |stopped: &Stopped| collector_stamps(&stopped.go, &stopped.memory);
    assert_eq!(found(&stopped), times);
    // Readings of the program are not the collector's, wherever they are.
    stopped.set(VARIABLES, times[0] + 1);
    assert_eq!(found(&stopped), times);
    for (at, value) in [
        (0, times[0]),
        (8, 70_001),
        (16 + 8 * 2, 1),
        (2064, 0),
        (2064 + 8, times[0]),
        (2064 + 8 * 200, times[0]),
        (4112, 3),
        (4112, 257),
        (4112, 0),
    ] {
        let mut stopped = stopped.clone();
        stopped.set(MEMSTATS + at, value);
        assert!(found(&stopped).is_empty(), "{at} {value}");
    }
}
