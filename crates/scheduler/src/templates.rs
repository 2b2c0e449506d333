//! Pods read by their templates: thousands of pods differ in name, uid, node and status alone, and the first of them is
//! decoded for all.
//!
//! ```text
//!   message ─► namespace, labels, owners, spec without the node ─► known? ─► a copy of what was read then
//!        └───► name, uid, node, deletion, status ─────────────────────────────► put into it
//! ```
//!
//! What such bytes mean is [`Lens::pod`]'s, and stays so: this decides only whether it has been asked before. Pods whose
//! status says what they take, or who have claims, are decoded each. Does not know what a pod's fields are for.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use placement::PodInfo;
use schema::TypeId;
use schema::wire::{Wire, each_field, first_text, text, time_micros};

use crate::extending::{Lens, SeenPod};

/// Templates that are kept; beyond it the memory begins anew. With [`TEMPLATE_BYTES_MAX`] they are 64 MiB at most, and
/// what was read of them about as much; mostly it is a few MiB.
const TEMPLATES_MAX: usize = 4_096;
/// Longer templates are not kept.
const TEMPLATE_BYTES_MAX: usize = 16 * 1024;
/// Conditions that say nothing of what a pod takes, or why it goes.
const PLAIN_CONDITIONS: [&str; 5] = [
    "PodScheduled",
    "Ready",
    "ContainersReady",
    "Initialized",
    "PodReadyToStartContainers",
];

/// Reads pods, and remembers what their like were read as.
pub(crate) struct Templates {
    lens: Lens,
    pods: Option<TypeId>,
    known: HashMap<Box<[u8]>, SeenPod, RandomState>,
    /// The bytes that make the template of the pod at hand.
    template: Vec<u8>,
}

/// What pods of one template differ in.
#[derive(Default)]
struct Own<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    deleting: bool,
    node: &'a str,
    nominated: &'a str,
    phase: &'a str,
    started_micros: i64,
}

impl Templates {
    pub(crate) fn new(lens: Lens) -> Templates {
        Templates {
            lens,
            pods: schema::kind_type("v1", "Pod"),
            known: HashMap::default(),
            template: Vec::new(),
        }
    }

    /// The key of a pod and what is kept of it. `None`: it has to be decoded.
    pub(crate) fn read(&mut self, message: &[u8]) -> Option<(String, Result<SeenPod, String>)> {
        self.template.clear();
        let own = own(message, &mut self.template)?;
        let key = format!("{}/{}", own.namespace, own.name);
        if let Some(known) = self.known.get(&*self.template) {
            let mut seen = known.clone();
            own.put_into(&mut seen.info);
            return Some((key, Ok(seen)));
        }
        let object = schema::decode_protobuf(self.pods?, message).ok()?;
        let seen = self.lens.pod(&object);
        if let Ok(seen) = &seen
            && is_shared(&seen.info)
            && self.template.len() <= TEMPLATE_BYTES_MAX
        {
            if self.known.len() >= TEMPLATES_MAX {
                self.known.clear();
            }
            let template = self.template.as_slice().into();
            self.known.insert(template, seen.clone());
        }
        Some((key, seen))
    }
}

/// Whether other pods can be read as this one was: claims are named after their pods, and so is the node of a pin.
fn is_shared(info: &PodInfo) -> bool {
    info.claims.is_empty()
        && info.uses.is_none()
        && info.resource_claims.is_empty()
        && info.pin.is_none()
}

impl Own<'_> {
    fn put_into(&self, info: &mut PodInfo) {
        let given = |text: &str| (!text.is_empty()).then(|| text.into());
        info.name = self.name.into();
        info.uid = self.uid.into();
        info.node = given(self.node);
        info.nominated = given(self.nominated);
        info.started_micros = self.started_micros;
        info.deleting = self.deleting;
        info.finished = matches!(self.phase, "Succeeded" | "Failed");
        info.preempted = false;
    }
}

/// What is a pod's own; the rest that matters goes to `template`.
fn own<'a>(message: &'a [u8], template: &mut Vec<u8>) -> Option<Own<'a>> {
    let mut own = Own::default();
    let [mut metadata, mut spec, mut status]: [&[u8]; 3] = [b""; 3];
    each_field(message, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => metadata = bytes,
            (2, Wire::Bytes(bytes)) => spec = bytes,
            (3, Wire::Bytes(bytes)) => status = bytes,
            _ => return None,
        }
        Some(())
    })?;
    each_field(metadata, |number, wire, field| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => own.name = text(bytes)?,
            (3, Wire::Bytes(bytes)) => {
                own.namespace = text(bytes)?;
                template.extend_from_slice(field);
            }
            (5, Wire::Bytes(bytes)) => own.uid = text(bytes)?,
            (9, Wire::Bytes(_)) => own.deleting = true,
            // Labels and owners.
            (11 | 13, Wire::Bytes(_)) => template.extend_from_slice(field),
            (1 | 3 | 5 | 9 | 11 | 13, _) => return None,
            _ => {}
        }
        Some(())
    })?;
    template.extend_from_slice(&template.len().to_le_bytes());
    each_field(spec, |number, wire, field| {
        match (number, wire) {
            (10, Wire::Bytes(bytes)) => own.node = text(bytes)?,
            // The host name, which is the pod's own in a set of them.
            (16, Wire::Bytes(_)) => {}
            (10 | 16, _) => return None,
            _ => template.extend_from_slice(field),
        }
        Some(())
    })?;
    each_field(status, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => own.phase = text(bytes)?,
            (2, Wire::Bytes(condition)) => {
                PLAIN_CONDITIONS
                    .contains(&first_text(condition, 1)?)
                    .then_some(())?;
            }
            (7, Wire::Bytes(time)) => own.started_micros = time_micros(time)?.unwrap_or(0),
            (8 | 10, Wire::Bytes(container)) => takes_what_it_asks(container)?,
            (11, Wire::Bytes(bytes)) => own.nominated = text(bytes)?,
            // Message and reason, addresses, the class of service, short-lived containers, the generation seen.
            (3..=6 | 9 | 12 | 13 | 16 | 17, _) => {}
            // A resize under way; nothing is the usual answer.
            (14, Wire::Bytes(b"")) => {}
            _ => return None,
        }
        Some(())
    })?;
    let is_whole = !own.name.is_empty() && !own.namespace.is_empty() && !own.uid.is_empty();
    is_whole.then_some(own)
}

/// A container's status that says nothing of its resources.
fn takes_what_it_asks(container: &[u8]) -> Option<()> {
    const ALLOCATED_RESOURCES: u32 = 10;
    const RESOURCES: u32 = 11;
    each_field(container, |number, _, _| {
        (!matches!(number, ALLOCATED_RESOURCES | RESOURCES)).then_some(())
    })
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
