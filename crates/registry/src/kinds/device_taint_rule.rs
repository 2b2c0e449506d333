//! Device taint rules: taints of devices that are named by driver, pool and device.
//!
//! Does not know devices, or who has them.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Longest name of a driver, bytes (k8s: `DriverNameMaxLength`).
const DRIVER_BYTES_MAX: usize = 63;
/// Longest name of a pool, bytes (k8s: `PoolNameMaxLength`).
const POOL_BYTES_MAX: usize = 253;

pub(super) const ROOM: Room = Room {
    prepare_create: |rule, ctx| fill_time(rule, ctx.now_micros),
    prepare_update: |new, old, subresource, ctx| {
        if subresource.is_some() {
            return;
        }
        // Another effect begins now, unless somebody says since when it holds.
        let same = |field: &str| tree::same_at(new, old, field);
        if !same("spec.taint.effect") && same("spec.taint.timeAdded") {
            tree::remove(new, "spec.taint.timeAdded");
        }
        fill_time(new, ctx.now_micros);
    },
    check,
    ..PLAIN
};

fn fill_time(rule: &mut Value, now_micros: i64) {
    let now = meta::time::format_seconds(now_micros);
    tree::fill(rule, "spec.taint.timeAdded", now);
}

fn check(rule: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let selector = spec.child("deviceSelector");
    let named = |field: &str| {
        let name = tree::get(rule, &format!("spec.deviceSelector.{field}"));
        name.map(|name| name.as_str().unwrap_or_default())
    };
    if let Some(driver) = named("driver") {
        let path = selector.child("driver");
        if driver.is_empty() {
            findings.required(&path, "");
        }
        if driver.len() > DRIVER_BYTES_MAX {
            findings.too_long(&path, DRIVER_BYTES_MAX);
        }
        let wrong = meta::names::dns1123_subdomain(&driver.to_lowercase());
        findings.each(&path, driver, wrong);
    }
    if let Some(pool) = named("pool") {
        let path = selector.child("pool");
        if pool.is_empty() {
            findings.required(&path, "");
        } else {
            if pool.len() > POOL_BYTES_MAX {
                findings.too_long(&path, POOL_BYTES_MAX);
            }
            for part in pool.split('/') {
                findings.each(&path, part, meta::names::dns1123_subdomain(part));
            }
        }
    }
    if let Some(device) = named("device") {
        let wrong = meta::names::dns1123_label(device);
        findings.each(&selector.child("device"), device, wrong);
    }
    let path = spec.child("taint");
    let text = |field: &str| tree::text(rule, &format!("spec.taint.{field}"));
    let (key, value) = (text("key"), text("value"));
    findings.each(&path.child("key"), key, meta::names::qualified_name(key));
    if !value.is_empty() {
        let wrong = meta::names::label_value(value);
        findings.each(&path.child("value"), value, wrong);
    }
    let effects = ["NoExecute", "NoSchedule", "None"];
    findings.one_of(&path.child("effect"), text("effect"), &effects, true);
}
