//! A glance at a pod's bytes: whether it has nothing before it, because it runs, is ready, and never ends by itself.
//!
//! Half of what a watch tells of pods is the echo of their start, and a decoded pod would say no more than this. Knows the
//! numbers of the fields that it reads; where it is not sure, it says nothing, and `pod.rs` decides.

use schema::wire::{Reader, Wire, first_text};

/// The key, `namespace/name`, of a pod of the built-in life that has no next step. `None`: it has to be looked at.
pub(crate) fn settled(pod: &[u8]) -> Option<String> {
    let (mut key, mut stays, mut is_ready) = (None, false, false);
    let mut fields = Reader::new(pod);
    while let Some((number, wire)) = fields.field().ok()? {
        let Wire::Bytes(part) = wire else { continue };
        match number {
            1 => key = Some(of_metadata(part)?),
            2 => stays = starts_anew(part)?,
            3 => is_ready = runs_and_is_ready(part)?,
            _ => {}
        }
    }
    key.filter(|_| stays && is_ready)
}

/// The key, unless the pod is being deleted or a Job's.
fn of_metadata(metadata: &[u8]) -> Option<String> {
    let (mut name, mut namespace): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Reader::new(metadata);
    while let Some((number, wire)) = fields.field().ok()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => name = text,
            (3, Wire::Bytes(text)) => namespace = text,
            // deletionTimestamp
            (9, _) => return None,
            // ownerReferences: their first field is the kind.
            (13, Wire::Bytes(owner)) if first_text(owner, 1)? == "Job" => return None,
            _ => {}
        }
    }
    let (name, namespace) = (
        std::str::from_utf8(name).ok()?,
        std::str::from_utf8(namespace).ok()?,
    );
    Some([namespace, name].join("/"))
}

/// Whether containers that end are started anew: then the pod does not end.
fn starts_anew(spec: &[u8]) -> Option<bool> {
    Some(first_text(spec, 3)? == "Always")
}

fn runs_and_is_ready(status: &[u8]) -> Option<bool> {
    if first_text(status, 1)? != "Running" {
        return Some(false);
    }
    let mut fields = Reader::new(status);
    while let Some((number, wire)) = fields.field().ok()? {
        if let (2, Wire::Bytes(condition)) = (number, wire)
            && first_text(condition, 1)? == "Ready"
        {
            return Some(first_text(condition, 2)? == "True");
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FleetConfig;
    use crate::pod::{PodShapes, next};
    use meta::Value;
    use value::json;

    /// What a glance settles has no next step by the rules, and nothing that has one is settled.
    #[test]
    fn a_glance_agrees_with_the_look() {
        let pods = crate::resource("", "pods");
        let config = FleetConfig::new(10);
        let base = json!({
            "metadata": {"namespace": "d", "name": "p", "uid": "u",
                         "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o"}]},
            "spec": {"nodeName": "node-0000003", "restartPolicy": "Always",
                     "containers": [{"name": "c", "image": "i", "command": ["sleep", "9"]}]},
            "status": {"phase": "Running", "conditions": [
                {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut pod = base.clone();
            change(&mut pod);
            pod
        };
        let cases = [
            (true, with(&|_| {})),
            (true, with(&|pod| pod["spec"]["hostNetwork"] = true.into())),
            (
                false,
                with(&|pod| {
                    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }),
            ),
            (
                false,
                with(&|pod| pod["metadata"]["ownerReferences"][0]["kind"] = "Job".into()),
            ),
            (
                false,
                with(&|pod| pod["spec"]["restartPolicy"] = "Never".into()),
            ),
            (
                false,
                with(&|pod| pod["status"]["phase"] = "Pending".into()),
            ),
            (
                false,
                with(&|pod| pod["status"]["conditions"][1]["status"] = "False".into()),
            ),
            (false, with(&|pod| pod["status"]["conditions"] = json!([]))),
        ];
        for (expected, pod) in cases {
            let mut message = Vec::new();
            schema::encode_protobuf(pods.type_id, &pod, &mut message).unwrap();
            let shape = PodShapes::default().of(&pod, config.job_run_time);
            let key = settled(&message);
            assert_eq!(key.is_some(), expected, "{pod}");
            assert_eq!(next(&pod, &shape, &config).is_none(), expected, "{pod}");
            if let Some(key) = key {
                assert_eq!(key, "d/p");
            }
            // A broken message is nobody's.
            assert_eq!(settled(&message[..message.len() - 1]), None);
        }
    }
}
