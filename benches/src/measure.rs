//! Rounds, samples, rows: things that are compared take turns, so that whatever else the machine does hits all of them.

use std::time::{Duration, Instant};

use crate::machine;

/// One line of the results.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What is done: `compile`, `load`, `instantiate`, `request`, `snapshot`, `parallel`, `deploy`, `memory`.
    pub group: &'static str,
    /// The guest it is done with.
    pub guest: String,
    /// The backend it is done on.
    pub backend: &'static str,
    /// Where memory comes from, or which reference this is.
    pub mode: String,
    /// Threads that do it at once.
    pub callers: usize,
    /// What came of it; `None` for `memory`.
    pub time: Option<Times>,
    /// Bytes; for `memory` only.
    pub bytes: Option<u64>,
}

/// What the samples of one row come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// The median.
    pub p50_ns: u64,
    /// 99 of 100 are below.
    pub p99_ns: u64,
    /// CPU time of the callers' threads, per sample; of the whole process for one that runs elsewhere.
    pub cpu_ns: u64,
    /// How many samples there are.
    pub n: usize,
    /// Samples per second of all callers together.
    pub per_second: f64,
}

/// The samples of one contender.
#[derive(Debug, Default)]
pub struct Samples {
    nanos: Vec<u64>,
    cpu: Duration,
    /// Time that was spent taking them, once for all callers.
    wall: Duration,
}

