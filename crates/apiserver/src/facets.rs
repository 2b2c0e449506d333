//! By which numbers the store finds the watchers of a label: one for each label, and one for its key alone, each once for
//! all namespaces and once for the object's own.
//!
//! Only an index. Equal numbers of different labels cost a look, selectors decide; so the numbers are made quickly, and
//! nobody keeps them.

use std::sync::Arc;

use meta::LabelSelector;
use meta::labels::{LabelOperator, LabelRequirement};
use store::Interest;
use store::limits::FACETS_MAX;

/// Calls `found` with the facets of a stored object. Answers how many of its first bytes decide.
pub fn read(key: &[u8], message: &[u8], found: &mut dyn FnMut(u64)) -> usize {
    let namespace = key.iter().position(|byte| *byte == b'/');
    let namespace = namespace.and_then(|end| key.get(..end)).map(hash);
    schema::read_labels(message, |label, value| {
        let label = hash(label.as_bytes());
        let pair = mix(label, hash(value.as_bytes()));
        found(label);
        found(pair);
        if let Some(namespace) = namespace {
            found(mix(namespace, label));
            found(mix(namespace, pair));
        }
    })
}

/// The narrowest interest that finds everything a selector may select; none if it says of no label that it must be there.
pub fn interest(selector: &LabelSelector, namespace: &str) -> Option<Interest> {
    let facets = selector
        .requirements()
        .iter()
        .filter_map(facets)
        .min_by_key(|facets| (facets.is_key_alone, facets.labels.len()))?;
    let inside = |facet: &u64| match namespace {
        "" => *facet,
        _ => mix(hash(namespace.as_bytes()), *facet),
    };
    let labels: Vec<u64> = facets.labels.iter().map(inside).collect();
    Some(match labels.as_slice() {
        [one] => Interest::Facet(*one),
        _ => Interest::AnyFacet(Arc::from(labels)),
    })
}

/// What finds the objects that satisfy a requirement.
struct Facets {
    labels: Vec<u64>,
    is_key_alone: bool,
}

fn facets(requirement: &LabelRequirement) -> Option<Facets> {
    let key = hash(requirement.key.as_bytes());
    let alone = Facets {
        labels: vec![key],
        is_key_alone: true,
    };
    match requirement.op {
        LabelOperator::Equals | LabelOperator::DoubleEquals | LabelOperator::In
            if (1..=FACETS_MAX).contains(&requirement.values.len()) =>
        {
            let pair = |value: &String| mix(key, hash(value.as_bytes()));
            Some(Facets {
                labels: requirement.values.iter().map(pair).collect(),
                is_key_alone: false,
            })
        }
        LabelOperator::Equals
        | LabelOperator::DoubleEquals
        | LabelOperator::In
        | LabelOperator::Exists
        | LabelOperator::GreaterThan
        | LabelOperator::LessThan => Some(alone),
        LabelOperator::NotEquals | LabelOperator::NotIn | LabelOperator::DoesNotExist => None,
    }
}

/// An odd number without a pattern: the golden ratio's.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Eight bytes at a time: labels are short, and there are many events.
fn hash(text: &[u8]) -> u64 {
    let mut hash = text.len() as u64;
    for chunk in text.chunks(8) {
        let mut word = [0; 8];
        if let Some(place) = word.get_mut(..chunk.len()) {
            place.copy_from_slice(chunk);
        }
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

fn mix(one: u64, other: u64) -> u64 {
    let mixed = (one.rotate_left(23) ^ other).wrapping_mul(FACTOR);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn found_in(key: &str, labels: &value::Value) -> Vec<u64> {
        let ty = schema::kind_type("v1", "ConfigMap").unwrap();
        let object = json!({"metadata": {"name": "n", "labels": labels, "annotations": {"a": "b"}},
            "data": {"app": "not a label"}});
        let mut message = Vec::new();
        schema::encode_stored(ty, &object, &mut message).unwrap();
        let mut found = Vec::new();
        let decided = read(key.as_bytes(), &message, &mut |facet| found.push(facet));
        assert!(decided < message.len());
        found
    }

    fn is_found(selector: &str, namespace: &str, found: &[u64]) -> bool {
        match interest(&LabelSelector::parse(selector).unwrap(), namespace) {
            Some(Interest::Facet(facet)) => found.contains(&facet),
            Some(Interest::AnyFacet(facets)) => facets.iter().any(|facet| found.contains(facet)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn objects_are_found_by_their_labels_in_their_namespace() {
        let found = found_in(
            "shop/n",
            &json!({"app": "web", "example.com/tier": "a-long-value"}),
        );
        assert_eq!(found.len(), 8);
        for (selector, namespace, expected) in [
            ("app=web", "", true),
            ("app=web", "shop", true),
            ("app=web", "store", false),
            ("app=db", "", false),
            ("app in (db,web)", "shop", true),
            ("app in (db,queue)", "shop", false),
            ("app", "shop", true),
            ("app,example.com/tier=another", "", false),
            ("app!=db,example.com/tier", "", true),
            ("web=app", "", false),
            ("app>5", "", true),
        ] {
            assert_eq!(
                is_found(selector, namespace, &found),
                expected,
                "{selector} {namespace}"
            );
        }
        // A kind without namespaces has only what is the same in all.
        assert_eq!(found_in("n", &json!({"app": "web"})).len(), 2);
    }

    #[test]
    fn what_must_not_be_there_finds_nobody() {
        for selector in ["app!=web", "!app", "app notin (a,b)", ""] {
            let selector = LabelSelector::parse(selector).unwrap();
            assert_eq!(interest(&selector, ""), None);
        }
    }

    #[test]
    fn many_values_are_looked_for_by_their_key() {
        let values: Vec<String> = (0..=FACETS_MAX)
            .map(|number| format!("v{number}"))
            .collect();
        let selector = LabelSelector::parse(&format!("app in ({})", values.join(","))).unwrap();
        assert_eq!(interest(&selector, ""), Some(Interest::Facet(hash(b"app"))));
    }
}
