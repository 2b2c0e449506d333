//! Taint rules: taints of devices that are told beside their slices (feature gate DRADeviceTaintRules).
//!
//! Does not know slices.

use std::collections::BTreeMap;

use meta::Value;

use crate::claim::{Taint, taint};
use crate::text;

/// A DeviceTaintRule.
#[derive(Debug, Clone)]
pub struct TaintRule {
    /// Of the driver; of any, if none.
    driver: Option<Box<str>>,
    pool: Option<Box<str>>,
    device: Option<Box<str>>,
    taint: Taint,
}

impl TaintRule {
    /// Reads a DeviceTaintRule.
    pub fn read(object: &Value) -> TaintRule {
        let spec = &object["spec"];
        let selector = &spec["deviceSelector"];
        let named = |field: &str| selector[field].as_str().map(Into::into);
        // Without a selector it is for no device, with an empty one for all.
        let nobody = (!selector.is_object()).then(|| text(&Value::Null).into());
        TaintRule {
            driver: nobody.or_else(|| named("driver")),
            pool: named("pool"),
            device: named("device"),
            taint: taint(&spec["taint"]),
        }
    }

    fn means(&self, driver: &str, pool: &str, device: &str) -> bool {
        let same = |wanted: &Option<Box<str>>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| **wanted == *name)
        };
        same(&self.driver, driver) && same(&self.pool, pool) && same(&self.device, device)
    }
}

/// All of them, by name. They are few: each device that is picked is held against each.
#[derive(Debug, Default)]
pub(crate) struct Rules(BTreeMap<Box<str>, TaintRule>);

impl Rules {
    pub(crate) fn note(&mut self, name: &str, rule: TaintRule) {
        self.0.insert(name.into(), rule);
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Taints of a device.
    pub(crate) fn of(
        &self,
        driver: &str,
        pool: &str,
        device: &str,
    ) -> impl Iterator<Item = &Taint> {
        let rules = self.0.values();
        let meant = rules.filter(move |rule| rule.means(driver, pool, device));
        meant.map(|rule| &rule.taint)
    }
}