impl Samples {
    /// Takes samples of `op` for about `length`, at least one.
    pub fn take(&mut self, length: Duration, mut op: impl FnMut()) {
        let cpu = machine::thread_cpu();
        let begun = Instant::now();
        let mut last = begun;
        loop {
            op();
            let now = Instant::now();
            self.nanos
                .push(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
            last = now;
            if now - begun >= length {
                break;
            }
        }
        self.wall += last - begun;
        self.cpu += machine::thread_cpu().saturating_sub(cpu);
    }

    /// Adds what somebody else took.
    pub fn add(&mut self, nanos: &[u64], cpu: Duration) {
        self.nanos.extend_from_slice(nanos);
        self.cpu += cpu;
        self.wall += nanos
            .iter()
            .copied()
            .map(Duration::from_nanos)
            .sum::<Duration>();
    }

    /// Adds what the callers of one round took beside each other.
    pub fn join(&mut self, callers: Vec<Samples>, wall: Duration) {
        for caller in callers {
            self.nanos.extend(caller.nanos);
            self.cpu += caller.cpu;
        }
        self.wall += wall;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What they come to.
    #[must_use]
    pub fn times(mut self) -> Times {
        self.nanos.sort_unstable();
        let n = self.nanos.len();
        let at = |share: f64| {
            let index = (n as f64 * share) as usize;
            self.nanos
                .get(index.min(n.saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        Times {
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            cpu_ns: u64::try_from(self.cpu.as_nanos() / n.max(1) as u128).unwrap_or(u64::MAX),
            n,
            per_second: n as f64 / self.wall.as_secs_f64().max(1e-9),
        }
    }
}

/// Takes samples for about so long.
type Round = dyn FnMut(Duration, &mut Samples);

/// One of the things compared.
pub struct Contender {
    /// Its row; the times are filled in by [`race`].
    pub row: Row,
    round: Box<Round>,
}

impl Contender {
    /// Something one thread does again and again.
    pub fn new(row: Row, mut op: impl FnMut() + 'static) -> Self {
        Self {
            row: Row { callers: 1, ..row },
            round: Box::new(move |length, samples| samples.take(length, &mut op)),
        }
    }

    /// Something that takes its samples itself, for about as long as it is told.
    pub fn elsewhere(row: Row, round: impl FnMut(Duration, &mut Samples) + 'static) -> Self {
        Self {
            row: Row { callers: 1, ..row },
            round: Box::new(round),
        }
    }

    /// Something that `callers` threads do beside each other.
    pub fn parallel(row: Row, callers: usize, op: impl Fn() + Sync + 'static) -> Self {
        Self {
            row: Row { callers, ..row },
            round: Box::new(move |length, samples| {
                let begun = Instant::now();
                let parts = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..callers)
                        .map(|_| {
                            scope.spawn(|| {
                                let mut part = Samples::default();
                                part.take(length, &op);
                                part
                            })
                        })
                        .collect();
                    threads
                        .into_iter()
                        .map(|thread| thread.join().expect("a caller panicked"))
                        .collect()
                });
                samples.join(parts, begun.elapsed());
            }),
        }
    }
}

/// How long a race takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time for each contender in all.
    pub each: Duration,
    /// Time for each contender in one round.
    pub round: Duration,
}

/// Lets the contenders take turns until each had its time. What comes first in a round moves on with every round; the first
/// tenth of each turn warms caches and branch predictors again, and is not counted. What takes longer than all its time is
/// done once.
#[must_use]
pub fn race(mut contenders: Vec<Contender>, pace: Pace) -> Vec<Row> {
    let mut samples: Vec<Samples> = contenders.iter().map(|_| Samples::default()).collect();
    let mut spent = vec![Duration::ZERO; contenders.len()];
    let mut unseen = Samples::default();
    // Everything lazy happens now.
    for (index, contender) in contenders.iter_mut().enumerate() {
        let begun = Instant::now();
        (contender.round)(pace.round, &mut unseen);
        let took = begun.elapsed();
        if took >= pace.each.max(pace.round * 3) {
            spent[index] = took;
            samples[index] = std::mem::take(&mut unseen);
        }
        unseen.clear();
    }
    let rounds = (pace.each.as_nanos() / pace.round.as_nanos().max(1)).max(1) as usize;
    for round in 0..rounds {
        for index in turns(round, contenders.len()) {
            // What takes longer than a round needs fewer of them.
            if spent[index] >= pace.each {
                continue;
            }
            let begun = Instant::now();
            (contenders[index].round)(pace.round / 10, &mut unseen);
            unseen.clear();
            (contenders[index].round)(pace.round, &mut samples[index]);
            spent[index] += begun.elapsed();
        }
    }
    contenders
        .into_iter()
        .zip(samples)
        .map(|(contender, samples)| Row {
            time: Some(samples.times()),
            ..contender.row
        })
        .collect()
}

/// Who comes when in a round of `contenders`.
fn turns(round: usize, contenders: usize) -> impl Iterator<Item = usize> {
    (0..contenders).map(move |turn| (round + turn) % contenders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_to_their_percentiles() {
        let samples = Samples {
            nanos: (1..=200).rev().collect(),
            cpu: Duration::from_nanos(1000),
            wall: Duration::from_nanos(2000),
        };
        let times = samples.times();
        assert_eq!((times.p50_ns, times.p99_ns), (101, 199));
        assert_eq!((times.cpu_ns, times.n), (5, 200));
        assert!((times.per_second - 1e8).abs() < 1.0);
    }

    #[test]
    fn no_samples_come_to_nothing() {
        let times = Samples::default().times();
        assert_eq!((times.p50_ns, times.p99_ns, times.n), (0, 0, 0));
    }

    #[test]
    fn contenders_take_turns() {
        let order: Vec<usize> = (0..3).flat_map(|round| turns(round, 3)).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    }

    #[test]
    fn what_takes_longer_than_its_time_is_done_once() {
        use std::cell::Cell;
        use std::rc::Rc;
        let done = Rc::new(Cell::new(0));
        let contender = || {
            let done = Rc::clone(&done);
            Contender::new(Row::default(), move || {
                std::thread::sleep(Duration::from_micros(10));
                done.set(done.get() + 1);
            })
        };
        let pace = Pace {
            each: Duration::ZERO,
            round: Duration::from_nanos(1),
        };
        let rows = race(vec![contender(), contender()], pace);
        assert_eq!(done.get(), 2);
        assert!(rows.iter().all(|row| row.time.unwrap().n == 1));
    }
}
