//! What watches are opened on and writes go to: pods, each bound to a node of its own, made over the network.
//!
//! The Nodes are there, so that nobody takes the pods for orphans; nobody renews their Leases, and as that is so in all
//! zones, nobody empties them. Knows no watches.

use std::time::{Duration, Instant};

use bytes::Bytes;
use schema::FieldReader;
use value::json;

use crate::plane_process::{Ask, Peer};
use crate::workload::{Digits, encoded, node, pod, resource};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// A fresh plane makes the service account that pods need within moments.
const ACCOUNT_WAIT: Duration = Duration::from_secs(20);
const ACCOUNT_LOOK: Duration = Duration::from_millis(50);
/// Nodes and pods asked for at a time: bodies of about 3 KB, of which the window of a new connection holds 64 KiB.
const CHUNK: usize = 8;

/// Makes so many nodes with one pod each. Gives the version at which all are there.
pub async fn create(peer: &mut Peer, count: usize) -> Result<i64, String> {
    let (nodes, pods) = (resource("", "nodes")?, resource("", "pods")?);
    let mut version = 0;
    let places: Vec<usize> = (0..count).collect();
    for chunk in places.chunks(CHUNK) {
        let mut bodies = Vec::new();
        for index in chunk {
            bodies.push(("/api/v1/nodes", encoded(nodes, &node(*index))?));
        }
        for index in chunk {
            let mut pod = pod(*index, &Digits::name(*index));
            pod["spec"]["nodeName"] = fleet::node_name(*index).into();
            bodies.push((PODS, encoded(pods, &pod)?));
        }
        let begun = Instant::now();
        while !bodies.is_empty() {
            let asks: Vec<Ask<'_>> = bodies
                .iter()
                .map(|(target, body)| Ask {
                    method: "POST",
                    target,
                    body: body.clone(),
                })
                .collect();
            let answers = peer.exchange_all(&asks).await?;
            drop(asks);
            let mut again = Vec::new();
            for (answer, (target, body)) in answers.iter().zip(bodies) {
                match answer.status {
                    201 => version = version.max(version_of(&answer.body)?),
                    403 if begun.elapsed() < ACCOUNT_WAIT => again.push((target, body)),
                    status => {
                        let text = String::from_utf8_lossy(&answer.body);
                        return Err(format!("{target} was refused: {status} {text}"));
                    }
                }
            }
            bodies = again;
            if !bodies.is_empty() {
                tokio::time::sleep(ACCOUNT_LOOK).await;
            }
        }
    }
    Ok(version)
}

/// Where the pod of a place is.
pub fn pod_path(index: usize) -> String {
    format!("{PODS}/{}", Digits::name(index))
}

/// The watch that a kubelet keeps on its pods.
pub fn watch_path(index: usize, version: i64) -> String {
    format!(
        "/api/v1/pods?allowWatchBookmarks=true&fieldSelector=spec.nodeName%3D{}&resourceVersion={version}\
         &timeoutSeconds=3600&watch=true",
        fleet::node_name(index)
    )
}

/// A change that says nothing but its number.
pub fn patch(number: usize) -> Bytes {
    let patch = json!({"metadata": {"annotations": {"bench.megaplane/turn": number.to_string()}}});
    patch.to_string().into()
}

/// The version of an object in its envelope.
pub fn version_of(body: &[u8]) -> Result<i64, String> {
    // Metadata has the same place in objects of all kinds.
    static READER: std::sync::OnceLock<Option<FieldReader>> = std::sync::OnceLock::new();
    let reader = READER.get_or_init(|| {
        let pods = schema::resource("", "v1", "pods")?;
        FieldReader::compile(pods.type_id, "metadata.resourceVersion")
    });
    let unknown = schema::envelope::unwrap(body).map_err(|error| error.to_string())?;
    let version = reader
        .as_ref()
        .and_then(|reader| reader.read_str(unknown.raw));
    version
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| "an answer has no version".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_out_of_any_kind() {
        for (group, name) in [
            ("", "pods"),
            ("", "nodes"),
            ("coordination.k8s.io", "leases"),
        ] {
            let resource = resource(group, name).unwrap();
            let object = json!({"metadata": {"name": "a", "resourceVersion": "42"}});
            assert_eq!(version_of(&encoded(resource, &object).unwrap()), Ok(42));
            let none = json!({"metadata": {"name": "a"}});
            assert!(version_of(&encoded(resource, &none).unwrap()).is_err());
        }
    }

    #[test]
    fn watches_are_those_of_kubelets() {
        assert_eq!(
            watch_path(7, 12),
            "/api/v1/pods?allowWatchBookmarks=true&fieldSelector=spec.nodeName%3Dnode-0000007&resourceVersion=12\
             &timeoutSeconds=3600&watch=true"
        );
    }
}
