//! `poll_oneoff`: sleeping, and the readiness of descriptors that are always ready.

use std::time::{Duration, Instant};

use super::clock::{Clock, monotonic};
use super::errno::{Errno, Fail, answer};
use super::guest::{check, range, read, write};
use super::rights;
use super::stdio::{Fd, Std, locate, waits_for_stdin};
use crate::calls::Interruption;
use crate::sandbox::{self, HostState, Stop};

/// The most subscriptions of one call.
const MOST: u32 = 4096;

const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;

/// `event.type`, the same numbers as the tag of a subscription.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// Flag of a clock subscription: the time is absolute.
const ABSTIME: u16 = 1;

/// Flag of an event: the other side has closed.
const HANGUP: u16 = 1;

/// Waits until one of the subscribed things has happened, and writes what has. Never longer than the call's deadline.
pub fn poll_oneoff(
    host: &mut HostState,
    memory: &mut [u8],
    subscriptions: i32,
    events: i32,
    count: i32,
    happened: i32,
) -> Result<i32, Stop> {
    answer(|| {
        let count = count.cast_unsigned();
        if !(1..=MOST).contains(&count) {
            return Err(Errno::INVAL.into());
        }
        check(memory, subscriptions, count * SUBSCRIPTION)?;
        check(memory, events, count * EVENT)?;
        check(memory, happened, 4)?;

        let now = Instant::now();
        // A call that was suspended is made again: its relative times count from the first time. The reply is only that it
        // may be made, and what has arrived of stdin.
        let stdin_waits = waits_for_stdin(host);
        host.resumed_with = None;
        let began = host.poll_began.take().unwrap_or(now);
        let mut subscribed = Vec::with_capacity(count as usize);
        for index in 0..count {
            // All of it lies in memory, so the pointer cannot wrap.
            let at = subscriptions.cast_unsigned() + index * SUBSCRIPTION;
            let mut read = Subscription::read(host, memory, at.cast_signed(), began, now)?;
            if stdin_waits && read.is_of_stdin(host) {
                read.what = What::Stdin;
            }
            subscribed.push(read);
        }

        // Any other descriptor than stdin is ready at once or never will be, so nothing is worth waiting for next to one.
        let first = subscribed
            .iter()
            .filter_map(|subscription| match subscription.what {
                What::Time(at) => Some(at.unwrap_or_else(|| host.call.deadline())),
                What::Stdin => None,
                What::Event(_) => Some(now),
            });
        let first = first.min();
        let of_stdin = |subscription: &Subscription| matches!(subscription.what, What::Stdin);
        let now = if first.is_none_or(|first| first > now) && subscribed.iter().any(of_stdin) {
            if let Some(why) = host.call.interruption() {
                return Err(Stop::from(why).into());
            }
            host.poll_began = Some(began);
            return Err(host.wait_for(memory, sandbox::Event::Body(first)).into());
        } else {
            wait(host, memory, began, now, first.unwrap_or(now))?
        };
        let mut at = events.cast_unsigned();
        let mut occurred = 0u32;
        for subscription in &subscribed {
            let event = match subscription.what {
                What::Event(event) => event,
                What::Time(Some(time)) if time <= now => Event::new(CLOCK, 0, 0),
                What::Time(_) | What::Stdin => continue,
            };
            event.write(memory, at.cast_signed(), subscription.userdata)?;
            at = at.wrapping_add(EVENT);
            occurred += 1;
        }
        write(memory, happened, occurred.to_le_bytes())?;
        Ok(())
    })
}

/// Waits from `now` until `first`, and says what time it is then.
fn wait(
    host: &mut HostState,
    memory: &[u8],
    began: Instant,
    now: Instant,
    first: Instant,
) -> Result<Instant, Stop> {
    match &mut host.observed {
        // A recorded run reads an injected clock and does not wait.
        Some(observed) if first < host.call.deadline() => {
            observed.world.ask();
            observed.world.sleep(first.saturating_duration_since(now))?;
            Ok(first.max(now))
        }
        Some(_) => Err(Interruption::Deadline.into()),
        None if host.suspends && first > now => {
            if let Some(why) = host.call.interruption() {
                return Err(why.into());
            }
            host.poll_began = Some(began);
            Err(host.wait_for(memory, sandbox::Event::Sleep(Some(first))))
        }
        None => {
            host.call.wait_until(first)?;
            Ok(Instant::now())
        }
    }
}

struct Subscription {
    userdata: [u8; 8],
    /// The descriptor that the guest wants to read, if it is a subscription of one.
    reads: Option<i32>,
    what: What,
}

enum What {
    /// Happens at that time; `None` is beyond the clock's range.
    Time(Option<Instant>),
    /// Happens when more of stdin arrives.
    Stdin,
    /// Has happened.
    Event(Event),
}

impl Subscription {
    fn is_of_stdin(&self, host: &HostState) -> bool {
        self.reads
            .is_some_and(|fd| locate(host, fd) == Ok(Fd::Std(Std::In)))
    }

