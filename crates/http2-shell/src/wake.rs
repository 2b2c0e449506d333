//! Which streams of a connection can go on. Each has a waker of its own, so that a thousand silent ones cost nothing
//! when one is woken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use http2::StreamId;

/// The streams that were woken, each once, and the connection's task.
#[derive(Debug, Default)]
pub struct Signal(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    streams: VecDeque<StreamId>,
    task: Option<Waker>,
}

impl Signal {
    /// Whom to wake.
    pub fn set_task(&self, waker: &Waker) {
        let mut ready = self.lock();
        match &mut ready.task {
            Some(task) => task.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// The streams woken until now.
    #[must_use]
    pub fn take(&self) -> VecDeque<StreamId> {
        std::mem::take(&mut self.lock().streams)
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one stream.
#[derive(Debug)]
pub struct StreamWaker {
    stream: StreamId,
    is_queued: AtomicBool,
    signal: Arc<Signal>,
}

impl StreamWaker {
    /// The waker of a stream that nobody has woken.
    #[must_use]
    pub fn new(stream: StreamId, signal: Arc<Signal>) -> Self {
        StreamWaker {
            stream,
            is_queued: AtomicBool::new(false),
            signal,
        }
    }

    /// Its stream is being looked at: what wakes it from now on counts anew.
    pub fn rearm(&self) {
        self.is_queued.store(false, Ordering::Release);
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut ready = self.signal.lock();
            ready.streams.push_back(self.stream);
            ready.task.clone()
        };
        task.iter().for_each(Waker::wake_by_ref);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_listed_once_until_it_is_looked_at() {
        let signal = Arc::<Signal>::default();
        let waker = Arc::new(StreamWaker::new(StreamId(5), signal.clone()));
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(signal.take(), [StreamId(5)]);
        waker.wake_by_ref();
        assert!(signal.take().is_empty());
        waker.rearm();
        waker.wake_by_ref();
        assert_eq!(signal.take(), [StreamId(5)]);
    }
}
