//! Whether Leases are renewed in time, and who gives way when they are not.
//!
//! All nodes share few connections, so that requests of one kind wait behind those of another: a fleet that registers as
//! fast as its server takes it would have the nodes that are up already declared dead. Everything but renewals therefore
//! waits while these are behind, though never for long. Does not know what waits, nor what a renewal is.

use std::time::Duration;

use tokio::sync::watch;

/// Renewals that are later than this are behind: a tenth of a kubelet's interval.
const LATE_MAX: Duration = Duration::from_secs(1);
/// So long others give way at most. However slow a server is, they go on some time.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Punctual {
    behind: watch::Sender<bool>,
}

impl Default for Punctual {
    fn default() -> Punctual {
        Punctual {
            behind: watch::Sender::new(false),
        }
    }
}

impl Punctual {
    /// A renewal is made now that is so late.
    pub(crate) fn note(&self, late: Duration) {
        let is_behind = late > LATE_MAX;
        if *self.behind.borrow() != is_behind {
            self.behind.send_replace(is_behind);
        }
    }

    /// Waits until renewals are in time, or patience ends.
    pub(crate) async fn give_way(&self) {
        if *self.behind.borrow() {
            let mut behind = self.behind.subscribe();
            let caught_up = behind.wait_for(|behind| !behind);
            let _ = tokio::time::timeout(PATIENCE, caught_up).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};
    use std::time::Instant;

    /// Runs with a clock that timers can be made on.
    fn with_clock<T>(work: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap().block_on(work)
    }

    fn is_free(waiting: Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        waiting.poll(&mut cx).is_ready()
    }

    #[test]
    fn others_wait_while_renewals_are_behind() {
        with_clock(async {
            let punctual = Punctual::default();
            punctual.note(LATE_MAX);
            assert!(is_free(pin!(punctual.give_way())), "in time");
            punctual.note(LATE_MAX * 2);
            let mut waiting = pin!(punctual.give_way());
            assert!(!is_free(waiting.as_mut()), "behind");
            punctual.note(Duration::ZERO);
            assert!(is_free(waiting), "caught up");
        });
    }

    #[test]
    fn patience_ends() {
        with_clock(async {
            let punctual = Punctual::default();
            punctual.note(LATE_MAX * 2);
            let begun = Instant::now();
            punctual.give_way().await;
            assert!(begun.elapsed() >= PATIENCE);
        });
    }
}