    /// Reads one, of a call that was made at `began` the first time, and now.
    fn read(
        host: &mut HostState,
        memory: &[u8],
        at: i32,
        began: Instant,
        now: Instant,
    ) -> Result<Self, Fail> {
        let raw: [u8; SUBSCRIPTION as usize] = read(memory, at)?;
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let tag = raw[8];
        let what = match tag {
            CLOCK => {
                let clock = Clock::from_id(word(16))?;
                let flags = u16::from_le_bytes([raw[40], raw[41]]);
                if flags & !ABSTIME != 0 {
                    return Err(Errno::INVAL.into());
                }
                let timeout = long(24);
                let (from, timeout) = if flags & ABSTIME == 0 {
                    (began, timeout)
                } else {
                    let shown = match clock {
                        Clock::Monotonic => monotonic(host, now),
                        Clock::Real => clock.now(host)?,
                    };
                    (now, timeout.saturating_sub(shown))
                };
                What::Time(from.checked_add(Duration::from_nanos(timeout)))
            }
            FD_READ | FD_WRITE => What::Event(ready(host, word(16).cast_signed(), tag)),
            _ => return Err(Errno::INVAL.into()),
        };
        let [a, b, c, d, e, f, g, h, ..] = raw;
        Ok(Self {
            reads: (tag == FD_READ).then(|| word(16).cast_signed()),
            userdata: [a, b, c, d, e, f, g, h],
            what,
        })
    }
}

/// What there is to say about a descriptor, at once: none of ours ever blocks, and files are always ready.
fn ready(host: &mut HostState, fd: i32, kind: u8) -> Event {
    if let Some(observed) = &mut host.observed {
        observed.file("poll_oneoff");
    }
    match (locate(host, fd), kind) {
        (Ok(Fd::Std(Std::In)), FD_READ) => {
            let rest = (host.stdin.len() - host.stdin_read) as u64;
            let flags = if rest == 0 && host.stdin_follows == 0 {
                HANGUP
            } else {
                0
            };
            Event {
                flags,
                ..Event::new(kind, 0, rest)
            }
        }
        (Ok(Fd::Std(Std::Out | Std::Err)), FD_WRITE) => Event::new(kind, 0, 1),
        (Ok(Fd::Mounted), _) => match &host.mounts {
            Some(mounts) if mounts.is_open(fd) => {
                let allowed = mounts.lost.check(fd, rights::POLL_FD_READWRITE);
                let errno = allowed.map_or(Errno::NOTCAPABLE.0, |()| 0);
                Event::new(kind, errno, u64::from(errno == 0))
            }
            _ => Event::new(kind, Errno::BADF.0, 0),
        },
        _ => Event::new(kind, Errno::BADF.0, 0),
    }
}

#[derive(Clone, Copy)]
struct Event {
    errno: u16,
    kind: u8,
    bytes: u64,
    flags: u16,
}

impl Event {
    fn new(kind: u8, errno: u16, bytes: u64) -> Self {
        Self {
            errno,
            kind,
            bytes,
            flags: 0,
        }
    }

