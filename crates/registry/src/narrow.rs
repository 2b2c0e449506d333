//! Narrow patches, decided on bytes: conditions of a node or pod, the taints of a node, and a status as a whole.
//!
//! They are what keeps a silent zone's nodes told apart from living ones, and what living nodes say every five minutes:
//! very many patches that each replace one list in an object of some kilobytes. What [`crate::prepare_update`] makes of
//! such a patch is the stored message with that list replaced, and neither tree is made:
//!
//! ```text
//!   strategic, status   {"metadata": {"uid": …}, "status": {"conditions": [{"type": …, "status": …}, …]}}
//!   merge, the object   {"metadata": {"uid": …, "resourceVersion": …}, "spec": {"taints": [{"key": …}, …] or null}}
//!   stored              metadata{ … } spec{ … taints … } status{ … conditions … }
//! ```
//!
//! What else a kubelet says of a status stands in `narrow_status.rs`.
//!
//! A document that says anything else is not narrow. It gives no reasons and no errors: whatever it cannot prove is the
//! general way's business, which finds out whether it is a conflict, a mistake, or only written otherwise. It relies on
//! stored bytes being what [`schema::encode_stored`] wrote (fields in order, plain ones always there).

use std::borrow::Cow;

use meta::{names, time};
use schema::Resource;
use schema::wire::{Reader, Wire, put_bytes, put_int};
use serde::{Deserialize, Deserializer};

use crate::narrow_status::{StatusDocument, by_status, with_status};
use crate::object::Object;

const MICROS_PER_SECOND: i64 = 1_000_000;
const METADATA: u32 = 1;
const SPEC: u32 = 2;
const STATUS: u32 = 3;
/// Conditions or taints that a document or an object may have here; they are compared each with each.
const ENTRIES_MAX: usize = 32;

/// Which list of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `status.conditions` of a Node, by a strategic merge patch of its status.
    NodeConditions,
    /// What kubelets say of a Pod that starts and runs, conditions above all, by a strategic merge patch of its status.
    PodStatus,
    /// `spec.taints` of a Node, by a merge patch of the node.
    NodeTaints,
    /// Any of `status` of a Node or Pod, by a strategic merge patch of it.
    Status,
}

/// What a narrow patch comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Narrow {
    /// Nothing would change: no write, no new resourceVersion, no event.
    Unchanged,
    /// Store these bytes.
    Store(Vec<u8>),
}

/// Decides on a patch from the message stored at `revision` and the document sent. `None` if the document is not
/// narrow, is for another object or another state of it, or cannot be judged here.
#[must_use]
pub fn narrow(
    resource: &Resource,
    part: Part,
    stored: &[u8],
    revision: i64,
    document: &[u8],
) -> Option<Narrow> {
    let whole = Whole::of(stored)?;
    let next = match part {
        Part::Status => {
            let document = schema::parse_json(document).ok()?;
            let status = by_status(resource, &whole, revision, document)?;
            whole.joined(whole.spec, &status)
        }
        Part::NodeTaints => {
            let document: Object<TaintsDocument<'_>> = serde_json::from_slice(document).ok()?;
            whole.is_meant(&document.metadata, revision)?;
            let taints = document.0.spec.0.taints.unwrap_or_default();
            let spec = with_list(whole.spec, 5, |_, out| put_taints(&taints, out))?;
            whole.joined(&spec, whole.status)
        }
        Part::PodStatus => {
            let document: Object<StatusDocument<'_>> = serde_json::from_slice(document).ok()?;
            whole.is_meant(&document.metadata, revision)?;
            let status = with_status(whole.status, &document.status)?;
            whole.joined(whole.spec, &status)
        }
        Part::NodeConditions => {
            let document: Object<ConditionsDocument<'_>> = serde_json::from_slice(document).ok()?;
            whole.is_meant(&document.metadata, revision)?;
            let sent = &document.status.conditions;
            let status = with_list(whole.status, 4, |stored, out| {
                put_conditions(stored, sent, 4, false, out)
            })?;
            whole.joined(whole.spec, &status)
        }
    };
    Some(if next == stored {
        Narrow::Unchanged
    } else {
        Narrow::Store(next)
    })
}

