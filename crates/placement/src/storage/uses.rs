//! What a pod says of its volumes: claims it names, disks written into it.
//!
//! Read from the pod alone. Does not know claims.

use super::migrated;
use super::things::Attach;
use crate::objects::{items, text};
use meta::Value;

/// A disk that pods of one node may not share, or only to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Disk {
    /// Kind and identity. A disk that can be reached in several ways is one entry for each.
    pub id: Box<str>,
    /// Two that only read do not disturb one another.
    pub read_only: bool,
}

impl Disk {
    pub(crate) fn disturbs(&self, other: &Disk) -> bool {
        self.id == other.id && !(self.read_only && other.read_only)
    }
}

/// The volumes of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uses {
    /// Claims by `namespace/name`, each once, in the pod's order; true for those made for the pod alone.
    pub claims: Vec<(Box<str>, bool)>,
    /// Disks written into the pod.
    pub disks: Vec<Disk>,
    /// Volumes written into the pod that drivers attach.
    pub inline: Vec<Attach>,
    /// The pod's uid, where a claim is made for it alone.
    pub uid: Box<str>,
}

impl Uses {
    /// Those of a pod object; `None` for a pod that has none that matter.
    pub(crate) fn read(metadata: &Value, spec: &Value) -> Option<Uses> {
        let mut uses = Uses::default();
        for volume in items(&spec["volumes"]) {
            let name = text(&volume["persistentVolumeClaim"]["claimName"]);
            let namespace = text(&metadata["namespace"]);
            if !name.is_empty() {
                uses.claim(format!("{namespace}/{name}"), false);
            } else if volume["ephemeral"].is_object() {
                let (pod, name) = (text(&metadata["name"]), text(&volume["name"]));
                uses.claim(format!("{namespace}/{pod}-{name}"), true);
                uses.uid = text(&metadata["uid"]).into();
            } else {
                uses.disks.extend(disks(volume));
                uses.inline.extend(migrated::of_inline(volume));
            }
        }
        let empty = uses.claims.is_empty() && uses.disks.is_empty() && uses.inline.is_empty();
        (!empty).then_some(uses)
    }

    fn claim(&mut self, key: String, own: bool) {
        if !self.claims.iter().any(|(known, _)| **known == *key) {
            self.claims.push((key.into(), own));
        }
    }
}

fn disks(volume: &Value) -> Vec<Disk> {
    let read_only = |source: &Value| source["readOnly"] == true;
    let disk = |kind: &str, id: &str, read_only| Disk {
        id: format!("{kind}/{id}").into(),
        read_only,
    };
    let (google, amazon) = (
        &volume["gcePersistentDisk"],
        &volume["awsElasticBlockStore"],
    );
    let (iscsi, rbd) = (&volume["iscsi"], &volume["rbd"]);
    let mut disks = Vec::new();
    if google.is_object() {
        disks.push(disk("gce", text(&google["pdName"]), read_only(google)));
    }
    if amazon.is_object() {
        // Never shared, not even to read.
        disks.push(disk("ebs", text(&amazon["volumeID"]), false));
    }
    if iscsi.is_object() {
        disks.push(disk("iscsi", text(&iscsi["iqn"]), read_only(iscsi)));
    }
    if rbd.is_object() {
        // The same image where pool and name agree and one monitor is common.
        let (pool, image) = (text(&rbd["pool"]), text(&rbd["image"]));
        disks.extend(items(&rbd["monitors"]).map(|monitor| {
            let id = format!("{}\0{pool}\0{image}", text(monitor));
            disk("rbd", &id, read_only(rbd))
        }));
    }
    disks
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn of(volume: Value) -> Uses {
        let metadata = json!({"namespace": "n", "name": "p", "uid": "u"});
        Uses::read(&metadata, &json!({"volumes": [volume]})).unwrap_or_default()
    }

    fn clash(a: Value, b: Value) -> bool {
        let (a, b) = (of(a).disks, of(b).disks);
        a.iter()
            .any(|one| b.iter().any(|other| one.disturbs(other)))
    }

    #[test]
    fn disks_clash_as_upstream_says() {
        let google =
            |read_only: bool| json!({"gcePersistentDisk": {"pdName": "d", "readOnly": read_only}});
        assert!(clash(google(false), google(true)));
        assert!(!clash(google(true), google(true)));
        let amazon = json!({"awsElasticBlockStore": {"volumeID": "d", "readOnly": true}});
        assert!(clash(amazon.clone(), amazon.clone()));
        assert!(!clash(amazon, google(false)));
        let iscsi = |iqn: &str, read_only: bool| json!({"iscsi": {"iqn": iqn, "lun": 1, "readOnly": read_only}});
        assert!(clash(iscsi("a", true), iscsi("a", false)));
        assert!(!clash(iscsi("a", false), iscsi("b", false)));
        let rbd = |monitors: Value, pool: &str| json!({"rbd": {"monitors": monitors, "pool": pool, "image": "i"}});
        assert!(clash(
            rbd(json!(["a", "b"]), "p"),
            rbd(json!(["c", "b"]), "p")
        ));
        assert!(!clash(rbd(json!(["a", "b"]), "p"), rbd(json!(["c"]), "p")));
        assert!(!clash(rbd(json!(["a"]), "p"), rbd(json!(["a"]), "q")));
    }

    #[test]
    fn claims_are_named_once() {
        let volumes = json!({"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "d", "ephemeral": {}},
            {"name": "e", "configMap": {}},
        ]});
        let metadata = json!({"namespace": "n", "name": "p", "uid": "u"});
        let uses = Uses::read(&metadata, &volumes).unwrap();
        assert_eq!(uses.claims, [("n/c".into(), false), ("n/p-d".into(), true)]);
        assert_eq!(&*uses.uid, "u");
        assert_eq!(of(json!({"configMap": {}})), Uses::default());
    }
}
