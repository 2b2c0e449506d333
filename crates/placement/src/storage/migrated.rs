//! Volumes of the older, built-in plugins, as the CSI drivers know them that serve them today.
//!
//! Only as far as NodeVolumeLimits counts them: driver and handle. Where a node has a CSINode these are on, and where
//! it has none there is no limit to count against. Does not know nodes.

use super::things::Attach;
use crate::objects::text;
use meta::Value;

/// Built-in provisioner, its driver, the field of a volume that is its, and the field of that with its handle.
const SERVED: [(&str, &str, &str, &str); 5] = [
    (
        "kubernetes.io/aws-ebs",
        "ebs.csi.aws.com",
        "awsElasticBlockStore",
        "volumeID",
    ),
    (
        "kubernetes.io/gce-pd",
        "pd.csi.storage.gke.io",
        "gcePersistentDisk",
        "pdName",
    ),
    (
        "kubernetes.io/azure-disk",
        "disk.csi.azure.com",
        "azureDisk",
        "diskURI",
    ),
    (
        "kubernetes.io/cinder",
        "cinder.csi.openstack.org",
        "cinder",
        "volumeID",
    ),
    (
        "kubernetes.io/portworx-volume",
        "pxd.portworx.com",
        "portworxVolume",
        "volumeID",
    ),
];
/// Built-in provisioners that have drivers, too, but are not counted.
const NOT_COUNTED: [&str; 2] = ["kubernetes.io/azure-file", "kubernetes.io/vsphere-volume"];

/// The driver that makes volumes for a provisioner; `None` for one whose volumes are not counted.
pub(crate) fn driver_of(provisioner: &str) -> Option<&str> {
    let served = SERVED.iter().find(|(known, ..)| *known == provisioner);
    match served {
        Some((_, driver, ..)) => Some(driver),
        None if NOT_COUNTED.contains(&provisioner) => None,
        None => Some(provisioner),
    }
}

/// A PersistentVolume of a built-in plugin.
pub(crate) fn of_volume(spec: &Value, labels: &Value) -> Option<Attach> {
    let zone = |key: &str| labels[key].as_str();
    let zones = zone("topology.kubernetes.io/zone")
        .or_else(|| zone("failure-domain.beta.kubernetes.io/zone"));
    translated(spec, zones)
}

/// A volume written into a pod.
pub(crate) fn of_inline(volume: &Value) -> Option<Attach> {
    translated(volume, None)
}

fn translated(source: &Value, zones: Option<&str>) -> Option<Attach> {
    let (_, driver, field, id) = SERVED.iter().find(|(_, _, f, _)| source[f].is_object())?;
    let id = text(&source[field][id]);
    let handle = match *field {
        // aws://zone/vol-…
        "awsElasticBlockStore" if id.starts_with("aws://") => {
            id.rsplit('/').next().unwrap_or_default().to_owned()
        }
        "gcePersistentDisk" => google(id, zones),
        _ => id.to_owned(),
    };
    Some(Attach {
        driver: (*driver).into(),
        handle: handle.into(),
    })
}

/// Several zones make a regional disk, and the region is the zone without its last part.
fn google(disk: &str, zones: Option<&str>) -> String {
    let place = match zones.map(|zones| zones.split("__").collect::<Vec<_>>()) {
        Some(zones) if zones.len() > 1 => {
            let first = zones.first().copied().unwrap_or_default();
            let region = first.rsplit_once('-').map_or(first, |(region, _)| region);
            format!("regions/{region}")
        }
        Some(zones) => format!("zones/{}", zones.first().copied().unwrap_or_default()),
        None => "zones/UNSPECIFIED".to_owned(),
    };
    format!("projects/UNSPECIFIED/{place}/disks/{disk}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn handles_by_hand() {
        let inline = |volume: Value| {
            let found = of_inline(&volume).unwrap();
            (found.driver.to_string(), found.handle.to_string())
        };
        let aws = |id: &str| inline(json!({"awsElasticBlockStore": {"volumeID": id}})).1;
        assert_eq!(aws("aws://eu-1a/vol-1"), "vol-1");
        assert_eq!(aws("vol-1"), "vol-1");
        let google = json!({"gcePersistentDisk": {"pdName": "d"}});
        let (driver, handle) = inline(google.clone());
        assert_eq!(driver, "pd.csi.storage.gke.io");
        assert_eq!(handle, "projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d");
        let labelled = |zones: &str| {
            let labels = json!({"topology.kubernetes.io/zone": zones});
            of_volume(&google, &labels).unwrap().handle.to_string()
        };
        assert_eq!(labelled("us-a"), "projects/UNSPECIFIED/zones/us-a/disks/d");
        assert_eq!(
            labelled("us-east1-a__us-east1-b"),
            "projects/UNSPECIFIED/regions/us-east1/disks/d"
        );
        let azure = json!({"azureDisk": {"diskURI": "/d", "diskName": "d"}});
        assert_eq!(inline(azure), ("disk.csi.azure.com".into(), "/d".into()));
        assert_eq!(of_inline(&json!({"hostPath": {"path": "/"}})), None);
        assert_eq!(
            driver_of("kubernetes.io/cinder"),
            Some("cinder.csi.openstack.org")
        );
        assert_eq!(driver_of("kubernetes.io/vsphere-volume"), None);
        assert_eq!(driver_of("example.com/disk"), Some("example.com/disk"));
    }
}
