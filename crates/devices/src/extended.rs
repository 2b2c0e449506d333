//! Extended resources that devices stand for (KEP-5004): which class stands for a name, and the claim that a pod needs
//! where no device plugin offers the resource.
//!
//! ```text
//!   example.com/gpu: 2 of container "main" ─► class with that extendedResourceName ─► request "container-0-request-1"
//! ```
//!
//! A container that ends before others begin uses the devices of those that come after it, and asks for more only
//! where these are too few. Knows of pods no more than what their containers ask for; does not know which nodes have
//! the resource.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use meta::Value;
use value::json;

/// Begins the name under which every class can be asked for as a resource; the class's name follows.
pub const CLASS_PREFIX: &str = "deviceclass.resource.kubernetes.io/";

/// What one container asks of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The container's place among init containers and containers, in this order.
    pub container: usize,
    /// Its name.
    pub name: &'a str,
    /// It ends before the next one begins: an init container that is no sidecar.
    pub ends: bool,
    /// The resource's place among all that the container asks for, by name.
    pub place: usize,
    /// The resource.
    pub resource: &'a str,
    /// How many.
    pub count: i64,
}

/// What takes the place of extended resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitute {
    /// `spec` of a ResourceClaim.
    pub spec: Value,
    /// `status.extendedResourceClaimStatus.requestMappings` of the pod.
    pub mappings: Value,
}

