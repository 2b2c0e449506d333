//! LimitRanges.

use super::{PLAIN, Room};
use crate::tree;
use meta::FieldPath;

pub(super) const ROOM: Room = Room {
    defaults: |range| {
        for limit in tree::items_mut(range, "spec.limits") {
            if tree::text(limit, "type") != "Container" {
                continue;
            }
            // An unset default limit is the maximum; an unset default request is the limit, else the minimum.
            for (target, source) in [
                ("default", "max"),
                ("defaultRequest", "default"),
                ("defaultRequest", "min"),
            ] {
                let Some(source) = tree::map(limit, source).cloned() else {
                    continue;
                };
                if let Some(target) = tree::ensure(limit, target) {
                    for (name, quantity) in source {
                        target.entry(name).or_insert(quantity);
                    }
                }
            }
        }
    },
    check: |range, findings| {
        let path = FieldPath::new("spec").child("limits");
        let mut seen = Vec::new();
        for (index, limit) in tree::items(range, "spec.limits").iter().enumerate() {
            let kind = tree::text(limit, "type");
            let at = path.index(index);
            if kind.is_empty() {
                findings.required(&at.child("type"), "");
            }
            if seen.contains(&kind) {
                findings.duplicate(&at.child("type"), kind);
            }
            seen.push(kind);
        }
    },
    ..PLAIN
};