/// The node of a stored pod; empty while it has none.
#[must_use]
pub fn node_of(stored: &[u8]) -> Option<&str> {
    const NODE_NAME: u32 = 10;
    let mut reader = Reader::new(Whole::of(stored)?.spec);
    while let Some((number, wire)) = reader.field().ok()? {
        if let (NODE_NAME, Wire::Bytes(name)) = (number, wire) {
            return std::str::from_utf8(name).ok();
        }
    }
    Some("")
}

/// A text of the document; a null, which deletes the field, is an empty one, as it is stored.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

pub(crate) fn given<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Text<'a>>, D::Error> {
    let text = Option::<Text<'a>>::deserialize(from)?;
    Ok(Some(text.unwrap_or(Text(Cow::Borrowed("")))))
}

/// The same for a time, which no empty text is.
pub(crate) fn given_time<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Text<'a>>, D::Error> {
    let text = Option::<Text<'a>>::deserialize(from)?;
    if text.as_ref().is_some_and(|text| text.0.is_empty()) {
        return Err(serde::de::Error::custom("an empty time"));
    }
    Ok(Some(text.unwrap_or(Text(Cow::Borrowed("")))))
}

/// The object meant, and its state. Empty texts say nothing, as in the general way.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Whose<'a> {
    #[serde(borrow)]
    pub(crate) uid: Cow<'a, str>,
    #[serde(borrow, rename = "resourceVersion")]
    pub(crate) resource_version: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionsDocument<'a> {
    #[serde(borrow, default)]
    metadata: Object<Whose<'a>>,
    #[serde(borrow)]
    status: Object<Conditions<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conditions<'a> {
    #[serde(borrow)]
    conditions: Vec<Object<Condition<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "given")]
    status: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given_time")]
    last_heartbeat_time: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given_time")]
    last_probe_time: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given_time")]
    last_transition_time: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    message: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaintsDocument<'a> {
    #[serde(borrow, default)]
    metadata: Object<Whose<'a>>,
    #[serde(borrow)]
    spec: Object<Taints<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Taints<'a> {
    /// Null for none; an empty list is left to the general way, and so is one that is not there.
    #[serde(borrow, deserialize_with = "filled")]
    taints: Option<Vec<Object<Taint<'a>>>>,
}

fn filled<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<Object<Taint<'a>>>>, D::Error> {
    let taints = Option::<Vec<Object<Taint<'a>>>>::deserialize(from)?;
    if taints.as_ref().is_some_and(Vec::is_empty) {
        return Err(serde::de::Error::custom("an empty list"));
    }
    Ok(taints)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Taint<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    effect: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "given_time")]
    time_added: Option<Text<'a>>,
}

/// The three fields of a Node or Pod, in their order and once each.
pub(crate) struct Whole<'a> {
    metadata: &'a [u8],
    spec: &'a [u8],
    pub(crate) status: &'a [u8],
}

impl<'a> Whole<'a> {
    fn of(stored: &'a [u8]) -> Option<Whole<'a>> {
        let mut reader = Reader::new(stored);
        let [metadata, spec, status] =
            [METADATA, SPEC, STATUS].map(|wanted| match reader.field() {
                Ok(Some((number, Wire::Bytes(bytes)))) if number == wanted => Some(bytes),
                _ => None,
            });
        (reader.position() == stored.len()).then_some(Whole {
            metadata: metadata?,
            spec: spec?,
            status: status?,
        })
    }

    /// Whether this is the object meant, in the state meant, and not on its way out.
    pub(crate) fn is_meant(&self, whose: &Whose<'_>, revision: i64) -> Option<()> {
        let mut uid = None;
        let mut reader = Reader::new(self.metadata);
        while let Some((number, wire)) = reader.field().ok()? {
            match (number, wire) {
                (5, Wire::Bytes(bytes)) => uid = Some(bytes),
                // selfLink and resourceVersion, which are not stored.
                (4 | 6, Wire::Bytes(b"")) => {}
                // The same with a text, deletionTimestamp, managedFields, or a field in another form.
                (4 | 5 | 6 | 9 | 17, _) => return None,
                _ => {}
            }
        }
        let is_own = whose.uid.is_empty() || uid == Some(whose.uid.as_bytes());
        let version = &*whose.resource_version;
        let is_current = version.is_empty() || version == revision.to_string();
        (is_own && is_current).then_some(())
    }

    fn joined(&self, spec: &[u8], status: &[u8]) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(self.metadata.len() + spec.len() + status.len() + 3 * (1 + 5));
        put_bytes(METADATA, self.metadata, &mut out);
        put_bytes(SPEC, spec, &mut out);
        put_bytes(STATUS, status, &mut out);
        out
    }
}

