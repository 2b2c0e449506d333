//! What the devices of a claim must have in common, or must not.
//!
//! Both rules are monotonic: once a device does not fit, more devices do not change that. Does not know which devices
//! are tried.

use crate::claim::{Constraint, Rule};
use crate::slice::{Attribute, Device};

/// A constraint with the values of the devices that are picked so far.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    constraint: &'a Constraint,
    values: Vec<&'a Attribute>,
}

impl<'a> Held<'a> {
    pub(crate) fn new(constraint: &'a Constraint) -> Held<'a> {
        Held {
            constraint,
            values: Vec::new(),
        }
    }

    /// Is the request meant, by its own name or by that of the alternative?
    fn concerns(&self, request: &str, qualified: &str) -> bool {
        let named = &self.constraint.requests;
        named.is_empty()
            || named
                .iter()
                .any(|name| **name == *request || **name == *qualified)
    }

    /// Picks one more device, if it fits.
    pub(crate) fn add(
        &mut self,
        request: &str,
        qualified: &str,
        driver: &str,
        device: &'a Device,
    ) -> bool {
        if !self.concerns(request, qualified) {
            return true;
        }
        let (Rule::Match(name) | Rule::Distinct(name)) = &self.constraint.rule else {
            return false;
        };
        let Some(value) = device.attribute(driver, name) else {
            return false;
        };
        let fits = *value != Attribute::Unknown
            && match &self.constraint.rule {
                Rule::Match(_) => self.values.first().is_none_or(|first| *first == value),
                _ => !self.values.contains(&value),
            };
        if fits {
            self.values.push(value);
        }
        fits
    }

    /// Undoes the last [`Held::add`] that fitted.
    pub(crate) fn remove(&mut self, request: &str, qualified: &str) {
        if self.concerns(request, qualified) {
            self.values.pop();
        }
    }
}
