//! Telling a million open watches that the server ends, at 16 bytes for each that waits.
//!
//! The signal is one channel, and one future waits on it; what it wakes wakes all others. Knows nothing of watches.
//!
//! Locks: the future is polled under its own lock and never under that of the seats, which its waker takes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::watch;

use crate::seats::Seats;

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A signal that many wait for.
pub struct Stopping {
    receiver: watch::Receiver<bool>,
    /// Waits for the channel; none once it is over.
    signal: Mutex<Option<Signal>>,
    waiting: Arc<Waiters>,
}

/// A place among those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(u32);

#[derive(Default)]
struct Waiters(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    seats: Seats,
    /// The future is waiting, and will wake all.
    is_armed: bool,
}

impl Stopping {
    /// Waits for `receiver` to turn true.
    pub fn new(receiver: watch::Receiver<bool>) -> Stopping {
        let mut waiting = receiver.clone();
        let signal: Signal = Box::pin(async move {
            // An error: nobody will ever send it.
            let _ = waiting.wait_for(|stop| *stop).await.map(drop);
        });
        Stopping {
            receiver,
            signal: Mutex::new(Some(signal)),
            waiting: Arc::default(),
        }
    }

    /// Whether the signal has come.
    pub fn has_come(&self) -> bool {
        *self.receiver.borrow()
    }

    /// A place to wait in; to be given back with [`Self::leave`].
    pub fn enter(&self) -> Seat {
        Seat(self.waiting.lock().seats.enter())
    }

    /// Gives a place back.
    pub fn leave(&self, seat: Seat) {
        let _waker = self.waiting.lock().seats.leave(seat.0);
    }

    /// Ready once the signal has come; else whoever polls is woken then.
    pub fn poll(&self, seat: Seat, cx: &mut Context<'_>) -> Poll<()> {
        let arms = {
            let mut waiting = self.waiting.lock();
            waiting.seats.set(seat.0, cx.waker());
            !std::mem::replace(&mut waiting.is_armed, true)
        };
        if arms {
            let mut signal = lock(&self.signal);
            let waker = Waker::from(self.waiting.clone());
            let mut cx = Context::from_waker(&waker);
            let is_over = signal
                .as_mut()
                .is_some_and(|signal| signal.as_mut().poll(&mut cx).is_ready());
            if is_over {
                *signal = None;
            }
        }
        // Looked at last: a signal that came before the waker was left is seen here.
        if self.has_come() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        let wakers: Vec<Waker> = {
            let mut waiting = self.lock();
            // Whoever looks next lets the future wait again.
            waiting.is_armed = false;
            waiting.seats.all()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seats::Counted;
    use std::sync::atomic::Ordering;

    #[test]
    fn everybody_who_waits_is_woken_and_nobody_who_left() {
        let (sender, receiver) = watch::channel(false);
        let stopping = Stopping::new(receiver);
        let counts = [(); 3].map(|()| Arc::<Counted>::default());
        let seats = counts.each_ref().map(|count| {
            let seat = stopping.enter();
            let waker = Waker::from(count.clone());
            assert!(
                stopping
                    .poll(seat, &mut Context::from_waker(&waker))
                    .is_pending()
            );
            seat
        });
        stopping.leave(seats[1]);
        sender.send(true).unwrap();
        let woken = counts
            .each_ref()
            .map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 0, 1]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stopping.poll(seats[0], &mut cx).is_ready());
        assert_eq!(stopping.enter(), seats[1]);
    }

    #[test]
    fn a_signal_that_is_taken_for_something_else_first_is_waited_for_again() {
        let (sender, receiver) = watch::channel(false);
        let stopping = Stopping::new(receiver);
        let seat = stopping.enter();
        let count = Arc::<Counted>::default();
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(stopping.poll(seat, &mut cx).is_pending());
        sender.send(false).unwrap();
        assert!(stopping.poll(seat, &mut cx).is_pending());
        sender.send(true).unwrap();
        assert!(count.0.load(Ordering::Relaxed) >= 1);
        assert!(stopping.poll(seat, &mut cx).is_ready());
    }

    #[test]
    fn a_sender_that_goes_stops_nobody() {
        let (sender, receiver) = watch::channel(false);
        let stopping = Stopping::new(receiver);
        let seat = stopping.enter();
        drop(sender);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stopping.poll(seat, &mut cx).is_pending());
        assert!(stopping.poll(seat, &mut cx).is_pending());
    }
}
