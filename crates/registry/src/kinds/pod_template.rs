//! PodTemplates.

use super::{PLAIN, Room};
use crate::pod;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults: |holder| pod::defaults::template(holder, "template"),
    check: |holder, findings| {
        let template = tree::get(holder, "template").unwrap_or(&Value::Null);
        pod::spec::check_template(template, &FieldPath::new("template"), findings);
    },
    ..PLAIN
};
