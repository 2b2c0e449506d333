//! What a kube-scheduler 1.20 says of its decisions in its log, and waiting for it.
//!
//! At these verbosities each decision leaves a line for each scoring plugin, one for each feasible node's total, and
//! one for how it ended. Does not know what is decided on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use value::{Map, Value};

/// Lines that may wait between the scheduler and us; it then waits for us.
const LINES_WAITING_MAX: usize = 100_000;
/// How long one decision may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags that make the scheduler say what is read here, and little else.
pub const FLAGS: [&str; 2] = [
    "--v=2",
    "--vmodule=generic_scheduler=10,eventhandlers=3,scheduler=3",
];

/// How a decision ended, with what was said before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// The node, or none.
    pub node: Option<String>,
    /// Why there was none.
    pub message: String,
    /// Total of each feasible node, where they were scored.
    pub scores: Map,
    /// Weighted scores by plugin and node.
    pub plugins: Map,
}

/// The log as it comes.
#[derive(Debug)]
pub struct Log {
    lines: Receiver<String>,
    /// Pods with a node that the scheduler has heard are gone, by address.
    gone: RefCell<BTreeSet<String>>,
}

impl Log {
    /// Reads a log to its end on a thread; copies every line to `copy`.
    pub fn of(source: impl Read + Send + 'static, mut copy: impl Write + Send + 'static) -> Log {
        let (sender, lines): (SyncSender<String>, _) = sync_channel(LINES_WAITING_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                // The copy is for people: a full disk must not end the comparison.
                let _ = writeln!(copy, "{line}");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Log {
            lines,
            gone: RefCell::default(),
        }
    }

    fn next(&self, until: Instant) -> Result<String, String> {
        let left = until.saturating_duration_since(Instant::now());
        let line = self
            .lines
            .recv_timeout(left)
            .map_err(|error| format!("the scheduler says no more: {error}"))?;
        if let Some((_, pod)) = line.split_once("delete event for scheduled pod ") {
            self.gone.borrow_mut().insert(pod.trim().to_owned());
        }
        Ok(line)
    }

    /// Waits for a line that has this in it.
    pub fn wait_for(&self, text: &str) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while !self
            .next(until)
            .map_err(|error| format!("waiting for {text:?}: {error}"))?
            .contains(text)
        {}
        Ok(())
    }

    /// Waits until the scheduler has heard that a pod with a node is gone.
    pub fn wait_for_end(&self, namespace: &str, name: &str) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let address = format!("{namespace}/{name}");
        while !self.gone.borrow().contains(&address) {
            self.next(until)
                .map_err(|error| format!("waiting for the end of {address}: {error}"))?;
        }
        Ok(())
    }

    /// Waits for the next decision on a pod that was begun after these pods were gone.
    pub fn decision(
        &self,
        namespace: &str,
        name: &str,
        after: &[String],
    ) -> Result<Decision, String> {
        let until = Instant::now() + PATIENCE;
        let mut decision = Decision::default();
        let address = format!("{namespace}/{name}");
        let mut too_early = false;
        loop {
            let line = self
                .next(until)
                .map_err(|error| format!("waiting for {address}: {error}"))?;
            let said = line.split_once("] ").map_or(&*line, |(_, said)| said);
            if said.strip_prefix("Attempting to schedule pod: ") == Some(&address) {
                let gone = self.gone.borrow();
                too_early = !after.iter().all(|pod| gone.contains(pod));
                decision = Decision::default();
            } else if too_early {
                // Begun while the scheduler still saw them: it will try again.
            } else if let Some(score) = said.strip_prefix("Host ") {
                decision.scores.extend(host(score));
            } else if let Some(scores) = said.strip_prefix("Plugin ") {
                decision.plugins.extend(plugin(scores, &address));
            } else if said.starts_with("\"Successfully bound pod to node\"")
                && field(said, "pod").as_ref() == Some(&address)
            {
                decision.node = field(said, "node");
                return Ok(decision);
            } else if said.starts_with("\"Unable to schedule pod; no fit; waiting\"")
                && field(said, "pod").as_ref() == Some(&address)
            {
                decision.message = field(said, "err").unwrap_or_default();
                return Ok(decision);
            } else if said.starts_with("\"Error scheduling pod; retrying\"") {
                return Err(said.to_owned());
            }
        }
    }
}

