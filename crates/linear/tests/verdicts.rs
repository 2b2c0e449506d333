//! Histories that are right are let pass; each way of being wrong is caught, by the facts, by the search, or by both.

use linear::{
    Answer, Ask, Call, Compare, Event, Found, History, Kv, LogEntry, NEVER, Outcome, Span, Step,
    StepAnswer, Target, Told, Txn, Watched, Wrong, check, check_keys,
};

fn kv(key: &str, value: &str, created: i64, modified: i64, version: i64) -> Kv {
    Kv {
        key: key.into(),
        value: value.into(),
        created,
        modified,
        version,
        lease: 0,
    }
}

fn event(now: Result<Kv, &str>, revision: i64, before: Option<Kv>) -> Event {
    let key = match &now {
        Ok(kv) => kv.key.clone(),
        Err(key) => (*key).to_owned(),
    };
    let now = now.ok();
    Event {
        key,
        revision,
        now,
        before,
    }
}

fn entry(revision: i64, events: &[Event]) -> LogEntry {
    LogEntry {
        revision,
        events: events.to_vec(),
    }
}

fn answered(begun: u64, ended: u64, ask: Ask, revision: i64, steps: &[StepAnswer]) -> Call {
    Call {
        client: 0,
        begun,
        ended,
        ask,
        outcome: Outcome::Answered(Answer {
            revision,
            succeeded: true,
            steps: steps.to_vec(),
        }),
    }
}

fn failed(mut call: Call) -> Call {
    if let Outcome::Answered(answer) = &mut call.outcome {
        answer.succeeded = false;
    }
    call
}

fn unknown(begun: u64, ended: u64, ask: Ask) -> Call {
    Call {
        client: 1,
        begun,
        ended,
        ask,
        outcome: Outcome::Unknown,
    }
}

fn steps(then: &[Step]) -> Ask {
    Ask::Txn(Txn {
        then: then.to_vec(),
        ..Txn::default()
    })
}

fn put_step(key: &str, value: &str, lease: i64) -> Step {
    Step::Put {
        key: key.into(),
        value: value.into(),
        lease,
    }
}

fn put(key: &str, value: &str) -> Ask {
    steps(&[put_step(key, value, 0)])
}

fn delete(key: &str) -> Ask {
    steps(&[Step::Delete(Span::one(key))])
}

fn get(key: &str) -> Ask {
    Ask::Get {
        span: Span::one(key),
        revision: 0,
        is_serializable: false,
    }
}

fn got(kvs: &[Kv]) -> [StepAnswer; 1] {
    [StepAnswer::Got(kvs.to_vec())]
}

const PUT: [StepAnswer; 1] = [StepAnswer::Put];

/// Put, put, read, compare-and-put, delete, and a read of nothing; two keys in one transaction in between.
fn right() -> History {
    let first = kv("a", "1", 2, 2, 1);
    let second = kv("a", "2", 2, 3, 2);
    let third = kv("a", "3", 2, 4, 3);
    let (b, c) = (kv("b", "5", 5, 5, 1), kv("c", "6", 5, 5, 1));
    let swap = |revision, value| {
        Ask::Txn(Txn {
            compares: vec![Compare {
                key: "a".into(),
                target: Target::Modified(revision),
            }],
            then: vec![put_step("a", value, 0)],
            otherwise: vec![Step::Get(Span::one("a"))],
        })
    };
    let calls = vec![
        answered(0, 10, put("a", "1"), 2, &PUT),
        answered(5, 20, put("a", "2"), 3, &PUT),
        answered(21, 22, get("a"), 3, &got(std::slice::from_ref(&second))),
        answered(23, 30, swap(3, "3"), 4, &PUT),
        failed(answered(
            23,
            30,
            swap(3, "4"),
            4,
            &got(std::slice::from_ref(&third)),
        )),
        answered(
            31,
            40,
            steps(&[put_step("b", "5", 0), put_step("c", "6", 0)]),
            5,
            &[StepAnswer::Put, StepAnswer::Put],
        ),
        answered(41, 50, delete("a"), 6, &[StepAnswer::Deleted(1)]),
        answered(41, 50, delete("a"), 6, &[StepAnswer::Deleted(0)]),
        answered(51, 52, get("a"), 6, &got(&[])),
    ];
    let log = vec![
        entry(2, &[event(Ok(first.clone()), 2, None)]),
        entry(3, &[event(Ok(second.clone()), 3, Some(first))]),
        entry(4, &[event(Ok(third.clone()), 4, Some(second))]),
        entry(5, &[event(Ok(b), 5, None), event(Ok(c), 5, None)]),
        entry(6, &[event(Err("a"), 6, Some(third))]),
    ];
    let told = |entry: &LogEntry| Told {
        at: 10 * u64::try_from(entry.revision).unwrap(),
        revision: entry.revision,
        events: entry.events.clone(),
    };
    let watches = vec![Watched {
        name: "all".into(),
        span: Span::all(),
        start: 2,
        has_before: true,
        told: log.iter().map(told).collect(),
    }];
    History {
        calls,
        watches,
        log,
    }
}

