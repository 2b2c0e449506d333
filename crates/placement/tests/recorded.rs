//! What a real kube-scheduler 1.20.2 decided, step by step, against our core under that release's rules.
//!
//! The stories in `recorded/` hold objects and outcomes; `cargo run -p rivals` records more of them. Needs no
//! Kubernetes.

#[path = "recorded/judge.rs"]
mod judge;

use judge::Judge;
use serde_json::Value;

fn told(name: &str, text: &str) -> judge::Tally {
    let mut lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a story has one object a line");
        line
    });
    let mut judge = Judge::new(&lines.next().expect("a story has a first line"));
    let mut wrong = Vec::new();
    for (at, line) in lines.enumerate() {
        let found = judge.take(&line);
        wrong.extend(
            found
                .iter()
                .map(|text| format!("{name}:{}: {text}", at + 2)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    judge.tally
}
