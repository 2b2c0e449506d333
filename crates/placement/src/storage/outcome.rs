//! What a pod's claims come to, whatever the node: an obstacle, or what is asked of nodes.
//!
//! Looks at objects only, never at what is assumed or at other pods: what comes out is part of the pod's class.

use super::supply::Wanted;
use super::things::{Claim, Volume};
use super::{Storage, Uses};
use crate::objects::{VolumeReason, VolumeRule, Volumes};
use std::sync::Arc;

/// The access mode of a claim that one pod alone may use.
const ONCE_POD: &str = "ReadWriteOncePod";

impl Storage {
    /// What a pod's claims come to now. `name` and `namespace` are the pod's.
    pub(crate) fn outcome(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        uses: &Arc<Uses>,
    ) -> Volumes {
        let mut volumes = Volumes {
            uses: Some(uses.clone()),
            ..Volumes::default()
        };
        let pod = Pod {
            namespace,
            name,
            uid,
        };
        let mut unbound = false;
        for (key, own) in &uses.claims {
            match self.look_at(&pod, key, *own, &mut volumes) {
                Ok(bound_or_waiting) => unbound |= !bound_or_waiting,
                Err(why) => {
                    volumes.obstacle = Some(why.into());
                    break;
                }
            }
        }
        if unbound && volumes.obstacle.is_none() {
            let why = "pod has unbound immediate PersistentVolumeClaims";
            volumes.obstacle = Some(why.into());
        }
        if volumes.obstacle.is_some() {
            return Volumes {
                obstacle: volumes.obstacle,
                uses: volumes.uses,
                ..Volumes::default()
            };
        }
        volumes.attach = self.attached_by(uses).collect();
        volumes.attach.sort();
        volumes.attach.dedup();
        // The smallest first, so that none takes a volume that a larger one needs.
        volumes
            .to_bind
            .sort_by_key(|wanted| wanted.size.unwrap_or(0));
        volumes
    }

    /// False when the claim has no volume and does not wait for the pod.
    fn look_at(
        &self,
        pod: &Pod<'_>,
        key: &str,
        own: bool,
        volumes: &mut Volumes,
    ) -> Result<bool, String> {
        let name = key.split_once('/').map_or(key, |(_, name)| name);
        let Some(claim) = self.claims.get(key) else {
            return Err(if own {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )
            } else {
                format!("persistentvolumeclaim \"{name}\" not found")
            });
        };
        if own && *claim.owner != *pod.uid {
            return Err(format!(
                "PVC {key} was not created for pod {}/{} (pod is not owner)",
                pod.namespace, pod.name
            ));
        }
        if claim.lost {
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\"",
                claim.volume
            ));
        }
        if claim.deleting {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        if !own && claim.fabric.modes.iter().any(|mode| &**mode == ONCE_POD) {
            volumes.exclusive.push(key.into());
        }
        if claim.bound {
            bound(self.volumes.get(&claim.volume), volumes);
            return Ok(true);
        }
        let class = self.classes.get(&claim.fabric.class);
        let Some(class) = class.filter(|class| class.waits && claim.volume.is_empty()) else {
            return Ok(false);
        };
        volumes.to_bind.push(Wanted {
            provisioner: class.provisioner.clone(),
            topologies: class.topologies.clone(),
            ..wanted(key, claim)
        });
        Ok(true)
    }
}

struct Pod<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

fn bound(volume: Option<&Volume>, volumes: &mut Volumes) {
    let mut rule = |reason, terms| volumes.rules.push(VolumeRule { reason, terms });
    let Some(volume) = volume else {
        rule(VolumeReason::NoVolume, Vec::new());
        return;
    };
    if let Some(terms) = &volume.affinity {
        rule(VolumeReason::NodeAffinity, terms.clone());
    }
    for terms in &volume.zones {
        rule(VolumeReason::Zone, terms.clone());
    }
}

fn wanted(key: &str, claim: &Claim) -> Wanted {
    Wanted {
        claim: key.into(),
        uid: claim.uid.clone(),
        fabric: claim.fabric.clone(),
        size: claim.size,
        selector: claim.selector.clone(),
        selected: claim.selected.clone(),
        provisioner: Box::default(),
        topologies: Vec::new(),
    }
}
