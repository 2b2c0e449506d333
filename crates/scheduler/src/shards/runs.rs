//! Placing with shards: pods alike that follow one another are given out together, and what is to be done when a
//! shard is lost or back.
//!
//! Does not choose nodes, nor what carries messages.

use std::time::Instant;

use hashbrown::HashMap;
use placement::PodKey;
use placement::queue::Turn;

use super::Placer;
use crate::placing::{AUDIT_EVERY, PODS_AT_ONCE};
use crate::work::{Try, Worker};
use crate::{Scheduler, next_random, now_micros};

/// Pods given out together.
const RUN_MAX: usize = 256;

/// Everything is being told again, because shards went or came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    number: u64,
    pub(crate) nodes: bool,
    pub(crate) pods: bool,
}

impl Scheduler {
    /// Tries to get lost shards back.
    pub(crate) fn revive_shards(&mut self) {
        for shard in self.cluster.revive() {
            tracing::info!(shard, "a shard of the scheduler is back and gets its nodes");
        }
    }

    /// True when nodes and pods are to be listed anew.
    pub(crate) fn begin_listing(&mut self) -> bool {
        let Some(number) = self.cluster.must_list() else {
            return false;
        };
        if self.listing.is_some_and(|listing| listing.number == number) {
            return false;
        }
        tracing::warn!("shards of the scheduler went or came: nodes and pods are listed again");
        self.listing = Some(Listing {
            number,
            nodes: false,
            pods: false,
        });
        true
    }

    /// Notes that a list is complete.
    pub(crate) fn note_list(&mut self, mark: impl Fn(&mut Listing)) {
        let Some(listing) = &mut self.listing else {
            return;
        };
        mark(listing);
        if let Listing {
            number,
            nodes: true,
            pods: true,
        } = *listing
        {
            self.listing = None;
            if let Placer::Many(shards) = &mut self.cluster {
                shards.listed(number);
            }
        }
    }

    /// Gives waiting pods their nodes, runs of pods alike together; true if there may be more of them.
    pub(crate) fn place_runs(&mut self, worker: &Worker) -> bool {
        let mut left = PODS_AT_ONCE;
        let mut next: Option<Turn> = None;
        while left > 0 {
            // The pod after the run needs room, too.
            let room = worker.room();
            let first = match next.take() {
                Some(turn) => Some(turn),
                None if room > 0 => self.queue.pop(now_micros()),
                None => None,
            };
            let Some(first) = first else {
                return false;
            };
            let mut run = vec![first];
            let until_audit = AUDIT_EVERY - 1 - self.picks % AUDIT_EVERY;
            let longest = usize::try_from(until_audit).unwrap_or(usize::MAX);
            let longest = longest.min(RUN_MAX).min(left).min(room.saturating_sub(1));
            let alone = longest == 0 || !self.runs_with_others(first);
            while !alone && run.len() < longest && next.is_none() {
                match self.queue.pop(now_micros()) {
                    None => break,
                    Some(turn) if turn.class == first.class && self.runs_with_others(turn) => {
                        run.push(turn);
                    }
                    Some(turn) => next = Some(turn),
                }
            }
            left = left.saturating_sub(run.len());
            if alone {
                self.try_one(first, worker);
            } else {
                self.try_run(&run, worker);
            }
        }
        if let Some(turn) = next {
            self.try_one(turn, worker);
        }
        true
    }

    /// Is it waiting for any node, not for one, and is there nothing to be settled for it alone?
    fn runs_with_others(&self, turn: Turn) -> bool {
        let waiting = self.pending.get(turn.pod);
        waiting.is_some_and(|waiting| waiting.pin.is_none())
            && self.cluster.nominated_name(turn.pod).is_none()
            && self.surroundings.devices.wanted(turn.pod).is_none()
            && !self.opens_claims(turn.pod)
            && matches!(&self.cluster, Placer::Many(shards) if shards.is_plain(turn.class))
    }

    fn try_run(&mut self, run: &[Turn], worker: &Worker) {
        let begun = Instant::now();
        let Some(first) = run.first() else {
            return;
        };
        let pods: Vec<PodKey> = run.iter().map(|turn| turn.pod).collect();
        let mut random = self.random;
        let placed = match &mut self.cluster {
            Placer::Many(shards) => {
                shards.place_run(first.class, &pods, &mut || next_random(&mut random))
            }
            Placer::One(_) => Ok(Vec::new()),
        };
        self.random = random;
        let placed: HashMap<PodKey, _> = placed.unwrap_or_default().into_iter().collect();
        let each = begun.elapsed() / u32::try_from(run.len()).unwrap_or(1);
        for turn in run {
            match placed.get(&turn.pod) {
                Some(&node) => {
                    self.picks += 1;
                    self.progress.algorithm.observe_duration(each);
                    let this = Try {
                        begun,
                        profile: self.pending.get(turn.pod).map_or(0, |w| w.profile),
                        attempt: turn.attempt,
                        entered_micros: turn.entered_micros,
                        flushed: turn.flushed,
                    };
                    self.settle(*turn, (node, true), Vec::new(), this, worker);
                }
                // It hears why, alone.
                None => self.try_one(*turn, worker),
            }
        }
    }
}
