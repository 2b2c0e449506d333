//! The patch of a pod's status after a step of its built-in life, as text.
//!
//! A million pods start, each with one; a tree of it, made to be printed and thrown away, would cost more than the text.
//! Does not know when a step is due.

use std::fmt::Write as _;

use crate::node::node_address;
use crate::pod::{PodShape, Step, next_pod_address};

/// The strategic merge patch of a pod's `status` after a step, as a kubelet sends it; `uid` guards it.
pub(crate) fn patch(pod: &PodShape, step: Step, uid: &str, node: usize, now_micros: i64) -> String {
    let address = match step {
        Step::Start if !pod.host_network => next_pod_address(),
        _ => node_address(node),
    };
    patch_with(pod, step, uid, node, &address, now_micros)
}

/// The same for a pod of this address.
fn patch_with(
    pod: &PodShape,
    step: Step,
    uid: &str,
    node: usize,
    address: &str,
    now_micros: i64,
) -> String {
    let now = meta::time::format_seconds(now_micros);
    let finished = step == Step::Finish;
    let ready = step == Step::BecomeReady || step == Step::Start && pod.ready_delay.is_zero();
    let why = match (finished, ready) {
        (true, _) => "PodCompleted",
        (false, true) => "",
        (false, false) => "ContainersNotReady",
    };
    let uid = Quoted(uid);
    let phase = if finished { "Succeeded" } else { "Running" };
    let mut out = String::with_capacity(1536);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r#"{{"metadata":{{"uid":{uid}}},"status":{{"phase":"{phase}","conditions":["#
    );
    let mut condition = |kind: &str, is_true: bool, reason: &str| {
        let (separator, status) = (
            if kind == "Ready" { "" } else { "," },
            if is_true { "True" } else { "False" },
        );
        let _ = write!(
            out,
            r#"{separator}{{"type":"{kind}","status":"{status}","lastProbeTime":null,"lastTransitionTime":"{now}""#
        );
        if !reason.is_empty() {
            let _ = write!(out, r#","reason":"{reason}""#);
        }
        out.push('}');
    };
    condition("Ready", ready, why);
    condition("ContainersReady", ready, why);
    if step == Step::Start {
        condition("Initialized", true, "");
        condition("PodReadyToStartContainers", true, "");
    }
    out.push_str("],\"containerStatuses\":");
    let own = uid.0;
    containers(
        &mut out,
        &pod.containers,
        own,
        ready && !finished,
        finished,
        &now,
    );
    if step == Step::Start {
        let host = node_address(node);
        let _ = write!(
            out,
            r#","hostIP":"{host}","hostIPs":[{{"ip":"{host}"}}],"podIP":"{address}","podIPs":[{{"ip":"{address}"}}],"startTime":"{now}""#
        );
        if !pod.init_containers.is_empty() {
            out.push_str(",\"initContainerStatuses\":");
            containers(&mut out, &pod.init_containers, own, false, true, &now);
        }
    }
    out.push_str("}}");
    out
}

/// The list of containers that run, or have ended.
fn containers(
    out: &mut String,
    containers: &[(String, String)],
    uid: &str,
    ready: bool,
    ended: bool,
    now: &str,
) {
    out.push('[');
    for (place, (name, image)) in containers.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        let (name, image) = (Quoted(name), Quoted(image));
        let id = [uid, name.0].join("/");
        let (id, image_id) = (Simulated(&id), Simulated(image.0));
        let _ = write!(
            out,
            r#"{{"name":{name},"image":{image},"imageID":{image_id},"containerID":{id},"ready":{ready},"started":{},"restartCount":0,"state":"#,
            !ended
        );
        let _ = if ended {
            write!(
                out,
                r#"{{"running":null,"terminated":{{"exitCode":0,"reason":"Completed","finishedAt":"{now}","startedAt":"{now}"}}}}}}"#
            )
        } else {
            write!(out, r#"{{"running":{{"startedAt":"{now}"}}}}}}"#)
        };
    }
    out.push(']');
}

/// A text as JSON.
#[derive(Clone, Copy)]
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"")?;
        escape(self.0, f)?;
        f.write_str("\"")
    }
}

/// `simulated://` and a text, as JSON.
struct Simulated<'a>(&'a str);

impl std::fmt::Display for Simulated<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"simulated://")?;
        escape(self.0, f)?;
        f.write_str("\"")
    }
}

fn escape(text: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return f.write_str(text);
    }
    text.chars().try_for_each(|letter| match letter {
        '"' | '\\' => write!(f, "\\{letter}"),
        letter if letter < ' ' => write!(f, "\\u{:04x}", u32::from(letter)),
        letter => f.write_char(letter),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::status;
    use meta::Value;
    use std::time::Duration;
    use value::json;

    #[test]
    fn the_text_says_the_same_as_the_tree() {
        let pair = |name: &str, image: &str| (name.to_owned(), image.to_owned());
        let odd = PodShape {
            containers: vec![pair("a", "registry/x:1"), pair("b", "odd\"\\\n\u{e9}image")],
            init_containers: vec![pair("i", "init")],
            host_network: true,
            ready_delay: Duration::from_secs(3),
            run_time: None,
        };
        let plain = PodShape {
            containers: vec![pair("c", "i")],
            ..PodShape::default()
        };
        for shape in [odd, plain, PodShape::default()] {
            for step in [Step::Start, Step::BecomeReady, Step::Finish] {
                let now = 1_767_225_600_123_456;
                let text = patch_with(&shape, step, "u-1", 3, "10.128.0.9", now);
                let read: Value = serde_json::from_str(&text).expect(&text);
                let status = status(&shape, step, "u-1", 3, "10.128.0.9", now);
                let wanted = json!({"metadata": {"uid": "u-1"}, "status": status});
                assert_eq!(read, wanted, "{step:?}");
            }
        }
    }
}