#[test]
fn a_right_history_passes_and_says_what_it_held() {
    let found = Found {
        writes: 5,
        reads: 4,
        events: 6,
        ..Found::default()
    };
    assert_eq!(check(&right()), Ok(found));
    assert_eq!(check_keys(&right()), Ok(()));
}

#[test]
fn a_stale_read_is_caught_by_the_facts_and_by_the_search() {
    let mut stale = right();
    // The old value, at the old revision: every single answer is the state of some time.
    stale.calls[2] = answered(21, 22, get("a"), 2, &got(&[kv("a", "1", 2, 2, 1)]));
    let wrong = check(&stale).unwrap_err();
    assert!(
        matches!(
            wrong,
            Wrong::BackInTime {
                revision: 2,
                known: 3,
                ..
            }
        ),
        "{wrong}"
    );
    let wrong = check_keys(&stale).unwrap_err();
    assert!(matches!(wrong, Wrong::NoOrder { .. }), "{wrong}");
    // A serializable one may be old, but not of another revision than it says.
    let old = |revision| Ask::Get {
        span: Span::one("a"),
        revision,
        is_serializable: true,
    };
    stale.calls[2] = answered(21, 22, old(0), 2, &got(&[kv("a", "1", 2, 2, 1)]));
    assert!(check(&stale).is_ok());
    stale.calls[2] = answered(21, 22, old(0), 3, &got(&[kv("a", "1", 2, 2, 1)]));
    assert!(matches!(
        check(&stale),
        Err(Wrong::Answer { revision: 3, .. })
    ));
    // One of a revision that is named is the state at that, whatever its header.
    stale.calls[2] = answered(21, 22, old(2), 3, &got(&[kv("a", "1", 2, 2, 1)]));
    assert!(check(&stale).is_ok());
}

#[test]
fn a_lost_write_is_caught() {
    let mut lost = right();
    lost.log.remove(3);
    lost.watches.clear();
    assert!(matches!(check(&lost), Err(Wrong::Lost { revision: 5, .. })));
    // Half of a transaction.
    let mut half = right();
    half.log[3].events.pop();
    half.watches.clear();
    assert!(matches!(check(&half), Err(Wrong::Lost { revision: 5, .. })));
    // Without the log: an acknowledged put that no later read sees.
    let mut unseen = right();
    unseen.log.clear();
    unseen.calls.truncate(2);
    unseen.calls.push(answered(21, 22, get("a"), 3, &got(&[])));
    assert!(matches!(check_keys(&unseen), Err(Wrong::NoOrder { .. })));
}

#[test]
fn a_write_that_happens_twice_is_caught() {
    let mut twice = right();
    // The delete's revision is followed by the transaction once more.
    let again = kv("b", "5", 5, 7, 2);
    twice.log.push(entry(
        7,
        &[event(Ok(again), 7, Some(kv("b", "5", 5, 5, 1)))],
    ));
    twice.watches.clear();
    assert!(matches!(
        check(&twice),
        Err(Wrong::Nobody { revision: 7, .. })
    ));
    // One without an answer may explain one revision, not two.
    let mut unanswered = twice.clone();
    unanswered.calls.push(unknown(60, NEVER, put("b", "5")));
    assert_eq!(
        check(&unanswered).map(|found| found.unanswered_writes),
        Ok(1)
    );
    let before = kv("b", "5", 5, 7, 2);
    let again = kv("b", "5", 5, 8, 3);
    unanswered
        .log
        .push(entry(8, &[event(Ok(again), 8, Some(before))]));
    assert!(matches!(
        check(&unanswered),
        Err(Wrong::Nobody { revision: 8, .. })
    ));
}

