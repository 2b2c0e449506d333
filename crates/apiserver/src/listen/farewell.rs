//! Tells the connections of a listener that it ends: a flag that costs nothing to look at, and whom to wake.
//!
//! Knows nothing of connections but their wakers, and keeps one for each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::seats::Seats;

/// Said once, to all that have a [`Seat`].
#[derive(Debug, Default)]
pub struct Farewell {
    is_said: AtomicBool,
    seats: Mutex<Seats>,
}

impl Farewell {
    /// Wakes all that listen, and whoever comes later hears it at once.
    pub fn say(&self) {
        self.is_said.store(true, Ordering::Release);
        let wakers = self.lock().all();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that listens.
#[derive(Debug)]
pub struct Seat {
    farewell: Arc<Farewell>,
    /// Its place, once it has one.
    place: Option<u32>,
    has_heard: bool,
}

impl Seat {
    /// A seat that nobody sits on.
    pub fn new(farewell: Arc<Farewell>) -> Seat {
        Seat {
            farewell,
            place: None,
            has_heard: false,
        }
    }

    /// Whom to wake from now on. Hears what was said meanwhile, too.
    pub fn set_waker(&mut self, waker: &Waker) {
        let mut seats = self.farewell.lock();
        let place = *self.place.get_or_insert_with(|| seats.enter());
        seats.set(place, waker);
    }

    /// True once, when it was said.
    pub fn hears(&mut self) -> bool {
        !self.has_heard && {
            self.has_heard = self.farewell.is_said.load(Ordering::Acquire);
            self.has_heard
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(place) = self.place else {
            return;
        };
        // Dropped after the lock is let go: a waker may be the last to own its task.
        let _waker = self.farewell.lock().leave(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seats::Counted;

    #[test]
    fn all_that_listen_are_woken_once_and_hear_it_once() {
        let farewell = Arc::<Farewell>::default();
        let counted = Arc::<Counted>::default();
        let waker = Waker::from(counted.clone());
        let mut seats: Vec<Seat> = (0..3).map(|_| Seat::new(farewell.clone())).collect();
        for seat in &mut seats {
            seat.set_waker(&waker);
            seat.set_waker(&waker);
            assert!(!seat.hears());
        }
        // One has gone, and its place is another's.
        seats.remove(1);
        let mut late = Seat::new(farewell.clone());
        late.set_waker(&waker);
        seats.push(late);
        assert_eq!(farewell.lock().len(), 3);
        farewell.say();
        assert_eq!(counted.0.load(Ordering::Relaxed), 3);
        for seat in &mut seats {
            assert!(seat.hears() && !seat.hears());
        }
        assert!(Seat::new(farewell).hears());
    }
}
