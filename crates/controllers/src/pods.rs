//! The pods by owner, by namespace and by node: what makes planning independent of the number of all pods.
//!
//! An index entry is one pointer. Does not know keys or mirrors.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use reconcile::Pod;

/// A pod by its identity in memory.
#[derive(Debug, Clone)]
struct Pointer(Arc<Pod>);

impl PartialEq for Pointer {
    fn eq(&self, other: &Pointer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Pointer {}

impl Hash for Pointer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

type Group = HashMap<Box<str>, HashSet<Pointer>>;

/// The indices.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    by_controller: Group,
    /// Pods without a controller, by namespace.
    free: Group,
    by_namespace: Group,
    by_node: Group,
    ended: HashSet<Pointer>,
}

impl Pods {
    /// Takes in a pod.
    pub(crate) fn insert(&mut self, pod: &Arc<Pod>) {
        match &pod.controller_uid {
            Some(uid) => insert(&mut self.by_controller, uid, pod),
            None => insert(&mut self.free, &pod.namespace, pod),
        }
        insert(&mut self.by_namespace, &pod.namespace, pod);
        if !pod.node_name.is_empty() {
            insert(&mut self.by_node, &pod.node_name, pod);
        }
        if pod.has_ended() {
            self.ended.insert(Pointer(pod.clone()));
        }
    }

    /// Takes out a pod: the very one that was taken in.
    pub(crate) fn remove(&mut self, pod: &Arc<Pod>) {
        match &pod.controller_uid {
            Some(uid) => remove(&mut self.by_controller, uid, pod),
            None => remove(&mut self.free, &pod.namespace, pod),
        }
        remove(&mut self.by_namespace, &pod.namespace, pod);
        remove(&mut self.by_node, &pod.node_name, pod);
        self.ended.remove(&Pointer(pod.clone()));
    }

    /// Pods that an owner controls.
    pub(crate) fn of_controller(&self, uid: &str) -> Vec<Arc<Pod>> {
        all(&self.by_controller, uid).collect()
    }

    /// How many pods of an owner have not ended.
    pub(crate) fn live_of_controller(&self, uid: &str) -> usize {
        all(&self.by_controller, uid)
            .filter(|pod| !pod.has_ended())
            .count()
    }

    /// How many pods an owner controls.
    pub(crate) fn count_of_controller(&self, uid: &str) -> usize {
        self.by_controller.get(uid).map_or(0, HashSet::len)
    }

    /// Pods that an owner controls, and those of its namespace that nobody controls.
    pub(crate) fn for_owner(&self, uid: &str, namespace: &str) -> Vec<Arc<Pod>> {
        all(&self.by_controller, uid)
            .chain(all(&self.free, namespace))
            .collect()
    }

    /// Pods of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<Arc<Pod>> {
        all(&self.by_namespace, namespace).collect()
    }

    /// Pods bound to a node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Arc<Pod>> {
        all(&self.by_node, node).collect()
    }

    /// How many pods have ended.
    pub(crate) fn ended_count(&self) -> usize {
        self.ended.len()
    }

    /// Pods that have ended.
    pub(crate) fn ended(&self) -> Vec<Arc<Pod>> {
        self.ended.iter().map(|pod| pod.0.clone()).collect()
    }
}

fn insert(group: &mut Group, name: &str, pod: &Arc<Pod>) {
    if let Some(set) = group.get_mut(name) {
        set.insert(Pointer(pod.clone()));
    } else {
        group.insert(name.into(), HashSet::from([Pointer(pod.clone())]));
    }
}

fn remove(group: &mut Group, name: &str, pod: &Arc<Pod>) {
    if let Some(set) = group.get_mut(name) {
        set.remove(&Pointer(pod.clone()));
        if set.is_empty() {
            group.remove(name);
        }
    }
}

fn all<'a>(group: &'a Group, name: &str) -> impl Iterator<Item = Arc<Pod>> + 'a {
    group
        .get(name)
        .into_iter()
        .flatten()
        .map(|pod| pod.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn pod(name: &str, owner: &str, node: &str, phase: &str) -> Arc<Pod> {
        let owners = if owner.is_empty() {
            json!([])
        } else {
            json!([{"uid": owner, "controller": true}])
        };
        Arc::new(Pod::from_object(&json!({
            "metadata": {"namespace": "d", "name": name, "uid": name, "ownerReferences": owners},
            "spec": {"nodeName": node}, "status": {"phase": phase}})))
    }

    fn names(pods: Vec<Arc<Pod>>) -> Vec<String> {
        let mut names: Vec<String> = pods.iter().map(|pod| pod.name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn pods_are_found_by_owner_namespace_and_node_and_leave_nothing_behind() {
        let mut pods = Pods::default();
        let all = [
            pod("a", "rs", "n1", "Running"),
            pod("b", "rs", "", "Failed"),
            pod("c", "", "n1", "Running"),
        ];
        all.iter().for_each(|pod| pods.insert(pod));
        assert_eq!(names(pods.of_controller("rs")), ["a", "b"]);
        assert_eq!(
            (
                pods.live_of_controller("rs"),
                pods.count_of_controller("rs")
            ),
            (1, 2)
        );
        assert_eq!(names(pods.for_owner("rs", "d")), ["a", "b", "c"]);
        assert_eq!(names(pods.for_owner("other", "d")), ["c"]);
        assert_eq!(names(pods.of_namespace("d")), ["a", "b", "c"]);
        assert_eq!(names(pods.on_node("n1")), ["a", "c"]);
        assert_eq!(names(pods.ended()), ["b"]);
        all.iter().for_each(|pod| pods.remove(pod));
        let groups = [
            &pods.by_controller,
            &pods.free,
            &pods.by_namespace,
            &pods.by_node,
        ];
        assert!(groups.iter().all(|group| group.is_empty()) && pods.ended_count() == 0);
    }
}