/// `NAME => Score TOTAL`.
fn host(said: &str) -> Option<(String, Value)> {
    let (name, total) = said.split_once(" => Score ")?;
    Some((name.to_owned(), total.trim().parse::<i64>().ok()?.into()))
}

/// `PLUGIN scores on NAMESPACE/NAME => [{NODE SCORE} …]`.
fn plugin(said: &str, address: &str) -> Option<(String, Value)> {
    let (plugin, rest) = said.split_once(" scores on ")?;
    let list = rest.strip_prefix(address)?.strip_prefix(" => [")?;
    let scores: Map = list
        .trim_end_matches(']')
        .split('}')
        .filter_map(|part| {
            let (node, score) = part.trim().strip_prefix('{')?.split_once(' ')?;
            Some((node.to_owned(), score.parse::<i64>().ok()?))
        })
        .collect();
    Some((plugin.to_owned(), scores.into()))
}

/// The value of `NAME="…"`.
fn field(said: &str, name: &str) -> Option<String> {
    let begin = said.find(&format!(" {name}=\""))? + name.len() + 3;
    let mut value = String::new();
    let mut chars = said.get(begin..)?.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(value),
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn log(text: &str) -> Log {
        Log::of(std::io::Cursor::new(text.to_owned()), std::io::sink())
    }

    #[test]
    fn a_decision_is_read_with_its_scores() {
        let log = log(
            "I1 x.go:504] Plugin ImageLocality scores on default/p => [{node-1 5} {node-2 0}]\n\
             I1 x.go:560] Host node-1 => Score 305\n\
             I1 x.go:560] Host node-2 => Score 300\n\
             I1 scheduler.go:592] \"Successfully bound pod to node\" pod=\"default/p\" node=\"node-1\" \
             evaluatedNodes=2 feasibleNodes=2\n",
        );
        let decision = log.decision("default", "p", &[]).unwrap();
        assert_eq!(decision.node.as_deref(), Some("node-1"));
        let scores = Value::from(decision.scores);
        assert_eq!(scores, json!({"node-1": 305, "node-2": 300}));
        let plugins = Value::from(decision.plugins);
        assert_eq!(
            plugins,
            json!({"ImageLocality": {"node-1": 5, "node-2": 0}})
        );
        assert!(log.wait_for("more").is_err());
    }

    #[test]
    fn a_failure_is_read_with_its_message() {
        let log = log(
            "I1 factory.go:321] \"Unable to schedule pod; no fit; waiting\" pod=\"shop/p\" \
             err=\"0/2 nodes are available: 2 Insufficient cpu.\"\n",
        );
        let decision = log.decision("shop", "p", &[]).unwrap();
        assert_eq!(decision.node, None);
        assert_eq!(
            decision.message,
            "0/2 nodes are available: 2 Insufficient cpu."
        );
    }

    #[test]
    fn what_was_begun_too_early_is_passed_over() {
        let log = log("I1 s.go:1] Attempting to schedule pod: default/p\n\
             I1 e.go:1] delete event for scheduled pod default/victim \n\
             I1 f.go:1] \"Unable to schedule pod; no fit; waiting\" pod=\"default/p\" err=\"no\"\n\
             I1 s.go:1] Attempting to schedule pod: default/p\n\
             I1 s.go:2] \"Successfully bound pod to node\" pod=\"default/p\" node=\"n\" feasibleNodes=1\n");
        let after = ["default/victim".to_owned()];
        let decision = log.decision("default", "p", &after).unwrap();
        assert_eq!(decision.node.as_deref(), Some("n"));
        assert_eq!(log.wait_for_end("default", "victim"), Ok(()));
    }
}
