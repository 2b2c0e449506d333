//! What many clients at once are told is one history: there is an order of everything that was asked which explains
//! every answer and every event, whatever happens to the server and to its disk meanwhile.
//!
//! `crates/linear` judges. The disk fails as `wal::FaultyFiles` fails. `HISTORY_ROUNDS` says how often a server is
//! killed, `HISTORY_SEEDS` how many servers live on disks that fail, `HISTORY_SEED` runs one of them alone.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod recorder;
mod servers;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use clients::{Crowd, end_alarm, tell_all, wait_for_alarm};
use common::{Dice, TempDir};
use linear::{Found, History, check, check_keys};
use recorder::Recorder;
use servers::{InProcess, Killed};
use wal::FaultyFiles;

const CLIENTS: usize = 8;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One line is enough of a history that is wrong; the rest is in a file beside it.
fn judge(history: &History, what: &str) -> Found {
    let judged = check(history).and_then(|found| check_keys(history).map(|()| found));
    judged.unwrap_or_else(|wrong| {
        let path = std::env::temp_dir().join(format!("history-{}.txt", std::process::id()));
        let _ = std::fs::write(&path, format!("{history:#?}"));
        panic!("{what}: {wrong} (all of it is in {})", path.display())
    })
}

#[tokio::test]
async fn without_trouble_all_answers_are_one_history() {
    let dir = TempDir::new();
    let recorder = Arc::new(Recorder::new());
    let server = InProcess::on_files(&dir.0);
    let mut crowd = Crowd::start(&server.url, &recorder, CLIENTS, 200, 1).await;
    crowd.callers(CLIENTS).await;
    let log = tell_all(&server.url, &recorder).await;
    crowd.leave().await;
    server.end().await;
    let found = judge(&recorder.history(log), "without trouble");
    assert_eq!(found.unanswered_writes, 0);
    assert!(
        found.writes > CLIENTS * 60 && found.reads > CLIENTS * 60,
        "{found:?}"
    );
    assert!(found.events > CLIENTS * 60, "{found:?}");
}

#[tokio::test]
async fn killed_and_started_again_it_is_one_history() {
    let rounds = number("HISTORY_ROUNDS").unwrap_or(10);
    let dir = TempDir::new();
    let recorder = Arc::new(Recorder::new());
    for round in 0..rounds {
        let mut server = Killed::start(&dir.0);
        let mut crowd = Crowd::start(&server.url, &recorder, CLIENTS, usize::MAX, round + 10).await;
        // At different moments: after so many answers and so many microseconds.
        let enough = recorder.answered() + 40 + (round * 7919 % 300) as usize;
        while recorder.answered() < enough {
            assert!(!crowd.is_silent(), "the server ended by itself");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 1237 % 3000)).await;
        server.kill();
        // What was sent before is still read, and counts.
        crowd.callers(CLIENTS).await;
        crowd.leave().await;
        recorder.dead();
    }
    let mut server = Killed::start(&dir.0);
    let log = tell_all(&server.url, &recorder).await;
    server.kill();
    let found = judge(&recorder.history(log), "killed");
    assert!(found.writes as u64 > rounds * 20, "{found:?}");
    assert!(found.events as u64 > rounds * 20, "{found:?}");
    println!("{rounds} kills: {found:?}");
}

#[tokio::test]
async fn on_disks_that_fail_it_is_one_history() {
    if let Some(seed) = number("HISTORY_SEED") {
        println!("seed {seed}: {:?}", fail(seed).await);
        return;
    }
    let seeds = number("HISTORY_SEEDS").unwrap_or(6);
    let mut all = Found::default();
    for seed in 0..seeds {
        let found = fail(seed).await;
        all.writes += found.writes;
        all.events += found.events;
        all.unanswered_writes += found.unanswered_writes;
        all.lease_ends += found.lease_ends;
    }
    assert!(all.writes as u64 > seeds * 50, "{all:?}");
    assert!(all.events as u64 > seeds * 50, "{all:?}");
    println!("{seeds} disks: {all:?}");
}

/// Some lives on a disk that is slow, fails to sync, or only loses its power, which all of them end with; then one on
/// a disk that is full for a while.
async fn fail(seed: u64) -> Found {
    let mut dice = Dice::new(seed + 1);
    let recorder = Arc::new(Recorder::new());
    let mut medium = FaultyFiles::new(seed);
    for life in 0..3 {
        let server = InProcess::on_medium(&medium);
        medium.set_short_writes(dice.one_in(2));
        match (seed + life) % 3 {
            0 => medium.set_sync_delay(Duration::from_millis(1 + dice.below(8))),
            1 => medium.fail_sync(10 + dice.below(80)),
            _ => {}
        }
        let most = 60 + dice.below(250);
        let crowd = Crowd::start(
            &server.url,
            &recorder,
            CLIENTS,
            usize::MAX,
            100 * seed + life,
        );
        let mut crowd = crowd.await;
        wait(&recorder, &mut crowd, most).await;
        let after = dice.below(u64::from(u32::MAX));
        let found = recorder.lose(|| medium.after_crash(after));
        crowd.leave().await;
        server.end().await;
        recorder.dead();
        medium = found;
    }
    let server = InProcess::on_medium(&medium);
    medium.set_capacity_bytes(medium.used_bytes() + dice.below(20_000));
    let crowd = Crowd::start(&server.url, &recorder, CLIENTS, usize::MAX, 100 * seed + 99);
    let mut crowd = crowd.await;
    let was_full = wait_for_alarm(&server.url).await;
    wait(&recorder, &mut crowd, 40).await;
    medium.set_capacity_bytes(u64::MAX);
    let before = recorder.writes();
    for _ in 0..2_000 {
        end_alarm(&server.url).await;
        if recorder.writes() > before + 40 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        was_full && recorder.writes() > before + 40,
        "seed {seed}: it does not go on"
    );
    // What is under way may still happen: this server lives.
    crowd.leave().await;
    let log = tell_all(&server.url, &recorder).await;
    let found = judge(&recorder.history(log), &format!("seed {seed}"));
    server.end().await;
    found
}

/// Waits for so many answers more. A log that has stopped gives none: then not for long.
async fn wait(recorder: &Recorder, crowd: &mut Crowd, more: u64) {
    let enough = recorder.answered() + more as usize;
    let mut before = (recorder.answered(), 0);
    while recorder.answered() < enough && !crowd.is_silent() && before.1 < 60 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let answered = recorder.answered();
        let silent = if answered == before.0 {
            before.1 + 1
        } else {
            0
        };
        before = (answered, silent);
    }
}

/// Does nothing by itself: [`Killed`] runs it in a process of its own.
#[test]
fn child() {
    servers::child();
}