/// A message with another list in the place of its field `number`. `put` gets the entries there are.
fn with_list<'a>(
    message: &'a [u8],
    number: u32,
    put: impl FnOnce(&[&'a [u8]], &mut Vec<u8>) -> Option<()>,
) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    let mut reader = Reader::new(message);
    // Where the list begins and ends, or would.
    let (mut begin, mut end, mut at, mut last) = (0, 0, 0, 0);
    while let Some((field, wire)) = reader.field().ok()? {
        if field < last {
            return None;
        }
        last = field;
        at = reader.position();
        if field < number {
            begin = at;
        }
        if field <= number {
            end = at;
        }
        if field == number {
            let Wire::Bytes(entry) = wire else {
                return None;
            };
            entries.push(entry);
        }
    }
    if at != message.len() || entries.len() > ENTRIES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(message.len() + 512);
    out.extend_from_slice(message.get(..begin)?);
    put(&entries, &mut out)?;
    out.extend_from_slice(message.get(end..)?);
    Some(out)
}

/// A stored condition: type, status, two times, reason, message, and in pods the generation they were seen at.
#[derive(Clone, Copy)]
struct Stored<'a> {
    fields: [&'a [u8]; 6],
    generation: u64,
}

impl<'a> Stored<'a> {
    fn of(message: &'a [u8], has_generation: bool) -> Option<Stored<'a>> {
        let mut reader = Reader::new(message);
        let mut fields: [&[u8]; 6] = [b""; 6];
        for (number, field) in (1..).zip(&mut fields) {
            match reader.field() {
                Ok(Some((found, Wire::Bytes(bytes)))) if found == number => *field = bytes,
                _ => return None,
            }
        }
        let mut generation = 0;
        if has_generation {
            match reader.field() {
                Ok(Some((7, Wire::Varint(value)))) => generation = value,
                _ => return None,
            }
        }
        (reader.position() == message.len()).then_some(Stored { fields, generation })
    }

    fn is(&self, kind: &str) -> bool {
        self.fields[0] == kind.as_bytes()
    }
}

/// Merges conditions by their types, in the order of a strategic merge: those of the document in the document's order,
/// the others where they were among them.
pub(crate) fn put_conditions(
    stored: &[&[u8]],
    sent: &[Object<Condition<'_>>],
    number: u32,
    has_generation: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    if stored.len() > ENTRIES_MAX {
        return None;
    }
    let stored: Vec<Stored<'_>> = stored
        .iter()
        .map(|message| Stored::of(message, has_generation))
        .collect::<Option<_>>()?;
    let twice = |kinds: &[&[u8]]| (1..kinds.len()).any(|at| kinds[..at].contains(&kinds[at]));
    let kinds_stored: Vec<&[u8]> = stored.iter().map(|one| one.fields[0]).collect();
    let kinds_sent: Vec<&[u8]> = sent.iter().map(|one| one.kind.as_bytes()).collect();
    // What has no type is no other's like, and has no place among them.
    let is_nameless = kinds_stored
        .iter()
        .chain(&kinds_sent)
        .any(|kind| kind.is_empty());
    if sent.is_empty()
        || sent.len() > ENTRIES_MAX
        || is_nameless
        || twice(&kinds_stored)
        || twice(&kinds_sent)
    {
        return None;
    }
    let mut others = stored
        .iter()
        .enumerate()
        .filter(|(_, one)| !kinds_sent.contains(&one.fields[0]))
        .peekable();
    for change in sent {
        let place = stored.iter().position(|one| one.is(&change.kind));
        while let Some((_, other)) =
            others.next_if(|(at, _)| place.is_some_and(|place| *at < place))
        {
            put_condition(other, number, has_generation, out);
        }
        let times = [&change.last_heartbeat_time, &change.last_probe_time];
        // Nodes have heartbeats and pods have probes.
        if times[usize::from(!has_generation)].is_some() {
            return None;
        }
        let first = time_of(times[usize::from(has_generation)].as_ref())?;
        let second = time_of(change.last_transition_time.as_ref())?;
        let old = place.map_or(
            Stored {
                fields: [b""; 6],
                generation: 0,
            },
            |place| stored[place],
        );
        let text = |given: &'_ Option<Text<'_>>, at: usize| -> Vec<u8> {
            match given {
                Some(text) => text.0.as_bytes().to_vec(),
                None => old.fields[at].to_vec(),
            }
        };
        let (status, reason, message) = (
            text(&change.status, 1),
            text(&change.reason, 4),
            text(&change.message, 5),
        );
        let merged = Stored {
            fields: [
                change.kind.as_bytes(),
                &status,
                first.as_deref().unwrap_or(old.fields[2]),
                second.as_deref().unwrap_or(old.fields[3]),
                &reason,
                &message,
            ],
            generation: old.generation,
        };
        put_condition(&merged, number, has_generation, out);
    }
    for (_, other) in others {
        put_condition(other, number, has_generation, out);
    }
    Some(())
}

fn put_condition(condition: &Stored<'_>, number: u32, has_generation: bool, out: &mut Vec<u8>) {
    let length: usize = condition.fields.iter().map(|field| field.len() + 6).sum();
    let mut message = Vec::with_capacity(length + 11);
    for (number, field) in (1..).zip(condition.fields) {
        put_bytes(number, field, &mut message);
    }
    if has_generation {
        put_int(7, condition.generation, &mut message);
    }
    put_bytes(number, &message, out);
}

/// The message of a time that is given; `Some(None)` if none is.
pub(crate) fn time_of(text: Option<&Text<'_>>) -> Option<Option<Vec<u8>>> {
    let Some(Text(text)) = text else {
        return Some(None);
    };
    if text.is_empty() {
        return Some(Some(Vec::new()));
    }
    let micros = time::parse(text).ok()?;
    // Other forms of a moment are for the general way.
    if micros < MICROS_PER_SECOND || time::format_seconds(micros) != **text {
        return None;
    }
    let mut message = Vec::with_capacity(16);
    put_int(
        1,
        micros.div_euclid(MICROS_PER_SECOND).unsigned_abs(),
        &mut message,
    );
    put_int(2, 0, &mut message);
    Some(Some(message))
}

/// Writes taints that are valid; what is not is for the general way to tell.
fn put_taints(taints: &[Object<Taint<'_>>], out: &mut Vec<u8>) -> Option<()> {
    if taints.len() > ENTRIES_MAX {
        return None;
    }
    for (at, taint) in taints.iter().enumerate() {
        let is_known = matches!(
            &*taint.effect,
            "NoSchedule" | "PreferNoSchedule" | "NoExecute"
        );
        let is_twice = taints[..at]
            .iter()
            .any(|other| (&other.key, &other.effect) == (&taint.key, &taint.effect));
        let is_valid = names::qualified_name(&taint.key).is_empty()
            && names::label_value(&taint.value).is_empty();
        if !is_known || is_twice || !is_valid {
            return None;
        }
        let mut message = Vec::with_capacity(96);
        put_bytes(1, taint.key.as_bytes(), &mut message);
        put_bytes(2, taint.value.as_bytes(), &mut message);
        put_bytes(3, taint.effect.as_bytes(), &mut message);
        if let Some(time) = time_of(taint.time_added.as_ref())? {
            if time.is_empty() {
                return None;
            }
            put_bytes(4, &time, &mut message);
        }
        put_bytes(5, &message, out);
    }
    Some(())
}

#[cfg(test)]
#[path = "narrow_tests.rs"]
mod tests;
