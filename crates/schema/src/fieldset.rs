//! Sets of fields by their paths, resolved to numbers once: what of a message is wanted, or what is not.
//!
//! Does not know what anybody does with it.

use crate::reader::resolve;
use crate::table::{Kind, Shape, TypeId, table};

/// Fields of a type, each with all that is below it.
#[derive(Debug, Clone, Default)]
pub struct FieldSet {
    fields: Vec<(u32, Below)>,
}

/// What of a field is in the set.
#[derive(Debug, Clone)]
pub(crate) enum Below {
    All,
    Some(FieldSet),
}

impl FieldSet {
    /// Resolves paths of JSON names, such as `status.conditions.lastHeartbeatTime`: lists are gone through, maps are not.
    pub fn compile(ty: TypeId, paths: &[&str]) -> Option<FieldSet> {
        let mut set = FieldSet::default();
        for path in paths {
            set.add(&numbers(ty, path)?);
        }
        Some(set)
    }

    fn add(&mut self, numbers: &[u32]) {
        let Some((first, rest)) = numbers.split_first() else {
            return;
        };
        let place = match self.fields.iter().position(|(number, _)| number == first) {
            Some(place) => place,
            None => {
                self.fields.push((*first, Below::Some(FieldSet::default())));
                self.fields.len() - 1
            }
        };
        match &mut self.fields[place].1 {
            below if rest.is_empty() => *below = Below::All,
            Below::Some(inner) => inner.add(rest),
            Below::All => {}
        }
    }

    /// What of a field is in the set, if anything.
    pub(crate) fn get(&self, number: u32) -> Option<&Below> {
        let found = self.fields.iter().find(|(at, _)| *at == number);
        found.map(|(_, below)| below)
    }
}

fn numbers(ty: TypeId, path: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    let mut here = Some(ty);
    for name in path.split('.') {
        let (kind, shape) = resolve(here?, name, &mut numbers)?;
        here = match (kind, shape) {
            (Kind::Message(inner), Shape::One | Shape::Pointer | Shape::List)
                if table().special(kind).is_none() =>
            {
                Some(inner)
            }
            _ => None,
        };
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_must_lead_somewhere() {
        let ty = crate::kind_type("v1", "Node").unwrap();
        assert!(FieldSet::compile(ty, &["metadata.labels", "spec"]).is_some());
        for path in [
            "",
            "metadata.nothing",
            "metadata.labels.a",
            "metadata.creationTimestamp.seconds",
        ] {
            assert!(FieldSet::compile(ty, &[path]).is_none(), "{path}");
        }
    }
}
