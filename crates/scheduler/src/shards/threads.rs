//! Shards on threads of their own, spoken to over bounded channels.
//!
//! Orders wait here until an answer is asked for, so that a thread is woken for many at once. Does not know what the
//! messages say.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use placement::Config;
use placement::shards::{ASKS_AT_ONCE, Links, Lost, Reply, Request, SHARDS_MAX, Shard};

use super::ANSWER_WAIT;

/// Orders sent in one piece.
const PIECE_MAX: usize = 256;
/// Pieces that may wait for one shard: 16 thousand orders of about 100 bytes. A scheduler that is further ahead waits.
const PIECES_WAITING_MAX: usize = 64;

#[derive(Debug)]
struct Seat {
    orders: SyncSender<Vec<Request>>,
    answers: Receiver<Reply>,
    outbox: Vec<Request>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Threads {
    seats: Vec<Seat>,
    config: Config,
}

impl Threads {
    /// Starts so many empty shards, at most [`SHARDS_MAX`]. They end when this is dropped.
    pub(crate) fn start(shards: usize, config: &Config) -> Threads {
        let shards = shards.min(SHARDS_MAX);
        Threads {
            seats: (0..shards).map(|at| Seat::start(at, config)).collect(),
            config: config.clone(),
        }
    }
}

impl Seat {
    fn start(at: usize, config: &Config) -> Seat {
        let (orders, inbox) = sync_channel::<Vec<Request>>(PIECES_WAITING_MAX);
        let (outbox, answers) = sync_channel(ASKS_AT_ONCE);
        let config = config.clone();
        let thread = std::thread::Builder::new().name(format!("shard-{at}"));
        let started = thread.spawn(move || {
            let mut shard = Shard::new(config);
            for request in inbox.into_iter().flatten() {
                if let Some(reply) = shard.take(request)
                    && outbox.send(reply).is_err()
                {
                    return;
                }
            }
        });
        if let Err(error) = started {
            // Its channel is closed: it counts as lost.
            tracing::error!(shard = at, %error, "cannot start a thread for a shard");
        }
        Seat {
            orders,
            answers,
            outbox: Vec::new(),
        }
    }

    fn flush(&mut self) -> Result<(), Lost> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.outbox);
        self.orders.send(piece).map_err(|_| Lost)
    }
}

impl Links for Threads {
    fn count(&self) -> usize {
        self.seats.len()
    }

    fn send(&mut self, shard: usize, request: Request) -> Result<(), Lost> {
        let seat = &mut self.seats[shard];
        seat.outbox.push(request);
        if seat.outbox.len() < PIECE_MAX {
            return Ok(());
        }
        seat.flush()
    }

    fn receive(&mut self, shard: usize) -> Result<Reply, Lost> {
        self.flush();
        let answers = &self.seats[shard].answers;
        answers.recv_timeout(ANSWER_WAIT).map_err(|_| {
            tracing::error!(
                shard,
                "a shard of the scheduler does not answer: its nodes go to the others"
            );
            Lost
        })
    }

    fn flush(&mut self) {
        for seat in &mut self.seats {
            // Who is gone is noticed by whoever waits for an answer.
            let _ = seat.flush();
        }
    }

    fn revive(&mut self, shard: usize) -> bool {
        self.seats[shard] = Seat::start(shard, &self.config);
        true
    }
}
