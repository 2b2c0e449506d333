//! A range in pieces, all at one revision: neither we nor the client ever hold all of it.
//!
//! Each piece is an ordinary range in the name of the caller, cut after [`RANGE_PIECE_BYTES`]. The answer's header,
//! its count and whether a limit cut it come with the last piece. A compaction past the revision ends the stream.

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::range_op;
use pb::range_request::{SortOrder, SortTarget};
use prost::Message as _;
use tonic::{Request, Status};

use crate::api::Api;
use crate::limits::{RANGE_PIECE_BYTES, RANGE_PIECE_KEYS_FIRST, RANGE_PIECE_KEYS_MAX};
use crate::queue::{Caller, revision};
use crate::refuse::status;
use crate::stepping::Steps;

const NO_SORT: &str = "RangeStream does not support custom sort orders";
const NO_FILTERS: &str = "RangeStream does not support revision filters";

/// The pieces of one range.
pub struct Pieces {
    caller: Caller,
    /// What is still to be read.
    range: pb::RangeRequest,
    /// Keys that may still be sent; 0 for any number.
    limit: i64,
    /// Keys to look at for the next piece.
    look: i64,
    /// Taken from the first piece: they hold for all of it.
    whole: Option<Whole>,
    is_over: bool,
}

struct Whole {
    header: Option<pb::ResponseHeader>,
    count: i64,
}

impl Pieces {
    /// Begins. Refuses what cannot be told in pieces.
    pub fn new(api: &Api, request: Request<pb::RangeRequest>) -> Result<Pieces, Status> {
        let (caller, mut range) = Caller::of(api, request);
        range_op(&range).map_err(status)?;
        if range.sort_order == i32::from(SortOrder::None) {
            // Without an order the target means nothing here.
            range.sort_target = SortTarget::Key.into();
        }
        let by_key = range.sort_target == i32::from(SortTarget::Key);
        if !by_key || range.sort_order == i32::from(SortOrder::Descend) {
            return Err(Status::unimplemented(NO_SORT));
        }
        let filters = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        if filters.iter().any(|bound| *bound != 0) {
            return Err(Status::unimplemented(NO_FILTERS));
        }
        Ok(Pieces {
            caller,
            limit: range.limit.max(0),
            look: RANGE_PIECE_KEYS_FIRST,
            range,
            whole: None,
            is_over: false,
        })
    }

    async fn next(&mut self) -> Result<pb::RangeResponse, Status> {
        let is_bounded = self.limit > 0;
        self.range.limit = match self.limit {
            0 => self.look,
            left => left.min(self.look),
        };
        let mut piece = self.caller.range(self.range.clone()).await?;
        let (header, count) = (piece.header.take(), piece.count);
        let whole = self.whole.get_or_insert(Whole { header, count });
        if self.range.revision <= 0 {
            self.range.revision = revision(whole.header.as_ref());
        }
        if self.range.count_only {
            self.is_over = true;
        } else {
            let was_cut = cut(&mut piece.kvs);
            let is_more = piece.more || was_cut;
            let sent = i64::try_from(piece.kvs.len()).unwrap_or(i64::MAX);
            self.limit = (self.limit - sent).max(0);
            self.look = next_look(self.look, sent, was_cut);
            self.is_over = !is_more || (is_bounded && self.limit == 0);
            piece.more = is_more;
        }
        if self.is_over {
            piece.header = whole.header.take();
            piece.count = whole.count;
            return Ok(piece);
        }
        if let Some(last) = piece.kvs.last() {
            self.range.key = after(&last.key);
        }
        piece.more = false;
        piece.count = 0;
        Ok(piece)
    }
}

impl Steps for Pieces {
    type Answer = pb::RangeStreamResponse;

    async fn step(&mut self) -> Option<Result<pb::RangeStreamResponse, Status>> {
        if self.is_over {
            return None;
        }
        let piece = self.next().await;
        Some(piece.map(|piece| pb::RangeStreamResponse {
            range_response: Some(piece),
        }))
    }
}

/// Looks at about as many keys as fit: what is looked at and does not fit is looked at again.
fn next_look(look: i64, sent: i64, was_cut: bool) -> i64 {
    let next = if was_cut { sent + 1 } else { look * 2 };
    next.clamp(1, RANGE_PIECE_KEYS_MAX)
}

/// Keeps what fits into a piece, at least one key. True if there was more.
fn cut(kvs: &mut Vec<etcd_wire::mvccpb::KeyValue>) -> bool {
    let mut bytes = 0_usize;
    let fits = kvs.iter().take_while(|kv| {
        let is_first = bytes == 0;
        bytes += kv.encoded_len().max(1);
        is_first || bytes <= RANGE_PIECE_BYTES
    });
    let fits = fits.count();
    let was_cut = fits < kvs.len();
    kvs.truncate(fits);
    was_cut
}

/// The key right after this one.
fn after(key: &Bytes) -> Bytes {
    [&key[..], &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_grows_until_it_fills_a_piece() {
        assert_eq!(next_look(100, 100, false), 200);
        assert_eq!(next_look(8_000, 8_000, false), RANGE_PIECE_KEYS_MAX);
        assert_eq!(next_look(200, 30, true), 31);
        assert_eq!(next_look(1, 1, true), 2);
    }

    #[test]
    fn a_piece_holds_what_fits_and_at_least_one_key() {
        let kv = |bytes| etcd_wire::mvccpb::KeyValue {
            key: "k".into(),
            value: vec![0; bytes].into(),
            ..Default::default()
        };
        let mut small = vec![kv(10), kv(10)];
        assert!(!cut(&mut small));
        assert_eq!(small.len(), 2);
        let mut large = vec![kv(RANGE_PIECE_BYTES * 2), kv(1)];
        assert!(cut(&mut large));
        assert_eq!(large.len(), 1);
        let mut three = vec![
            kv(RANGE_PIECE_BYTES / 2),
            kv(RANGE_PIECE_BYTES / 4),
            kv(RANGE_PIECE_BYTES / 2),
        ];
        assert!(cut(&mut three));
        assert_eq!(three.len(), 2);
    }
}
