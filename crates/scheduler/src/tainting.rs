//! Device taint rules in the shell: followed, where the feature gate DRADeviceTaintRules is on.
//!
//! Does not know what a rule keeps away from a device.

use client::{Change, Client, Mirror, Reflector};
use devices::TaintRule;
use placement::queue::Event;
use tokio::sync::mpsc;

use crate::Scheduler;

pub(crate) type RuleChange = Change<TaintRule>;

/// Everything about rules.
#[derive(Debug)]
pub(crate) struct Tainting {
    on: bool,
    rules: Mirror<()>,
}

impl Tainting {
    pub(crate) fn new(on: bool) -> Tainting {
        Tainting {
            on,
            rules: Mirror::default(),
        }
    }

    /// Follows the rules, if they are to be heeded at all. A server that does not know them has none.
    pub(crate) fn follow(&self, client: &Client) -> Option<mpsc::Receiver<RuleChange>> {
        let rules = schema::resource("resource.k8s.io", "v1beta2", "devicetaintrules")?;
        let reflector = Reflector::new(client.clone(), rules).optional();
        self.on
            .then(|| reflector.spawn(|object| TaintRule::read(&object)))
    }

    pub(crate) fn is_synced(&self) -> bool {
        !self.on || self.rules.is_synced()
    }
}

impl Scheduler {
    /// A rule came, changed or went: devices may be had that could not, or no longer.
    pub(crate) fn taint_rule(&mut self, change: RuleChange) {
        let inventory = &mut self.surroundings.devices.inventory;
        let mut other = false;
        let change = change.map(|key, rule| {
            inventory.note_rule(key, rule);
            other = true;
        });
        let gone = self.tainting.rules.take_name(change);
        for key in &gone {
            inventory.forget_rule(key);
        }
        if other || !gone.is_empty() {
            self.happened(Event::ResourceSlice);
        }
    }
}
