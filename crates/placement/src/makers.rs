//! Services and the makers of pods, for the selector that default spreading goes by.
//!
//! Knows selectors only: not what a Service or a ReplicaSet is for.

use crate::objects::PodSpec;
use crate::terms::{MakerKind, selector, selects};
use hashbrown::HashMap;
use meta::Value;
use meta::labels::LabelSelector;
use value::{Map, json};

/// Those of one namespace: `spec.selector` as it stands in each object.
#[derive(Debug, Default)]
struct Neighbours {
    services: HashMap<Box<str>, Value>,
    makers: HashMap<(MakerKind, Box<str>), Value>,
    /// When one of them last changed.
    version: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Makers {
    by_namespace: HashMap<Box<str>, Neighbours>,
    version: u64,
}

impl Makers {
    /// Changes with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Changes with every change in that namespace.
    pub(crate) fn version_in(&self, namespace: &str) -> u64 {
        self.by_namespace.get(namespace).map_or(0, |n| n.version)
    }

    /// Notes a selector, or (null) forgets it. True when that is a change.
    pub(crate) fn note(
        &mut self,
        kind: MakerKind,
        namespace: &str,
        name: &str,
        selector: &Value,
    ) -> bool {
        let here = self.by_namespace.entry_ref(namespace).or_default();
        let changed = if kind == MakerKind::Service {
            replace(&mut here.services, name.into(), selector)
        } else {
            replace(&mut here.makers, (kind, name.into()), selector)
        };
        self.version += u64::from(changed);
        if changed {
            here.version = self.version;
        }
        if here.services.is_empty() && here.makers.is_empty() {
            self.by_namespace.remove(namespace);
        }
        changed
    }

    /// All of them: kind, namespace, name, selector.
    pub(crate) fn all(&self) -> impl Iterator<Item = (MakerKind, &str, &str, &Value)> {
        self.by_namespace.iter().flat_map(|(namespace, here)| {
            let services = here.services.iter();
            let services =
                services.map(|(name, of)| (MakerKind::Service, &**namespace, &**name, of));
            let makers = here.makers.iter();
            services.chain(makers.map(|((kind, name), of)| (*kind, &**namespace, &**name, of)))
        })
    }

    /// What the pods that belong together with this one have in common: the selectors of all Services that
    /// select it, and of its maker. `None` when that is nothing.
    pub(crate) fn selector_of(&self, pod: &PodSpec) -> Option<LabelSelector> {
        let here = self.by_namespace.get(&pod.namespace)?;
        let mut labels = Map::new();
        let mut services: Vec<&Map> = here
            .services
            .values()
            .filter_map(Value::as_object)
            .filter(|map| selects(&selector(&json!({"matchLabels": map})), &pod.labels))
            .collect();
        let maker = pod.maker.as_ref();
        let of_maker = maker.and_then(|m| here.makers.get(&(m.kind, m.name.clone())));
        let mut expressions = Vec::new();
        match (maker.map(|m| m.kind), of_maker) {
            (Some(MakerKind::ReplicationController), Some(selector)) => {
                services.extend(selector.as_object());
            }
            (Some(_), Some(selector)) => {
                for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
                    expressions.push(json!({"key": key, "operator": "In", "values": [value]}));
                }
                let more = selector["matchExpressions"].as_array();
                expressions.extend(more.into_iter().flatten().cloned());
            }
            _ => {}
        }
        for map in services {
            labels.extend(map.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        let all = selector(&json!({"matchLabels": labels, "matchExpressions": expressions}));
        (!all.is_empty()).then_some(all)
    }
}

fn replace<K: Eq + std::hash::Hash>(
    known: &mut HashMap<K, Value>,
    key: K,
    selector: &Value,
) -> bool {
    if selector.is_null() {
        return known.remove(&key).is_some();
    }
    known.insert(key, selector.clone()).as_ref() != Some(selector)
}