    /// Writes it; its padding stays as it was.
    fn write(self, memory: &mut [u8], at: i32, userdata: [u8; 8]) -> Result<(), Errno> {
        let place = range(memory, at, EVENT)?;
        let event = &mut memory[place];
        event[..8].copy_from_slice(&userdata);
        event[8..10].copy_from_slice(&self.errno.to_le_bytes());
        event[10] = self.kind;
        event[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        event[24..26].copy_from_slice(&self.flags.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::calls::Interruption;
    use crate::sandbox::Stop;
    use crate::sandbox::hostcalls::{clock_time_get, fd_close, poll_oneoff};
    use crate::sandbox::wasi::testing::{
        EFAULT, EINVAL, OK, cancel_soon, host, host_with, put_clock, put_fd, u32_at, u64_at,
    };

    const EVENTS: usize = 1024;
    const COUNT: usize = 2048;

    fn poll(host: &mut crate::HostState, memory: &mut [u8], count: i32) -> Result<i32, Stop> {
        poll_oneoff(host, memory, 0, EVENTS as i32, count, COUNT as i32)
    }

    #[test]
    fn a_relative_sleep_sleeps() {
        let mut memory = vec![0; 4096];
        for clock in 0..4 {
            let mut host = host();
            put_clock(&mut memory, 0, 7, clock, 3_000_000, 0);
            let before = Instant::now();
            assert_eq!(poll(&mut host, &mut memory, 1), OK);
            assert!(before.elapsed() >= Duration::from_millis(3));
            assert_eq!(u32_at(&memory, COUNT), 1);
            assert_eq!((u64_at(&memory, EVENTS), memory[EVENTS + 10]), (7, 0));
        }
    }

    #[test]
    fn an_absolute_sleep_ends_at_its_time() {
        let mut memory = vec![0; 4096];
        for clock in [0, 1] {
            let mut host = host();
            assert_eq!(clock_time_get(&mut host, &mut memory, clock, 0, 0), OK);
            let until = u64_at(&memory, 0) + 3_000_000;
            put_clock(&mut memory, 0, 1, clock as u32, until, 1);
            assert_eq!(poll(&mut host, &mut memory, 1), OK);
            assert_eq!(clock_time_get(&mut host, &mut memory, clock, 0, 0), OK);
            assert!(u64_at(&memory, 0) >= until);
            // What is past has happened already.
            put_clock(&mut memory, 0, 1, clock as u32, 1, 1);
            assert_eq!(poll(&mut host, &mut memory, 1), OK);
            assert_eq!(u32_at(&memory, COUNT), 1);
        }
    }

    #[test]
    fn descriptors_are_ready_and_keep_a_sleep_from_waiting() {
        let mut host = host_with(b"12345", Duration::from_secs(60));
        let mut memory = vec![0; 4096];
        put_clock(&mut memory, 0, 1, 1, 50_000_000_000, 0);
        put_fd(&mut memory, 48, 2, 1, 0);
        put_fd(&mut memory, 96, 3, 2, 1);
        put_fd(&mut memory, 144, 4, 2, 0);
        put_fd(&mut memory, 192, 5, 1, 9);
        assert_eq!(poll(&mut host, &mut memory, 5), OK);
        assert_eq!(u32_at(&memory, COUNT), 4);
        let event = |index: usize| {
            let at = EVENTS + index * 32;
            (
                u64_at(&memory, at),
                memory[at + 8],
                memory[at + 10],
                u64_at(&memory, at + 16),
            )
        };
        assert_eq!(event(0), (2, 0, 1, 5));
        assert_eq!(event(1), (3, 0, 2, 1));
        assert_eq!(event(2), (4, 8, 2, 0));
        assert_eq!(event(3), (5, 8, 1, 0));

        host.stdin_read = 5;
        put_fd(&mut memory, 0, 2, 1, 0);
        assert_eq!(poll(&mut host, &mut memory, 1), OK);
        assert_eq!((u64_at(&memory, EVENTS + 16), memory[EVENTS + 24]), (0, 1));
        assert_eq!(fd_close(&mut host, &mut memory, 0), OK);
        assert_eq!(poll(&mut host, &mut memory, 1), OK);
        assert_eq!(memory[EVENTS + 8], 8);
    }

    #[test]
    fn a_sleep_ends_with_the_deadline_or_a_cancellation() {
        let mut memory = vec![0; 4096];
        for timeout in [60_000_000_000, u64::MAX] {
            put_clock(&mut memory, 0, 1, 1, timeout, 0);
            let mut host = host_with(b"", Duration::from_millis(5));
            assert_eq!(
                poll(&mut host, &mut memory, 1),
                Err(Stop::Interrupted(Interruption::Deadline))
            );
            let (mut host, canceller) = cancel_soon();
            assert_eq!(
                poll(&mut host, &mut memory, 1),
                Err(Stop::Interrupted(Interruption::Cancelled))
            );
            canceller.join().expect("the canceller does not panic");
        }
    }

    #[test]
    fn malformed_subscriptions_are_refused() {
        let mut host = host();
        let mut memory = vec![0; 4096];
        put_clock(&mut memory, 0, 1, 4, 0, 0);
        assert_eq!(poll(&mut host, &mut memory, 1), EINVAL);
        put_clock(&mut memory, 0, 1, 1, 0, 2);
        assert_eq!(poll(&mut host, &mut memory, 1), EINVAL);
        put_fd(&mut memory, 0, 1, 3, 0);
        assert_eq!(poll(&mut host, &mut memory, 1), EINVAL);
        for count in [0, 4097, -1, i32::MIN] {
            assert_eq!(poll(&mut host, &mut memory, count), EINVAL);
        }
        put_fd(&mut memory, 0, 1, 1, 0);
        for (subscriptions, events, happened) in [
            (4049, 0, 0),
            (0, 4065, 0),
            (0, 0, 4093),
            (-1, 0, 0),
            (0, -32, 0),
            (0, 0, -4),
        ] {
            assert_eq!(
                poll_oneoff(&mut host, &mut memory, subscriptions, events, 1, happened),
                EFAULT
            );
        }
    }

    #[test]
    fn events_may_overwrite_their_subscriptions() {
        let mut host = host();
        let mut memory = vec![0; 4096];
        for index in 0..40 {
            put_fd(&mut memory, index * 48, index as u64, 2, 1);
        }
        assert_eq!(
            poll_oneoff(&mut host, &mut memory, 0, 16, 40, COUNT as i32),
            OK
        );
        assert_eq!(u32_at(&memory, COUNT), 40);
        for index in 0..40 {
            assert_eq!(u64_at(&memory, 16 + index * 32), index as u64);
        }
    }
}
