//! What a real kube-scheduler 1.20.2 decided, step by step, against our core under that release's rules.
//!
//! The stories in `recorded/` hold objects and outcomes; `cargo run -p rivals` records more of them. Needs no
//! Kubernetes.

#[path = "recorded/judge.rs"]
mod judge;

use judge::Judge;
use value::Value;

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

#[test]
fn every_recorded_decision_of_1_20_is_ours() {
    let mut all = judge::Tally::default();
    for (name, text) in [
        // Weights of 1.20; nodes change.
        ("seed-1", include_str!("recorded/seed-1.jsonl")),
        // Weights of later releases; nodes change.
        ("seed-2", include_str!("recorded/seed-2.jsonl")),
        // Nodes come and go.
        ("seed-3", include_str!("recorded/seed-3.jsonl")),
    ] {
        let tally = told(name, text);
        all.placed += tally.placed;
        all.scores += tally.scores;
        all.nowhere += tally.nowhere;
        all.evictions += tally.evictions;
    }
    // The stories say something of everything.
    assert!(all.placed > 200 && all.scores > 1000, "{all:?}");
    assert!(all.nowhere > 20 && all.evictions > 10, "{all:?}");
}

#[test]
fn another_score_another_node_or_another_victim_is_told_of() {
    let text = include_str!("recorded/seed-1.jsonl");
    let mut lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a story has one object a line");
        line
    });
    let mut judge = Judge::new(&lines.next().expect("a story has a first line"));
    let (mut scores, mut victims) = (0, 0);
    for mut line in lines {
        let spoilt = if let Some(table) = line["outcome"]["scores"].as_object_mut() {
            scores += 1;
            let first = table.values_mut().next().expect("some node is feasible");
            *first = (first.as_i64().unwrap_or(0) + 1).into();
            true
        } else if line["outcome"]["evicts"]
            .as_array()
            .is_some_and(|v| v.len() > 1)
        {
            victims += 1;
            let list = line["outcome"]["evicts"].as_array_mut();
            list.expect("it was a list").pop();
            true
        } else {
            false
        };
        let wrong = judge.take(&line);
        assert!(!spoilt || !wrong.is_empty(), "{line}");
        if victims == 1 {
            // From here on the two clusters are not the same.
            break;
        }
    }
    assert!(scores > 10 && victims == 1, "{scores} {victims}");
}