#[test]
fn a_revision_that_comes_twice_is_caught() {
    let mut twice = right();
    twice.calls.push(answered(60, 70, put("b", "9"), 6, &PUT));
    assert!(matches!(
        check(&twice),
        Err(Wrong::Twice { revision: 6, .. })
    ));
    // Two deletions that both say they did it.
    let mut both = right();
    both.calls[7] = answered(41, 50, delete("a"), 6, &[StepAnswer::Deleted(1)]);
    assert!(matches!(
        check(&both),
        Err(Wrong::Twice { revision: 6, .. })
    ));
    assert!(matches!(check_keys(&both), Err(Wrong::NoOrder { .. })));
    let mut log = right();
    log.log[4].revision = 5;
    assert!(matches!(
        check(&log),
        Err(Wrong::LogOrder {
            revision: 5,
            before: 5
        })
    ));
}

#[test]
fn two_swaps_of_one_revision_cannot_both_succeed() {
    let mut both = right();
    let mut other = both.calls[4].clone();
    other.outcome = Outcome::Answered(Answer {
        revision: 5,
        succeeded: true,
        steps: PUT.to_vec(),
    });
    both.calls[4] = other;
    assert!(check(&both).is_err());
    assert!(matches!(check_keys(&both), Err(Wrong::NoOrder { .. })));
}

#[test]
fn a_write_that_goes_before_what_was_told_is_caught() {
    let mut back = right();
    // It is in the log at 3, but began after somebody had been told of 4.
    back.calls[1] = answered(45, 60, put("a", "2"), 3, &PUT);
    let wrong = check(&back).unwrap_err();
    assert!(
        matches!(wrong, Wrong::BackInTime { revision: 3, .. }),
        "{wrong}"
    );
}

#[test]
fn a_wrong_answer_is_caught() {
    let mut version = right();
    version.calls[2] = answered(21, 22, get("a"), 3, &got(&[kv("a", "2", 2, 3, 1)]));
    assert!(matches!(
        check(&version),
        Err(Wrong::Answer { revision: 3, .. })
    ));
    assert!(check_keys(&version).is_err());
    let mut missing = right();
    let all = Ask::Get {
        span: Span::all(),
        revision: 0,
        is_serializable: false,
    };
    let whole = [
        kv("a", "3", 2, 4, 3),
        kv("b", "5", 5, 5, 1),
        kv("c", "6", 5, 5, 1),
    ];
    missing
        .calls
        .push(answered(32, 45, all.clone(), 5, &got(&whole)));
    assert!(check(&missing).is_ok());
    missing.calls.pop();
    missing
        .calls
        .push(answered(32, 45, all, 5, &got(&whole[..2])));
    assert!(matches!(check(&missing), Err(Wrong::Answer { .. })));
}

#[test]
fn what_was_refused_or_not_asked_yet_cannot_have_happened() {
    let mut history = right();
    let made = kv("d", "7", 7, 7, 1);
    history.log.push(entry(7, &[event(Ok(made), 7, None)]));
    let mut refused = history.clone();
    refused.calls.push(Call {
        outcome: Outcome::Refused,
        ..unknown(60, 70, put("d", "7"))
    });
    assert!(matches!(
        check(&refused),
        Err(Wrong::Nobody { revision: 7, .. })
    ));
    let told = |at| Told {
        at,
        revision: 7,
        events: history.log[5].events.clone(),
    };
    // A watch tells it before, or after, it was asked for.
    for (at, is_right) in [(55, false), (65, true)] {
        let mut early = history.clone();
        early.calls.push(unknown(60, NEVER, put("d", "7")));
        early.watches[0].told.push(told(at));
        assert_eq!(check(&early).is_ok(), is_right, "told at {at}");
    }
    // Nor after its server was dead, which somebody was told afterwards that it had not happened.
    let mut dead = history.clone();
    dead.calls.push(unknown(60, 70, put("d", "7")));
    assert!(check(&dead).is_ok());
    dead.calls.push(answered(
        80,
        81,
        get("b"),
        6,
        &got(&[kv("b", "5", 5, 5, 1)]),
    ));
    assert!(matches!(
        check(&dead),
        Err(Wrong::Nobody { revision: 7, .. })
    ));
}

