//! How many waiting pods each plugin has said no to, by profile: a pod counts once for every plugin that rejected it,
//! from then until it is tried again or goes (as upstream's `scheduler_unschedulable_pods`).
//!
//! Plain numbers of the one task that owns the queue. Does not know pods.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use placement::{PLUGINS, PluginSet};

/// Who rejects pods besides the plugins that reject nodes.
const OTHERS: [&str; 3] = ["SchedulingGates", "GangScheduling", "Extender"];
/// Who may reject a pod.
const REJECTORS: usize = PLUGINS.len() + OTHERS.len();

/// A set of those who rejected a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rejectors(u32);

impl Rejectors {
    /// `spec.schedulingGates`.
    pub(crate) const GATES: Rejectors = Rejectors(1 << PLUGINS.len());
    /// The pod's gang is not there yet, or had no room.
    pub(crate) const GANG: Rejectors = Rejectors(1 << (PLUGINS.len() + 1));

    /// Services of others.
    pub(crate) const EXTENDER: Rejectors = Rejectors(1 << (PLUGINS.len() + 2));

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in `self` that are not in `other`.
    fn beyond(self, other: Rejectors) -> impl Iterator<Item = usize> {
        let new = self.0 & !other.0;
        (0..REJECTORS).filter(move |at| new & 1 << at != 0)
    }
}

impl From<PluginSet> for Rejectors {
    fn from(plugins: PluginSet) -> Rejectors {
        let rejected = PLUGINS.iter().filter(|plugin| plugins.contains(**plugin));
        Rejectors(rejected.fold(0, |bits, plugin| bits | 1 << *plugin as u32))
    }
}

/// The numbers, by profile.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    profiles: Vec<[u64; REJECTORS]>,
}

impl Rejections {
    /// A pod that was rejected by some is rejected by these, too.
    pub(crate) fn add(&mut self, profile: u16, known: &mut Rejectors, by: Rejectors) {
        let profile = usize::from(profile);
        if self.profiles.len() <= profile {
            self.profiles.resize(profile + 1, [0; REJECTORS]);
        }
        for at in by.beyond(*known) {
            self.profiles[profile][at] += 1;
        }
        known.0 |= by.0;
    }

    /// A pod is tried again, or gone.
    pub(crate) fn clear(&mut self, profile: u16, known: &mut Rejectors) {
        if let Some(row) = self.profiles.get_mut(usize::from(profile)) {
            for at in std::mem::take(known).beyond(Rejectors::default()) {
                row[at] -= 1;
            }
        }
    }
}

/// The same where others may read it.
#[derive(Debug, Default)]
pub(crate) struct Told([AtomicU64; REJECTORS]);

impl Told {
    pub(crate) fn note(&self, rejections: &Rejections, profile: usize) {
        if let Some(row) = rejections.profiles.get(profile) {
            for (told, known) in self.0.iter().zip(row) {
                told.store(*known, Relaxed);
            }
        }
    }

    /// One line for each that rejects somebody.
    pub(crate) fn write(&self, text: &mut String, name: &str, profile: &str) {
        let plugins = PLUGINS.iter().map(|p| (*p as usize, format!("{p:?}")));
        let others = OTHERS.iter().enumerate();
        let others = others.map(|(at, name)| (PLUGINS.len() + at, (*name).to_owned()));
        for (at, plugin) in plugins.chain(others) {
            let pods = self.0[at].load(Relaxed);
            if pods > 0 {
                let _ = writeln!(
                    text,
                    "{name}{{plugin=\"{plugin}\",profile=\"{profile}\"}} {pods}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use placement::Plugin;

    #[test]
    fn a_pod_counts_once_for_each_that_rejected_it() {
        let mut rejections = Rejections::default();
        let (mut one, mut other) = (Rejectors::default(), Rejectors::default());
        let fit = PluginSet::of(&[Plugin::NodeResourcesFit]).into();
        let both = PluginSet::of(&[Plugin::NodeResourcesFit, Plugin::DynamicResources]).into();
        rejections.add(1, &mut one, fit);
        rejections.add(1, &mut one, both);
        rejections.add(1, &mut one, both);
        rejections.add(1, &mut other, fit);
        rejections.add(0, &mut other, Rejectors::GATES);
        let text = |rejections: &Rejections, profile| {
            let (told, mut text) = (Told::default(), String::new());
            told.note(rejections, profile);
            told.write(&mut text, "x", "p");
            text
        };
        assert_eq!(
            text(&rejections, 0),
            "x{plugin=\"SchedulingGates\",profile=\"p\"} 1\n"
        );
        assert_eq!(
            text(&rejections, 1),
            "x{plugin=\"NodeResourcesFit\",profile=\"p\"} 2\nx{plugin=\"DynamicResources\",profile=\"p\"} 1\n"
        );
        rejections.clear(1, &mut one);
        rejections.clear(1, &mut one);
        assert!(one.is_empty());
        assert_eq!(
            text(&rejections, 1),
            "x{plugin=\"NodeResourcesFit\",profile=\"p\"} 1\n"
        );
        assert_eq!(text(&rejections, 7), "");
    }
}