/// The claim for those of the resources that `class_of` knows a class for. Requests are sorted by name, mappings by
/// resource, those of containers that end last.
pub fn substitute(asks: &[Ask<'_>], class_of: &dyn Fn(&str) -> Option<Box<str>>) -> Substitute {
    let resources: BTreeSet<&str> = asks.iter().map(|ask| ask.resource).collect();
    let mut requests: Vec<(String, Value)> = Vec::new();
    let mut mappings: Vec<Value> = Vec::new();
    for resource in resources {
        let Some(class) = class_of(resource) else {
            continue;
        };
        let mut own: Vec<Ask<'_>> = asks.to_vec();
        own.retain(|ask| ask.resource == resource && ask.count > 0);
        own.sort_by_key(|ask| ask.container);
        let (wanted, mapped) = share(&own);
        for (name, count) in wanted {
            let exactly =
                json!({"deviceClassName": class, "allocationMode": "ExactCount", "count": count});
            let request = json!({"name": name, "exactly": exactly});
            requests.push((name, request));
        }
        for (container, request) in mapped {
            mappings.push(json!({"containerName": container, "resourceName": resource, "requestName": request}));
        }
    }
    requests.sort_by(|a, b| a.0.cmp(&b.0));
    let requests: Vec<Value> = requests.into_iter().map(|(_, request)| request).collect();
    Substitute {
        spec: json!({"devices": {"requests": requests}}),
        mappings: mappings.into(),
    }
}

type Counted = Vec<(String, i64)>;

/// Requests for one resource with their counts, and which containers use which.
fn share<'a>(asks: &[Ask<'a>]) -> (Counted, Vec<(&'a str, String)>) {
    let name = |ask: &Ask<'_>| format!("container-{}-request-{}", ask.container, ask.place);
    let lasting: Vec<&Ask<'_>> = asks.iter().filter(|ask| !ask.ends).collect();
    let mut requests: Counted = Vec::new();
    let mut mapped: Vec<(&'a str, String)> = Vec::new();
    for ask in asks.iter().filter(|ask| !ask.ends) {
        requests.push((name(ask), ask.count));
        mapped.push((ask.name, name(ask)));
    }
    // One request serves all containers that end: the largest of what they lack.
    let mut largest: Option<(String, i64)> = None;
    let mut short: Vec<(&'a str, Option<String>)> = Vec::new();
    for ask in asks.iter().filter(|ask| ask.ends) {
        let mut lacking = ask.count;
        for later in lasting.iter().filter(|o| o.container >= ask.container) {
            if lacking <= 0 {
                break;
            }
            lacking = lacking.saturating_sub(later.count);
            short.push((ask.name, Some(name(later))));
        }
        if lacking > 0 {
            short.push((ask.name, None));
            if largest.as_ref().is_none_or(|(_, most)| *most < lacking) {
                largest = Some((name(ask), lacking));
            }
        }
    }
    for (container, request) in short {
        let spare = || largest.as_ref().map(|(name, _)| name.clone());
        mapped.extend(request.or_else(spare).map(|request| (container, request)));
    }
    requests.extend(largest);
    (requests, mapped)
}

/// Classes for one resource: the newest first, then by name.
type Classes = BTreeSet<(Reverse<i64>, Box<str>)>;

/// Which class stands for which resource. Of several with one name the newest does, then the first by name (k8s).
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By resource.
    explicit: HashMap<Box<str>, Classes>,
    /// By class.
    of_class: HashMap<Box<str>, (Option<Box<str>>, i64)>,
}

impl Names {
    /// A class came or changed. Gives the resources that something else may stand for now.
    pub(crate) fn note(
        &mut self,
        class: &str,
        resource: Option<&str>,
        made_micros: i64,
    ) -> Vec<Box<str>> {
        let known = self.of_class.get(class);
        if known.is_some_and(|(r, made)| r.as_deref() == resource && *made == made_micros) {
            return Vec::new();
        }
        let mut changed = self.forget(class);
        if let Some(resource) = resource {
            let classes = self.explicit.entry(resource.into()).or_default();
            classes.insert((Reverse(made_micros), class.into()));
            changed.push(resource.into());
        }
        let entry = (resource.map(Into::into), made_micros);
        self.of_class.insert(class.into(), entry);
        changed.push(implicit(class));
        changed
    }

    /// The same of a class that is gone.
    pub(crate) fn forget(&mut self, class: &str) -> Vec<Box<str>> {
        let Some((resource, made)) = self.of_class.remove(class) else {
            return Vec::new();
        };
        let mut changed = vec![implicit(class)];
        if let Some(resource) = resource {
            if let Some(classes) = self.explicit.get_mut(&resource) {
                classes.remove(&(Reverse(made), class.into()));
                if classes.is_empty() {
                    self.explicit.remove(&resource);
                }
            }
            changed.push(resource);
        }
        changed
    }

    /// The class that stands for a resource.
    pub(crate) fn class_for(&self, resource: &str) -> Option<&str> {
        if let Some(class) = resource.strip_prefix(CLASS_PREFIX) {
            return self.of_class.get_key_value(class).map(|(name, _)| &**name);
        }
        let classes = self.explicit.get(resource)?;
        classes.first().map(|(_, class)| &**class)
    }
}

fn implicit(class: &str) -> Box<str> {
    format!("{CLASS_PREFIX}{class}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(container: usize, name: &'static str, ends: bool, count: i64) -> Ask<'static> {
        Ask {
            container,
            name,
            ends,
            place: 1,
            resource: "example.com/gpu",
            count,
        }
    }

    /// Requests as `name=count`, mappings as `container>request`.
    fn text(asks: &[Ask<'_>]) -> String {
        let made = substitute(asks, &|_| Some("gpu".into()));
        let requests = made.spec["devices"]["requests"].as_array().unwrap();
        let requests = requests.iter().map(|request| {
            let name = request["name"].as_str().unwrap();
            format!("{name}={}", request["exactly"]["count"])
        });
        let mappings = made.mappings.as_array().unwrap().iter();
        let mappings = mappings.map(|one| {
            let field = |field: &str| one[field].as_str().unwrap().to_owned();
            format!("{}>{}", field("containerName"), field("requestName"))
        });
        let all: Vec<String> = requests.chain(mappings).collect();
        all.join(" ")
            .replace("container-", "c")
            .replace("-request-", "r")
    }

    #[test]
    fn each_container_has_a_request_of_its_own() {
        let asks = [ask(0, "a", false, 2), ask(1, "b", false, 1)];
        assert_eq!(text(&asks), "c0r1=2 c1r1=1 a>c0r1 b>c1r1");
        let made = substitute(&asks[..1], &|_| Some("gpu".into()));
        assert_eq!(
            made.spec,
            json!({"devices": {"requests": [{"name": "container-0-request-1", "exactly":
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}]}})
        );
        assert_eq!(
            made.mappings,
            json!([{"containerName": "a", "resourceName": "example.com/gpu", "requestName": "container-0-request-1"}])
        );
        // Names are sorted as text, as upstream's are.
        let many = [ask(2, "c", false, 1), ask(10, "k", false, 1)];
        assert_eq!(text(&many), "c10r1=1 c2r1=1 c>c2r1 k>c10r1");
    }

    #[test]
    fn containers_that_end_use_what_comes_after_them() {
        let enough = [ask(0, "init", true, 2), ask(1, "main", false, 3)];
        assert_eq!(text(&enough), "c1r1=3 main>c1r1 init>c1r1");
        let lacking = [ask(0, "init", true, 5), ask(1, "main", false, 3)];
        assert_eq!(
            text(&lacking),
            "c0r1=2 c1r1=3 main>c1r1 init>c1r1 init>c0r1"
        );
        // Of two that lack something the larger has the request, and both use it.
        let two = [
            ask(0, "one", true, 4),
            ask(1, "two", true, 5),
            ask(2, "main", false, 3),
        ];
        assert_eq!(
            text(&two),
            "c1r1=2 c2r1=3 main>c2r1 one>c2r1 one>c1r1 two>c2r1 two>c1r1"
        );
        // A sidecar before it keeps its devices.
        let side = [
            ask(0, "side", false, 1),
            ask(1, "init", true, 2),
            ask(2, "main", false, 1),
        ];
        assert_eq!(
            text(&side),
            "c0r1=1 c1r1=1 c2r1=1 side>c0r1 main>c2r1 init>c2r1 init>c1r1"
        );
    }

    #[test]
    fn resources_without_a_class_are_left_out() {
        let mut other = ask(0, "a", false, 2);
        other.resource = "example.com/nic";
        let asks = [ask(0, "a", false, 1), other];
        let nic = |resource: &str| (resource == "example.com/nic").then(|| "nic".into());
        let made = substitute(&asks, &nic);
        let requests = made.spec["devices"]["requests"].as_array().unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0]["exactly"]["deviceClassName"], "nic");
    }

    #[test]
    fn the_newest_class_stands_for_a_name() {
        let mut names = Names::default();
        let gpu = Some("example.com/gpu");
        let text = |changed: Vec<Box<str>>| changed.join(" ");
        let implicit = |class: &str| format!("deviceclass.resource.kubernetes.io/{class}");
        assert_eq!(
            text(names.note("b", gpu, 5)),
            format!("example.com/gpu {}", implicit("b"))
        );
        assert_eq!(text(names.note("b", gpu, 5)), "");
        names.note("c", gpu, 5);
        assert_eq!(names.class_for("example.com/gpu"), Some("b"));
        names.note("a", gpu, 9);
        assert_eq!(names.class_for("example.com/gpu"), Some("a"));
        assert_eq!(names.class_for(&implicit("c")), Some("c"));
        assert_eq!(names.class_for(&implicit("d")), None);
        names.note("a", None, 9);
        assert_eq!(names.class_for("example.com/gpu"), Some("b"));
        assert_eq!(names.class_for(&implicit("a")), Some("a"));
        names.forget("b");
        assert_eq!(names.class_for("example.com/gpu"), Some("c"));
        names.forget("c");
        assert_eq!(names.class_for("example.com/gpu"), None);
        assert_eq!(names.class_for(&implicit("c")), None);
    }
}