#[test]
fn events_that_do_not_follow_are_caught() {
    let mut before = right();
    before.log[1].events[0].before = None;
    assert!(matches!(
        check(&before),
        Err(Wrong::Event { revision: 3, .. })
    ));
    let mut version = right();
    version.log[2].events[0].now.as_mut().unwrap().version = 7;
    assert!(matches!(
        check(&version),
        Err(Wrong::Event { revision: 4, .. })
    ));
    let mut gone = right();
    gone.log[4].events[0].key = "x".into();
    assert!(matches!(
        check(&gone),
        Err(Wrong::Event { revision: 6, .. })
    ));
}

fn said_of_watch(change: impl FnOnce(&mut Watched)) -> String {
    let mut history = right();
    change(&mut history.watches[0]);
    match check(&history) {
        Err(Wrong::Watch { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn watches_that_miss_reorder_repeat_split_or_invent_are_caught() {
    assert_eq!(
        said_of_watch(|watch| drop(watch.told.remove(1))),
        "revision 4 is told where 3 is due"
    );
    assert_eq!(
        said_of_watch(|watch| watch.told.swap(1, 2)),
        "revision 4 is told where 3 is due"
    );
    assert_eq!(
        said_of_watch(|watch| watch.told.insert(2, watch.told[1].clone())),
        "revision 3 is told after 3"
    );
    assert_eq!(
        said_of_watch(|watch| drop(watch.told[3].events.pop())),
        "1 of the 2 events of revision 5 are told"
    );
    assert_eq!(
        said_of_watch(|watch| watch.start = 3),
        "revision 2 is told after 2"
    );
    assert_eq!(
        said_of_watch(|watch| watch.span = Span::one("a")),
        "revision 5 is told where 6 is due"
    );
    assert!(
        said_of_watch(|watch| watch.told[0].events[0].now = Some(kv("a", "9", 2, 2, 1)))
            .ends_with("is told, which never was")
    );
    let progress = Told {
        at: 70,
        revision: 6,
        events: Vec::new(),
    };
    assert_eq!(
        said_of_watch(|watch| watch.told[4] = progress),
        "all up to 6 is said to be told, but 6 was not"
    );
    assert_eq!(
        said_of_watch(|watch| watch.told[2].revision = 3),
        "an answer of revision 3 tells 4"
    );
}

#[test]
fn a_lease_takes_all_its_keys_not_before_its_time() {
    let hung = |key: &str, value: &str, revision| Kv {
        lease: 9,
        ..kv(key, value, revision, revision, 1)
    };
    let (a, b) = (hung("a", "1", 2), hung("b", "2", 3));
    let grant = Ask::Grant {
        id: 9,
        ttl_nanos: 100,
    };
    let leased = |key: &str, value: &str| steps(&[put_step(key, value, 9)]);
    let history = |end: u64, gone: &[Event]| History {
        calls: vec![
            answered(0, 1, grant.clone(), 1, &[]),
            answered(2, 3, leased("a", "1"), 2, &PUT),
            answered(4, 5, leased("b", "2"), 3, &PUT),
            answered(end, end + 1, get("a"), 4, &got(&[])),
        ],
        log: vec![
            entry(2, &[event(Ok(a.clone()), 2, None)]),
            entry(3, &[event(Ok(b.clone()), 3, None)]),
            entry(4, gone),
        ],
        ..History::default()
    };
    let both = [
        event(Err("a"), 4, Some(a.clone())),
        event(Err("b"), 4, Some(b.clone())),
    ];
    assert_eq!(
        check(&history(100, &both)).map(|found| found.lease_ends),
        Ok(1)
    );
    let early = check(&history(50, &both));
    assert!(matches!(early, Err(Wrong::Nobody { revision: 4, .. })));
    let half = check(&history(100, &both[..1]));
    assert!(matches!(half, Err(Wrong::Nobody { revision: 4, .. })));
    // Revoked, it ends at once; and nothing may hang on it afterwards.
    let mut revoked = history(50, &both);
    revoked.calls[3] = answered(50, 51, Ask::Revoke { id: 9 }, 4, &[]);
    assert_eq!(check(&revoked).map(|found| found.lease_ends), Ok(1));
    revoked.log.pop();
    assert!(matches!(
        check(&revoked),
        Err(Wrong::Answer { revision: 4, .. })
    ));
}
