//! Status patches of kubelets: of a pod that starts and runs on bytes, of any other status in the tree of it alone.
//!
//! ```text
//!   {"metadata": {"uid": …}, "status": {"phase": "Running", "conditions": […], "containerStatuses": […], "podIP": …}}
//!   stored   metadata{ … } spec{ … } status{ phase conditions … }      the first two stay the bytes they are
//! ```
//!
//! As in `narrow.rs` there are no errors: what cannot be proven here is the general way's business.

use std::borrow::Cow;

use meta::Value;
use schema::Resource;
use schema::wire::{Reader, Wire, first_text, put_bytes, put_int, text};
use serde::Deserialize;

use crate::context::Context;
use crate::create::default_object;
use crate::findings::Findings;
use crate::kinds;
use crate::narrow::{Condition, Text, Whole, Whose, given, given_time, put_conditions, time_of};
use crate::object::{Object, listed};

/// Entries that a list of the document may have here; addresses are compared each with each.
const ENTRIES_MAX: usize = 32;
/// Fields of a status that are looked at one by one.
const FIELDS_MAX: u32 = 64;

/// What a kubelet says of a pod.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatusDocument<'a> {
    #[serde(borrow, default)]
    pub(crate) metadata: Object<Whose<'a>>,
    #[serde(borrow)]
    pub(crate) status: Object<Said<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Said<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    phase: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "listed")]
    conditions: Option<Vec<Object<Condition<'a>>>>,
    #[serde(borrow, rename = "hostIP", default, deserialize_with = "given")]
    host_ip: Option<Text<'a>>,
    #[serde(borrow, rename = "podIP", default, deserialize_with = "given")]
    pod_ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given_time")]
    start_time: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "listed")]
    container_statuses: Option<Vec<Object<ContainerStatus<'a>>>>,
    #[serde(borrow, rename = "podIPs", default, deserialize_with = "listed")]
    pod_ips: Option<Vec<Object<Address<'a>>>>,
    #[serde(borrow, rename = "hostIPs", default, deserialize_with = "listed")]
    host_ips: Option<Vec<Object<Address<'a>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address<'a> {
    #[serde(borrow)]
    ip: Cow<'a, str>,
}

/// A container that runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ContainerStatus<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    state: Object<State<'a>>,
    ready: bool,
    restart_count: i32,
    image: Cow<'a, str>,
    #[serde(rename = "imageID")]
    image_id: Cow<'a, str>,
    #[serde(rename = "containerID", default)]
    container_id: Cow<'a, str>,
    started: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State<'a> {
    #[serde(borrow)]
    running: Object<Running<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Running<'a> {
    #[serde(borrow, default, deserialize_with = "given_time")]
    started_at: Option<Text<'a>>,
}

/// The stored status of a pod with what was said in its place.
pub(crate) fn with_status(stored: &[u8], said: &Said<'_>) -> Option<Vec<u8>> {
    const CONDITIONS: u32 = 2;
    const POD_IP: u32 = 6;
    const POD_IPS: u32 = 12;
    let mut fields: Vec<(u32, &[u8])> = Vec::with_capacity(24);
    let mut conditions: Vec<&[u8]> = Vec::new();
    let (mut address, mut first_address) = ("", "");
    let mut reader = Reader::new(stored);
    let (mut at, mut last) = (0, 0);
    while let Some((number, wire)) = reader.field().ok()? {
        if number < last || number >= FIELDS_MAX {
            return None;
        }
        let end = reader.position();
        fields.push((number, stored.get(at..end)?));
        match (number, wire) {
            (CONDITIONS, Wire::Bytes(condition)) => conditions.push(condition),
            (POD_IP, Wire::Bytes(bytes)) => address = text(bytes)?,
            (POD_IPS, Wire::Bytes(one)) if last < POD_IPS => first_address = first_text(one, 1)?,
            _ => {}
        }
        (at, last) = (end, number);
    }
    // The first of the addresses is the address; where it is not, the general way makes it so.
    if let Some(Text(said)) = &said.pod_ip {
        address = said;
    }
    if let Some([first, ..]) = said.pod_ips.as_deref() {
        first_address = &first.ip;
    }
    if address != first_address {
        return None;
    }
    let mut out = Vec::with_capacity(stored.len() + 768);
    let mut rest = fields.as_slice();
    for number in 1..FIELDS_MAX {
        let (own, others) = rest.split_at(rest.partition_point(|(present, _)| *present <= number));
        rest = others;
        let is_said = match number {
            1 => put_text(1, said.phase.as_ref(), &mut out),
            CONDITIONS => match &said.conditions {
                Some(sent) => {
                    put_conditions(&conditions, sent, CONDITIONS, true, &mut out)?;
                    true
                }
                None => false,
            },
            5 => put_text(5, said.host_ip.as_ref(), &mut out),
            POD_IP => put_text(POD_IP, said.pod_ip.as_ref(), &mut out),
            7 => match time_of(said.start_time.as_ref())? {
                Some(time) if time.is_empty() => return None,
                Some(time) => {
                    put_bytes(7, &time, &mut out);
                    true
                }
                None => false,
            },
            8 => match &said.container_statuses {
                Some(containers) => {
                    put_containers(containers, &mut out)?;
                    true
                }
                None => false,
            },
            POD_IPS => put_addresses(POD_IPS, said.pod_ips.as_deref(), own, &mut out)?,
            16 => put_addresses(16, said.host_ips.as_deref(), own, &mut out)?,
            _ => false,
        };
        if !is_said {
            own.iter()
                .for_each(|(_, field)| out.extend_from_slice(field));
        }
        if rest.is_empty() && number >= 16 {
            break;
        }
    }
    Some(out)
}

