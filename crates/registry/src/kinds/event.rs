//! Events, in their core and their events.k8s.io shape.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// The longest note (or message) of a new-style event.
const NOTE_BYTES_MAX: usize = 1024;
/// The longest name in a new-style event.
const NAME_BYTES_MAX: usize = 128;

pub(super) const ROOM: Room = Room { check, ..PLAIN };

fn check(event: &Value, findings: &mut Findings) {
    let new_style = tree::text(event, "apiVersion").starts_with("events.k8s.io/");
    let subject = if new_style {
        "regarding"
    } else {
        "involvedObject"
    };
    // Upstream's one validation speaks of involvedObject whatever the shape sent.
    let path = FieldPath::new("involvedObject").child("namespace");
    let own = tree::text(event, "metadata.namespace");
    let about = tree::text(event, &format!("{subject}.namespace"));
    if about.is_empty() {
        if !own.is_empty() && own != "default" {
            findings.invalid(&path, about, "does not match event.namespace");
        }
    } else if about != own {
        findings.invalid(&path, about, "does not match event.namespace");
    }
    if new_style && tree::get(event, "eventTime").is_some() {
        check_new_style(event, findings);
    }
}

fn check_new_style(event: &Value, findings: &mut Findings) {
    for (field, value) in [
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        let path = FieldPath::new(field);
        let text = tree::text(event, value);
        if text.is_empty() {
            findings.required(&path, "");
        } else if text.len() > NAME_BYTES_MAX {
            findings.invalid(
                &path,
                "",
                format!("can have at most {NAME_BYTES_MAX} characters"),
            );
        }
    }
    let controller = tree::text(event, "reportingController");
    if !controller.is_empty() {
        findings.each(
            &FieldPath::new("reportingController"),
            controller,
            meta::names::qualified_name(controller),
        );
    }
    if tree::text(event, "note").len() > NOTE_BYTES_MAX {
        findings.invalid(
            &FieldPath::new("message"),
            "",
            format!("can have at most {NOTE_BYTES_MAX} characters"),
        );
    }
    let kind = tree::text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        findings.invalid(
            &FieldPath::new("type"),
            "",
            "has invalid value: ".to_owned() + kind,
        );
    }
}
