//! Alarms to the second: one clock a thread for all that wait long, 32 bytes for each.
//!
//! ```text
//!   second ─► list of seats that are due then ─► their wakers, all at once
//! ```
//!
//! A million watches each have a bookmark and an end to wait for, and none needs them to the millisecond. The clock is a
//! task of the runtime on which the first alarm was set; it ticks while there is something to wait for. Knows nothing of
//! who waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What alarms are exact to.
const TICK: Duration = Duration::from_secs(1);

const NOBODY: u32 = u32::MAX;

thread_local! {
    static CLOCK: Arc<Clock> = Arc::new(Clock::new());
}

/// Goes off once, up to a second after the time it is set to, and never before.
#[derive(Debug)]
pub struct Alarm {
    clock: Arc<Clock>,
    seat: u32,
    /// When it goes off, in ticks of the clock.
    tick: u32,
}

impl Alarm {
    /// An alarm of this thread's clock, set to `at`.
    ///
    /// # Panics
    /// Outside of a runtime of tokio, as all its timers do.
    #[must_use]
    pub fn new(at: Instant) -> Alarm {
        let clock = CLOCK
            .try_with(Arc::clone)
            .unwrap_or_else(|_| Arc::new(Clock::new()));
        let seat = clock.lock().enter();
        let mut alarm = Alarm {
            clock,
            seat,
            tick: 0,
        };
        alarm.set(at);
        alarm
    }

    /// Sets it to another time, whether it went off or not.
    ///
    /// # Panics
    /// As [`Alarm::new`].
    pub fn set(&mut self, at: Instant) {
        let tick = self.clock.tick_at_or_after(at);
        self.tick = tick;
        let is_driven = {
            let mut seats = self.clock.lock();
            seats.unlink(self.seat);
            seats.link(self.seat, tick);
            std::mem::replace(&mut seats.is_driven, true)
        };
        if !is_driven {
            tokio::spawn(drive(Driver(self.clock.clone())));
        }
    }

    /// False while it has surely not gone off: a look that costs nothing, for whoever is polled more often than it goes
    /// off and is woken by it already.
    #[must_use]
    pub fn may_be_due(&self) -> bool {
        self.tick <= self.clock.rung.load(Ordering::Acquire)
    }

    /// Ready once it went off; else whoever polls is woken then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut seats = self.clock.lock();
        match seats.get_mut(self.seat) {
            Some(seat) if seat.tick > 0 => {
                match &mut seat.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // Dropped after the lock is let go: a waker may own what has alarms.
        let _waker = self.clock.lock().leave(self.seat);
    }
}

#[derive(Debug)]
struct Clock {
    born: Instant,
    /// The highest tick up to which alarms were let go off.
    rung: AtomicU32,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    seats: Vec<Seat>,
    free: Vec<u32>,
    /// The first seat of each second's list.
    due: BTreeMap<u32, u32>,
    /// A task ticks.
    is_driven: bool,
}

#[derive(Debug)]
struct Seat {
    waker: Option<Waker>,
    /// When it goes off, in ticks of the clock; 0 once it did.
    tick: u32,
    next: u32,
    prev: u32,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            born: Instant::now(),
            rung: AtomicU32::new(0),
            seats: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick_at_or_after(&self, at: Instant) -> u32 {
        let age = at.saturating_duration_since(self.born);
        let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
    }

    /// Lets all alarms up to a tick go off, and gives those to wake.
    fn go_off(&self, seats: &mut Seats, now: u32) -> Vec<Waker> {
        if seats
            .due
            .first_key_value()
            .is_some_and(|(tick, _)| *tick <= now)
        {
            self.rung.fetch_max(now, Ordering::Release);
        }
        seats.go_off(now)
    }

