//! Every reader of bytes keeps its promise on some thousand spoilt inputs, the same at every run. `FUZZ_CASES` makes
//! more of them, `FUZZ_SEED` says which is the first.

use spoil::{bbolt, cases, http2, log, wire};

#[test]
fn both_ends_of_http2_take_any_bytes() {
    cases(6_000, |chance| {
        let is_server = chance.one_in(2);
        let mut frames = http2::conversation(chance, is_server);
        // Whole conversations, frames in another order, and spoilt bytes.
        if chance.one_in(4) {
            let (one, other) = (chance.below(frames.len()), chance.below(frames.len()));
            frames.swap(one, other);
        }
        let mut bytes = frames.concat();
        if chance.one_in(4) {
            bytes = [&bytes[..], &bytes[bytes.len().min(24)..]].concat();
        }
        let spoilt = chance.below(4);
        for _ in 0..spoilt {
            chance.spoil(&mut bytes);
        }
        let piece = [1, 7, 100, 1 << 20][chance.below(4)];
        http2::peer_may_say(&bytes, piece, is_server);
    });
}

#[test]
fn messages_are_refused_or_carried_out_on_a_store_that_stays_sound() {
    cases(400, |chance| {
        let store = wire::store();
        for _ in 0..50 {
            let mut bytes = wire::message(chance);
            let spoilt = if chance.one_in(2) { 0 } else { chance.below(4) };
            for _ in 0..spoilt {
                chance.spoil(&mut bytes);
            }
            wire::anybody_may_send(&bytes, &store);
        }
        store.check().unwrap();
    });
}

#[test]
fn a_spoilt_segment_is_an_error_or_a_store() {
    let mut good = Vec::new();
    let mut number = 0;
    cases(1_500, |chance| {
        if number % 100 == 0 {
            good = log::good(chance).0;
        }
        number += 1;
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(3) {
            log::spoil(chance, &mut bytes);
        }
        log::segment_may_hold(&bytes);
    });
}

#[test]
fn a_spoilt_snapshot_is_an_error_or_a_store() {
    let mut good = Vec::new();
    let mut number = 0;
    cases(1_500, |chance| {
        if number % 100 == 0 {
            good = log::good(chance).1;
        }
        number += 1;
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(3) {
            log::spoil(chance, &mut bytes);
        }
        log::snapshot_may_hold(&bytes);
    });
}

#[test]
fn a_spoilt_database_of_etcd_is_read_or_refused() {
    let mut good = Vec::new();
    let mut number = 0;
    cases(3_000, |chance| {
        if number % 50 == 0 {
            good = bbolt::good(chance);
        }
        number += 1;
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(4) {
            bbolt::spoil(chance, &mut bytes);
        }
        bbolt::file_may_hold(&bytes);
    });
}
