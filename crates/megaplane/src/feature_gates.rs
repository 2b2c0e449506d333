//! `--feature-gates`: what Kubernetes 1.36 has and leaves off. Under upstream's names, as upstream writes them.
//!
//! What is on by default is always on here, and what is not there cannot be turned on: both are refused by name.

/// The API that gangs are told by.
const GANG_API: (&str, &str) = ("scheduling.k8s.io", "v1alpha2");
/// The API of device taint rules.
const RULES_API: (&str, &str) = ("resource.k8s.io", "v1beta2");
/// The gates that may be turned on: the API of pod groups, the plugin that heeds them, and device taint rules.
const KNOWN: [&str; 3] = ["GenericWorkload", "GangScheduling", "DRADeviceTaintRules"];

/// What is turned on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// `scheduling.k8s.io/v1alpha2` is served.
    pub workload: bool,
    /// Pods of a PodGroup with a least number start together.
    pub gangs: bool,
    /// Device taint rules are served, and heeded.
    pub device_taint_rules: bool,
}

impl FeatureGates {
    /// Group-versions served beside those that are by default.
    pub fn also_served(self) -> Vec<(&'static str, &'static str)> {
        let gangs = (self.workload || self.gangs).then_some(GANG_API);
        let rules = self.device_taint_rules.then_some(RULES_API);
        gangs.into_iter().chain(rules).collect()
    }
}

/// Reads `Name=true,Name=false`.
pub fn parse(text: &str) -> Result<FeatureGates, String> {
    let mut gates = FeatureGates::default();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| format!("missing bool value for {part}"))?;
        let on = match value.trim() {
            "true" => true,
            "false" => false,
            other => {
                return Err(format!(
                    "invalid value of {name}={other}, expected true or false"
                ));
            }
        };
        match name.trim() {
            "GenericWorkload" => gates.workload = on,
            "GangScheduling" => gates.gangs = on,
            "DRADeviceTaintRules" => gates.device_taint_rules = on,
            other => {
                return Err(format!(
                    "unrecognized feature gate: {other} (there are {})",
                    KNOWN.join(", ")
                ));
            }
        }
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_as_upstream_writes_them() {
        let gates = parse("GenericWorkload=true,GangScheduling=true").unwrap();
        assert!(gates.workload && gates.gangs);
        assert_eq!(gates.also_served(), [GANG_API]);
        let both = parse("GangScheduling=true,DRADeviceTaintRules=true").unwrap();
        assert_eq!(both.also_served(), [GANG_API, RULES_API]);
        assert!(both.device_taint_rules && !gates.device_taint_rules);
        assert_eq!(parse(""), Ok(FeatureGates::default()));
        assert!(
            parse("GangScheduling=false")
                .unwrap()
                .also_served()
                .is_empty()
        );
        for wrong in ["GangScheduling", "GangScheduling=yes", "Other=true"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