    /// The last tick that has come.
    fn now(&self) -> u32 {
        u32::try_from(self.born.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}

impl Seats {
    fn get_mut(&mut self, seat: u32) -> Option<&mut Seat> {
        self.seats.get_mut(seat as usize)
    }

    fn enter(&mut self) -> u32 {
        if let Some(seat) = self.free.pop() {
            return seat;
        }
        self.seats.push(Seat {
            waker: None,
            tick: 0,
            next: NOBODY,
            prev: NOBODY,
        });
        u32::try_from(self.seats.len() - 1).unwrap_or(NOBODY)
    }

    fn leave(&mut self, number: u32) -> Option<Waker> {
        self.unlink(number);
        let waker = self.get_mut(number)?.waker.take();
        self.free.push(number);
        if self.free.len() == self.seats.len() {
            // The last has left: what a crowd needed goes.
            (self.seats, self.free) = (Vec::new(), Vec::new());
        }
        waker
    }

    fn link(&mut self, number: u32, tick: u32) {
        let next = self.due.insert(tick, number).unwrap_or(NOBODY);
        if let Some(neighbour) = self.get_mut(next) {
            neighbour.prev = number;
        }
        if let Some(seat) = self.get_mut(number) {
            (seat.tick, seat.next, seat.prev) = (tick, next, NOBODY);
        }
    }

    fn unlink(&mut self, number: u32) {
        let Some(seat) = self.get_mut(number).filter(|seat| seat.tick > 0) else {
            return;
        };
        let (tick, next, prev) = (seat.tick, seat.next, seat.prev);
        seat.tick = 0;
        if let Some(neighbour) = self.get_mut(next) {
            neighbour.prev = prev;
        }
        if let Some(neighbour) = self.get_mut(prev) {
            neighbour.next = next;
        } else if next == NOBODY {
            self.due.remove(&tick);
        } else {
            self.due.insert(tick, next);
        }
    }

    /// Lets all alarms up to a tick go off, and gives those to wake.
    fn go_off(&mut self, now: u32) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= now) {
            let mut next = entry.remove();
            while let Some(seat) = self.get_mut(next) {
                seat.tick = 0;
                next = seat.next;
                wakers.extend(seat.waker.take());
            }
        }
        wakers
    }
}

/// Who ticks. A runtime that ends drops it; then all alarms go off, so that whoever lives on sets them anew where it does.
struct Driver(Arc<Clock>);

impl Drop for Driver {
    fn drop(&mut self) {
        let wakers = {
            let mut seats = self.0.lock();
            seats.is_driven = false;
            self.0.go_off(&mut seats, u32::MAX)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

async fn drive(driver: Driver) {
    let clock = &driver.0;
    loop {
        sleep_until(clock.born + TICK * clock.now().saturating_add(1)).await;
        let wakers = {
            let mut seats = clock.lock();
            let wakers = clock.go_off(&mut seats, clock.now());
            if seats.due.is_empty() && wakers.is_empty() {
                // Nobody waits: whoever does next lets it tick again. The end of the driver finds nothing to wake.
                return;
            }
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn wait(alarm: &mut Alarm) {
        poll_fn(|cx| {
            let ready = alarm.poll(cx);
            assert!(alarm.may_be_due() || ready.is_pending());
            ready
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn alarms_go_off_within_a_second_after_their_time_and_can_be_set_again() {
        let begun = Instant::now();
        let mut alarm = Alarm::new(begun + Duration::from_millis(2_500));
        let mut earlier = Alarm::new(begun + Duration::from_millis(100));
        assert!(!earlier.may_be_due());
        wait(&mut earlier).await;
        assert!(earlier.may_be_due() && !alarm.may_be_due());
        assert!((100..=1_100).contains(&begun.elapsed().as_millis()));
        earlier.set(begun + Duration::from_secs(90));
        wait(&mut alarm).await;
        assert!((2_500..=3_500).contains(&begun.elapsed().as_millis()));
        wait(&mut earlier).await;
        assert!((90_000..=91_000).contains(&begun.elapsed().as_millis()));
        // Nobody waits any more, and the clock begins again.
        drop(alarm);
        tokio::time::sleep(Duration::from_secs(10)).await;
        earlier.set(Instant::now() + Duration::from_secs(5));
        wait(&mut earlier).await;
        assert!(begun.elapsed() >= Duration::from_secs(105));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_leaves_nothing_behind_and_others_where_they_are() {
        let at = Instant::now() + Duration::from_secs(5);
        let mut alarms: Vec<Alarm> = (0..5).map(|_| Alarm::new(at)).collect();
        let clock = alarms[0].clock.clone();
        for place in [4, 0, 1] {
            alarms.remove(place);
        }
        assert_eq!(clock.lock().due.len(), 1);
        for alarm in &mut alarms {
            wait(alarm).await;
        }
        assert!(Instant::now() >= at);
        drop(alarms);
        assert!(clock.lock().due.is_empty() && clock.lock().seats.is_empty());
    }

    #[test]
    fn an_alarm_outlives_its_runtime_by_going_off() {
        let block_on = |future: std::pin::Pin<Box<dyn Future<Output = Alarm>>>| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap()
                .block_on(future)
        };
        let mut alarm = block_on(Box::pin(async {
            Alarm::new(Instant::now() + Duration::from_secs(1_000))
        }));
        alarm = block_on(Box::pin(async move {
            wait(&mut alarm).await;
            alarm.set(Instant::now());
            wait(&mut alarm).await;
            alarm
        }));
        drop(alarm);
    }
}
