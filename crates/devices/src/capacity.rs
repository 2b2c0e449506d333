//! What a request takes of a device's capacity, and whether that much is left.
//!
//! Does not know which devices are asked, or who took what.

use meta::{Quantity, Value};

use crate::slice::{Capacity, find};
use crate::{items, quantity};

/// Which amounts of a capacity may be asked for (k8s: `CapacityRequestPolicy`).
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    default: Option<Quantity>,
    /// Ascending.
    values: Vec<Quantity>,
    range: Option<Range>,
}

#[derive(Debug, Clone)]
struct Range {
    min: Option<Quantity>,
    max: Option<Quantity>,
    step: Option<Quantity>,
}

/// Amounts by name, sorted.
pub(crate) type Amounts = Vec<(Box<str>, Quantity)>;

impl Policy {
    pub(crate) fn read(value: &Value) -> Option<Policy> {
        let amount = |value: &Value| (!value.is_null()).then(|| quantity(value));
        let range = &value["validRange"];
        value.is_object().then(|| Policy {
            default: amount(&value["default"]),
            values: items(&value["validValues"]).map(quantity).collect(),
            range: range.is_object().then(|| Range {
                min: amount(&range["min"]),
                max: amount(&range["max"]),
                step: amount(&range["step"]),
            }),
        })
    }

    fn forbids(&self, amount: &Quantity) -> bool {
        if self.default.is_some_and(|default| default == *amount) {
            return false;
        }
        if let Some(range) = &self.range {
            let above = range.max.is_some_and(|max| *amount > max);
            above || range.steps(amount).is_some_and(|(_, rest)| rest != 0)
        } else {
            !self.values.is_empty() && !self.values.contains(amount)
        }
    }
}

impl Range {
    /// Whole steps from the least amount, and what is left over.
    fn steps(&self, amount: &Quantity) -> Option<(i64, i64)> {
        let (min, step) = (self.min.unwrap_or(Quantity::ZERO), self.step?);
        let (above, step) = (amount.value().checked_sub(min.value())?, step.value());
        Some((above.checked_div(step)?, above.checked_rem(step)?))
    }

    fn round_up(&self, min: &Quantity, amount: &Quantity) -> Quantity {
        if amount < min {
            return *min;
        }
        match (self.steps(amount), self.step) {
            (Some((whole, rest)), Some(step)) => {
                let steps = whole.saturating_add(i64::from(rest != 0));
                let value = steps.saturating_mul(step.value());
                let value = min.value().saturating_add(value);
                Quantity::from_value(value, meta::quantity::Format::BinarySi)
            }
            _ => *amount,
        }
    }
}

impl Capacity {
    /// What a request for `asked` takes; without one it is the default, or all.
    fn taken(&self, asked: Option<&Quantity>) -> Quantity {
        let default = self.policy.as_ref().and_then(|policy| policy.default);
        let Some(asked) = asked else {
            return default.unwrap_or(self.value);
        };
        let Some(policy) = &self.policy else {
            return *asked;
        };
        match &policy.range {
            Some(range) if range.min.is_some() => {
                range.round_up(&range.min.unwrap_or(Quantity::ZERO), asked)
            }
            _ => {
                let mut large_enough = policy.values.iter().filter(|valid| asked <= *valid);
                *large_enough.next().unwrap_or(asked)
            }
        }
    }
}

/// What a request takes of each capacity of a device.
pub(crate) fn consumed(asked: &[(Box<str>, Quantity)], of: &[(Box<str>, Capacity)]) -> Amounts {
    of.iter()
        .map(|(name, capacity)| (name.clone(), capacity.taken(find(asked, name))))
        .collect()
}

/// Is as much left as the request takes? Never where it asks for something the device does not have, or for an amount
/// that is not to be had.
pub(crate) fn suffices(
    asked: &[(Box<str>, Quantity)],
    of: &[(Box<str>, Capacity)],
    taken: &[&Amounts],
) -> bool {
    if asked.iter().any(|(name, _)| find(of, name).is_none()) {
        return false;
    }
    of.iter().all(|(name, capacity)| {
        let amount = capacity.taken(find(asked, name));
        let forbidden = capacity.policy.as_ref().is_some_and(|p| p.forbids(&amount));
        let others = taken.iter().filter_map(|taken| find(taken, name));
        let sum = others.fold(amount, |sum, other| sum.add(other));
        !forbidden && sum <= capacity.value
    })
}

/// Adds amounts to others, or takes them away.
pub(crate) fn shift(amounts: &mut Amounts, by: &[(Box<str>, Quantity)], add: bool) {
    for (name, amount) in by {
        let amount = if add { *amount } else { amount.neg() };
        match amounts.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(at) => amounts[at].1 = amounts[at].1.add(&amount),
            Err(at) => amounts.insert(at, (name.clone(), amount)),
        }
    }
    amounts.retain(|(_, amount)| !amount.is_zero());
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    fn capacity(value: &str, policy: &Value) -> Vec<(Box<str>, Capacity)> {
        let policy = Policy::read(policy);
        let value = q(value);
        vec![("memory".into(), Capacity { value, policy })]
    }

    fn asked(amount: &str) -> Amounts {
        vec![("memory".into(), q(amount))]
    }

    #[test]
    fn a_request_takes_what_the_policy_makes_of_it() {
        let range =
            json!({"default": "1Gi", "validRange": {"min": "2Gi", "max": "8Gi", "step": "2Gi"}});
        let values = json!({"default": "1Gi", "validValues": ["1Gi", "4Gi"]});
        for (policy, amount, expected) in [
            (&Value::Null, Some("3Gi"), "3Gi"),
            (&Value::Null, None, "16Gi"),
            (&range, None, "1Gi"),
            (&range, Some("1Gi"), "2Gi"),
            (&range, Some("3Gi"), "4Gi"),
            (&range, Some("4Gi"), "4Gi"),
            (&values, Some("2Gi"), "4Gi"),
            (&values, Some("5Gi"), "5Gi"),
        ] {
            let asked = amount.map(asked).unwrap_or_default();
            let taken = consumed(&asked, &capacity("16Gi", policy));
            assert_eq!(taken[0].1, q(expected), "{policy} {amount:?}");
        }
    }

    #[test]
    fn only_what_is_left_and_allowed_can_be_had() {
        let range = json!({"default": "1Gi", "validRange": {"min": "2Gi", "max": "8Gi"}});
        let values = json!({"default": "1Gi", "validValues": ["1Gi", "4Gi"]});
        for (policy, amount, taken, expected) in [
            (&Value::Null, "8Gi", "8Gi", true),
            (&Value::Null, "9Gi", "8Gi", false),
            (&range, "8Gi", "0", true),
            (&range, "9Gi", "0", false),
            (&values, "5Gi", "0", false),
            (&values, "4Gi", "13Gi", false),
        ] {
            let of = capacity("16Gi", policy);
            let already = asked(taken);
            let suffices = suffices(&asked(amount), &of, &[&already]);
            assert_eq!(suffices, expected, "{policy} {amount}");
        }
        let other = vec![("cores".into(), q("1"))];
        assert!(!suffices(&other, &capacity("16Gi", &Value::Null), &[]));
    }

    #[test]
    fn amounts_are_counted_up_and_down() {
        let mut amounts = asked("1Gi");
        shift(&mut amounts, &asked("1Gi"), true);
        assert_eq!(amounts[0].1, q("2Gi"));
        shift(&mut amounts, &asked("2Gi"), false);
        assert!(amounts.is_empty());
    }
}
