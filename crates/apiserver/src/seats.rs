//! Wakers of many that wait for the same, 16 bytes each, in places that are given back. Does not know what they wait for, and
//! wakes nobody itself: a waker is woken or dropped by whoever holds no lock.

use std::task::Waker;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Seats {
    /// A place, with nobody to wake yet.
    pub fn enter(&mut self) -> u32 {
        if let Some(place) = self.free.pop() {
            return place;
        }
        self.wakers.push(None);
        u32::try_from(self.wakers.len() - 1).unwrap_or(u32::MAX)
    }

    /// Whom to wake from now on.
    pub fn set(&mut self, place: u32, waker: &Waker) {
        match self.wakers.get_mut(place as usize) {
            Some(Some(known)) => known.clone_from(waker),
            Some(none) => *none = Some(waker.clone()),
            None => {}
        }
    }

    /// Gives a place back. Who was to be woken, to be dropped without a lock: it may be the last to own its task.
    #[must_use]
    pub fn leave(&mut self, place: u32) -> Option<Waker> {
        let seat = self.wakers.get_mut(place as usize)?;
        self.free.push(place);
        seat.take()
    }

    /// All that are to be woken; they keep their places.
    pub fn all(&self) -> Vec<Waker> {
        self.wakers.iter().flatten().cloned().collect()
    }

    /// Places that there are, free ones included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.wakers.len()
    }
}

/// For tests: counts how often somebody is woken.
#[cfg(test)]
#[derive(Default)]
pub struct Counted(pub std::sync::atomic::AtomicUsize);

#[cfg(test)]
impl std::task::Wake for Counted {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}
