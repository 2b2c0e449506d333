//! Every reader of bytes keeps its promise on some thousand spoilt inputs, the same at every run. `FUZZ_CASES` makes
//! more of them, `FUZZ_SEED` says which is the first.

use spoil::{bbolt, cases, http2, log, wire};

/// How often a reader took what it was given, and how often it did not. A test in which one of both does not happen has
/// tested little.
#[derive(Default)]
struct Taken([usize; 2]);

impl Taken {
    fn count(&mut self, is_taken: bool) {
        self.0[usize::from(is_taken)] += 1;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let [refused, taken] = self.0;
        println!("{taken} taken, {refused} refused");
        let all = refused + taken;
        assert!(
            std::thread::panicking() || all < 300 || refused.min(taken) > all / 20,
            "{taken} taken, {refused} refused"
        );
    }
}

#[test]
fn both_ends_of_http2_take_any_bytes() {
    let mut taken = Taken::default();
    cases(6_000, |chance| {
        let is_server = chance.one_in(2);
        let mut frames = http2::conversation(chance, is_server);
        // Whole conversations, frames in another order, and spoilt bytes.
        if chance.one_in(9) {
            let (one, other) = (chance.below(frames.len()), chance.below(frames.len()));
            frames.swap(one, other);
        }
        let mut bytes = frames.concat();
        if chance.one_in(9) {
            bytes = [&bytes[..], &bytes[bytes.len().min(24)..]].concat();
        }
        let spoilt = if chance.one_in(2) { 0 } else { chance.below(4) };
        for _ in 0..spoilt {
            chance.spoil(&mut bytes);
        }
        let piece = [1, 7, 100, 1 << 20][chance.below(4)];
        taken.count(http2::peer_may_say(&bytes, piece, is_server));
    });
}

#[test]
fn messages_are_refused_or_carried_out_on_a_store_that_stays_sound() {
    let mut taken = Taken::default();
    cases(400, |chance| {
        let store = wire::store();
        for _ in 0..50 {
            let mut bytes = wire::message(chance);
            let spoilt = if chance.one_in(2) { 0 } else { chance.below(4) };
            for _ in 0..spoilt {
                chance.spoil(&mut bytes);
            }
            taken.count(wire::anybody_may_send(&bytes, &store));
        }
        store.check().unwrap();
    });
}

#[test]
fn a_spoilt_segment_is_an_error_or_a_store() {
    let mut good = Vec::new();
    let mut number = 0;
    let mut taken = Taken::default();
    cases(1_500, |chance| {
        if number % 100 == 0 {
            good = log::good(chance).0;
        }
        number += 1;
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(3) {
            log::spoil(chance, &mut bytes);
        }
        taken.count(log::segment_may_hold(&bytes).is_ok());
    });
}

#[test]
fn a_spoilt_snapshot_is_an_error_or_a_store() {
    let mut good = Vec::new();
    let mut number = 0;
    let mut taken = Taken::default();
    cases(1_500, |chance| {
        if number % 100 == 0 {
            good = log::good(chance).1;
        }
        number += 1;
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(3) {
            log::spoil(chance, &mut bytes);
        }
        taken.count(log::snapshot_may_hold(&bytes).is_ok());
    });
}

#[test]
fn a_spoilt_database_of_etcd_is_read_or_refused() {
    let mut good = Vec::new();
    let mut number = 0;
    let mut taken = Taken::default();
    cases(3_000, |chance| {
        if number % 50 == 0 {
            good = bbolt::good(chance);
        }
        number += 1;
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(4) {
            bbolt::spoil(chance, &mut bytes);
        }
        taken.count(bbolt::file_may_hold(&bytes).is_ok());
    });
}
