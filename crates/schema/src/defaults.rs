//! Declared defaults: the `+default` markers of the table. Programmatic defaults are the registry's.

use value::{Map, Value};

use crate::json;
use crate::normalize::is_zero;
use crate::table::{Kind, Shape, TypeId, table};

/// Fills in declared defaults of a typed tree, wherever the struct that declares them is there.
pub fn apply_declared_defaults(ty: TypeId, value: &mut Value) {
    if let Value::Object(map) = value {
        message(ty, map);
    }
}

fn message(ty: TypeId, map: &mut Map) {
    let message_type = table().get(ty);
    if !message_type.has_defaults {
        return;
    }
    for field in &message_type.fields {
        if let Some(default) = table()
            .notes(field)
            .map(|notes| notes.default)
            .filter(|default| !default.is_empty())
        {
            let plain = field.shape == Shape::One;
            if !map.contains_key(field.name)
                && let Ok(parsed) = json::parse(default.as_bytes())
                // A plain field has its zero value already.
                && !(plain && is_zero(table(), field.kind, &parsed.value))
            {
                map.insert(field.name, parsed.value);
            }
        }
        let Kind::Message(inner) = field.kind else {
            continue;
        };
        if !table().get(inner).has_defaults {
            continue;
        }
        match (field.shape, map.get_mut(field.name)) {
            (Shape::Inline, _) => message(inner, map),
            (Shape::List, Some(Value::Array(items))) => items
                .iter_mut()
                .for_each(|item| apply_declared_defaults(inner, item)),
            (Shape::Map, Some(Value::Object(entries))) => {
                entries
                    .values_mut()
                    .for_each(|item| apply_declared_defaults(inner, item));
            }
            (_, Some(value)) => apply_declared_defaults(inner, value),
            // A plain struct is there even if nothing in it is set.
            (Shape::One, None) => {
                let mut fresh = Map::new();
                message(inner, &mut fresh);
                if !fresh.is_empty() {
                    map.insert(field.name, Value::Object(fresh));
                }
            }
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn defaults_only_where_the_struct_is() {
        let service = crate::kind_type("v1", "Service").unwrap();
        let mut value = json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}});
        apply_declared_defaults(service, &mut value);
        assert_eq!(
            value,
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}})
        );

        let pod = crate::kind_type("v1", "Pod").unwrap();
        let mut value = json!({"spec": {"volumes": [{"name": "r", "rbd": {"image": "i"}}, {"name": "e", "emptyDir": {}}],
            "containers": [{"name": "c", "livenessProbe": {"grpc": {"port": 1}}}]}});
        apply_declared_defaults(pod, &mut value);
        assert_eq!(
            value["spec"]["volumes"][0]["rbd"],
            json!({"image": "i", "pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"})
        );
        assert_eq!(
            value["spec"]["volumes"][1],
            json!({"name": "e", "emptyDir": {}})
        );
        assert_eq!(
            value["spec"]["containers"][0]["livenessProbe"]["grpc"],
            json!({"port": 1, "service": ""})
        );

        let controller = crate::kind_type("v1", "ReplicationController").unwrap();
        let mut value = json!({});
        apply_declared_defaults(controller, &mut value);
        assert_eq!(value, json!({"spec": {"replicas": 1}}));
    }
}
