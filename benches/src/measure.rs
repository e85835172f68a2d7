//! Rounds, samples and rows. The contenders take turns, so that other load on the machine affects all of them alike.

use std::time::{Duration, Instant};

use crate::machine;

/// One line of the results.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What is measured: `compile`, `load`, `instantiate`, `request`, `snapshot`, `parallel`, `deploy`, `memory`.
    pub group: &'static str,
    /// The guest.
    pub guest: String,
    /// The backend.
    pub backend: &'static str,
    /// How sandboxes get their memory, or which reference is measured.
    pub mode: String,
    /// The number of threads that do it at the same time.
    pub callers: usize,
    /// The measured times; `None` for `memory`.
    pub time: Option<Times>,
    /// Bytes; for `memory` only.
    pub bytes: Option<u64>,
}

/// The statistics of one row's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
    /// CPU time of the callers' threads for each sample. For a contender in another process, that process's CPU time.
    pub cpu_ns: u64,
    /// The number of samples.
    pub n: usize,
    /// Samples per second of all callers together.
    pub per_second: f64,
}

/// The samples of one contender.
#[derive(Debug, Default)]
pub struct Samples {
    nanos: Vec<u64>,
    cpu: Duration,
    /// The time that it took to take them. Callers that ran at the same time count once.
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

    /// Adds samples that another process has taken.
    pub fn add(&mut self, nanos: &[u64], cpu: Duration) {
        self.nanos.extend_from_slice(nanos);
        self.cpu += cpu;
        self.wall += nanos
            .iter()
            .copied()
            .map(Duration::from_nanos)
            .sum::<Duration>();
    }

    /// Adds the samples that the callers of one round took at the same time.
    pub fn join(&mut self, callers: Vec<Samples>, wall: Duration) {
        for caller in callers {
            self.nanos.extend(caller.nanos);
            self.cpu += caller.cpu;
        }
        self.wall += wall;
    }

    /// Removes all samples.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Their statistics.
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

/// Takes samples for about the given time.
type Round = dyn FnMut(Duration, &mut Samples);

/// One of the subjects that are compared in a race.
pub struct Contender {
    /// Its row; the times are filled in by [`race`].
    pub row: Row,
    round: Box<Round>,
}

impl Contender {
    /// An operation that one thread repeats.
    pub fn new(row: Row, mut op: impl FnMut() + 'static) -> Self {
        Self {
            row: Row { callers: 1, ..row },
            round: Box::new(move |length, samples| samples.take(length, &mut op)),
        }
    }

    /// An operation that takes its samples itself, for about the given time.
    pub fn elsewhere(row: Row, round: impl FnMut(Duration, &mut Samples) + 'static) -> Self {
        Self {
            row: Row { callers: 1, ..row },
            round: Box::new(round),
        }
    }

    /// An operation that `callers` threads do at the same time.
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
    /// Time for each contender in total.
    pub each: Duration,
    /// Time for each contender in one round.
    pub round: Duration,
}

/// Lets the contenders take turns until each has had its time. Every round begins with the next contender. The first
/// tenth of each turn warms caches and branch predictors, and is not counted. An operation that takes longer than its
/// whole time is done once.
#[must_use]
pub fn race(mut contenders: Vec<Contender>, pace: Pace) -> Vec<Row> {
    let mut samples: Vec<Samples> = contenders.iter().map(|_| Samples::default()).collect();
    let mut spent = vec![Duration::ZERO; contenders.len()];
    let mut unseen = Samples::default();
    // Do everything once, so that lazy initialisation is not measured.
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
            // An operation that takes longer than its turn gets fewer turns.
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

/// The order of the contenders in a round.
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
