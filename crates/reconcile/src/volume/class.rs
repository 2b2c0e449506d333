//! What a StorageClass says about claims: which one is the default, and when volumes are bound.
//!
//! Knows no parameters.

use meta::{Value, object};
use std::cmp::Reverse;

/// Says that claims without a class are of this one; either name counts.
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// The name of the class that claims without one are of: the newest of those that are marked, of equally old ones the
/// first by name.
pub fn default_class<'a>(classes: impl IntoIterator<Item = &'a Value>) -> Option<&'a str> {
    let is_default = |class: &&Value| {
        let mut marks = IS_DEFAULT.iter();
        marks.any(|mark| object::annotation(class, mark) == Some("true"))
    };
    let marked = classes.into_iter().filter(is_default);
    // Times of this form compare as texts.
    let newest = marked.min_by_key(|class| {
        let time = object::creation_timestamp(class).unwrap_or_default();
        (Reverse(time), object::name(class))
    });
    newest.map(object::name)
}

/// Whether claims of a class get their volumes only with their first pod's node.
pub fn waits_for_first_consumer(class: &Value) -> bool {
    object::str_at(class, &["volumeBindingMode"]) == Some("WaitForFirstConsumer")
}

/// The driver that makes volumes in the place of a built-in plugin.
pub(super) fn driver_for(provisioner: &str) -> Option<&'static str> {
    Some(match provisioner {
        "kubernetes.io/aws-ebs" => "ebs.csi.aws.com",
        "kubernetes.io/gce-pd" => "pd.csi.storage.gke.io",
        "kubernetes.io/azure-disk" => "disk.csi.azure.com",
        "kubernetes.io/azure-file" => "file.csi.azure.com",
        "kubernetes.io/cinder" => "cinder.csi.openstack.org",
        "kubernetes.io/vsphere-volume" => "csi.vsphere.vmware.com",
        "kubernetes.io/portworx-volume" => "pxd.portworx.com",
        _ => return None,
    })
}

/// Whether a provisioner is meant to be a built-in plugin.
pub(super) fn is_built_in(provisioner: &str) -> bool {
    provisioner.starts_with("kubernetes.io/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn the_newest_marked_class_is_the_default() {
        let class = |name: &str, time: &str, mark: &str, value: &str| json!({"metadata": {"name": name, "creationTimestamp": time, "annotations": {mark: value}}});
        let classes = [
            class("old", "2026-01-01T00:00:00Z", IS_DEFAULT[0], "true"),
            class("b", "2026-01-02T00:00:00Z", IS_DEFAULT[0], "true"),
            class("a", "2026-01-02T00:00:00Z", IS_DEFAULT[1], "true"),
            class("off", "2026-01-03T00:00:00Z", IS_DEFAULT[0], "false"),
        ];
        assert_eq!(default_class(&classes), Some("a"));
        assert_eq!(default_class(&classes[..1]), Some("old"));
        assert_eq!(default_class(&classes[3..]), None);
    }
}