fn put_text(number: u32, text: Option<&Text<'_>>, out: &mut Vec<u8>) -> bool {
    if let Some(Text(text)) = text {
        put_bytes(number, text.as_bytes(), out);
    }
    text.is_some()
}

/// Addresses are merged by what they are: only where there were none yet is that simple.
fn put_addresses(
    number: u32,
    said: Option<&[Object<Address<'_>>]>,
    stored: &[(u32, &[u8])],
    out: &mut Vec<u8>,
) -> Option<bool> {
    let Some(addresses) = said else {
        return Some(false);
    };
    let twice = |at: usize| addresses[..at].iter().any(|one| one.ip == addresses[at].ip);
    if !stored.is_empty()
        || addresses.is_empty()
        || addresses.len() > ENTRIES_MAX
        || (1..addresses.len()).any(twice)
    {
        return None;
    }
    for address in addresses {
        let mut message = Vec::with_capacity(address.ip.len() + 4);
        put_bytes(1, address.ip.as_bytes(), &mut message);
        put_bytes(number, &message, out);
    }
    Some(true)
}

/// Replaces the list, as it is atomic.
fn put_containers(containers: &[Object<ContainerStatus<'_>>], out: &mut Vec<u8>) -> Option<()> {
    if containers.is_empty() || containers.len() > ENTRIES_MAX {
        return None;
    }
    for container in containers {
        let started_at = time_of(container.state.running.started_at.as_ref())?;
        let [mut running, mut state] = [const { Vec::new() }; 2];
        put_bytes(1, &started_at.unwrap_or_default(), &mut running);
        put_bytes(2, &running, &mut state);
        let mut message = Vec::with_capacity(256);
        put_bytes(1, container.name.as_bytes(), &mut message);
        put_bytes(2, &state, &mut message);
        put_bytes(3, b"", &mut message);
        put_int(4, u64::from(container.ready), &mut message);
        let restarts = i64::from(container.restart_count);
        put_int(5, restarts.cast_unsigned(), &mut message);
        put_bytes(6, container.image.as_bytes(), &mut message);
        put_bytes(7, container.image_id.as_bytes(), &mut message);
        put_bytes(8, container.container_id.as_bytes(), &mut message);
        put_int(9, u64::from(container.started), &mut message);
        put_bytes(8, &message, out);
    }
    Some(())
}

/// The status that a strategic merge makes of the stored one, its message. It is all that a status subresource of these
/// kinds writes, and all that their rules for it look at; one that looks for more finds it missing, and leaves the patch to
/// the general way.
pub(crate) fn by_status(
    resource: &Resource,
    whole: &Whole<'_>,
    revision: i64,
    document: Value,
) -> Option<Vec<u8>> {
    let Value::Object(document) = document else {
        return None;
    };
    let (mut patch, mut whose) = (None, Whose::default());
    for (name, value) in document {
        match (name.as_str(), value) {
            ("status", Value::Object(status)) => patch = Some(Value::Object(status)),
            ("metadata", Value::Object(metadata)) => {
                for (name, value) in metadata {
                    match (name.as_str(), value) {
                        ("uid", Value::String(uid)) => whose.uid = uid.into(),
                        ("resourceVersion", Value::String(version)) => {
                            whose.resource_version = version.into();
                        }
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
    }
    whole.is_meant(&whose, revision)?;
    let status_type = schema::field(resource.type_id, "status")?.type_id?;
    let before = schema::decode_protobuf(status_type, whole.status).ok()?;
    // Where there is no status yet the whole patch is one that is added, and its directives mean less.
    if before.as_object().is_none_or(value::Map::is_empty) {
        return None;
    }
    let merged = schema::strategic_merge(status_type, before.clone(), patch?).ok()?;
    let merged = schema::complete(status_type, merged).ok()?;
    if !merged.complaints.is_empty() {
        return None;
    }
    // The general way's steps, with an object that is nothing but its status.
    let of = |status: Value| value::json!({"status": status});
    let (old, mut new) = (of(before), of(merged.value));
    let room = kinds::room(resource);
    default_object(resource, &mut new);
    let mut context = Context {
        now_micros: 0,
        user: "",
        random: &mut || 0,
    };
    (room.prepare_update)(&mut new, &old, Some("status"), &mut context);
    let mut findings = Findings::default();
    (room.check_update)(&new, &old, Some("status"), &mut findings);
    let status = schema::complete(status_type, new["status"].take()).ok()?;
    let mut out = Vec::with_capacity(whole.status.len() + 512);
    schema::encode_stored(status_type, &status.value, &mut out).ok()?;
    findings.is_empty().then_some(out)
}
