//! Cluster addresses and node ports of Services: who has which, and the next free one.
//!
//! A table in memory, filled from the stored Services at start. Knows nothing of how a Service is stored; a caller
//! reserves, writes, and gives back what a failed write or a delete leaves over.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meta::{ApiError, FieldError, FieldPath, Value};
use value::json;

/// First and last node port (k8s `--service-node-port-range`).
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// The address range of Services (k8s `--service-cluster-ip-range`), `10.96.0.0/12` by default.
#[derive(Debug, Clone, Copy)]
pub struct ServiceRange {
    first: u32,
    count: u32,
}

impl Default for ServiceRange {
    fn default() -> ServiceRange {
        ServiceRange {
            first: u32::from(Ipv4Addr::new(10, 96, 0, 0)),
            count: 1 << 20,
        }
    }
}

impl ServiceRange {
    /// The address of the `kubernetes` service: the first one that can be used.
    #[must_use]
    pub fn api_server(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.first + 1)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.first);
        offset > 0 && offset < self.count - 1
    }
}

/// What one Service holds, or is about to hold.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Holding {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Holding {
    /// What a Service object holds.
    #[must_use]
    pub fn of(service: &Value) -> Holding {
        let spec = &service["spec"];
        let mut addresses: Vec<Ipv4Addr> = spec["clusterIPs"]
            .as_array()
            .into_iter()
            .flatten()
            .chain([&spec["clusterIP"]])
            .filter_map(|address| address.as_str()?.parse().ok())
            .collect();
        addresses.sort();
        addresses.dedup();
        let mut ports: Vec<u16> = spec["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|port| &port["nodePort"])
            .chain([&spec["healthCheckNodePort"]])
            .filter_map(|port| u16::try_from(port.as_u64()?).ok())
            .filter(|port| *port != 0)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Holding { addresses, ports }
    }

    /// What `self` has and `other` has not.
    #[must_use]
    pub fn without(mut self, other: &Holding) -> Holding {
        self.addresses
            .retain(|address| !other.addresses.contains(address));
        self.ports.retain(|port| !other.ports.contains(port));
        self
    }
}

/// The table of taken addresses and ports.
#[derive(Debug, Default)]
pub struct Allocator {
    range: ServiceRange,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
    next_address: u32,
    next_port: u16,
}

impl Allocator {
    /// The range addresses come from.
    #[must_use]
    pub fn range(&self) -> ServiceRange {
        self.range
    }

    /// Notes what a stored Service holds.
    pub fn note(&self, holding: &Holding) {
        let mut taken = self.lock();
        taken.addresses.extend(&holding.addresses);
        taken.ports.extend(&holding.ports);
    }

    /// Gives back what is no longer held.
    pub fn release(&self, holding: &Holding) {
        let mut taken = self.lock();
        for address in &holding.addresses {
            taken.addresses.remove(address);
        }
        for port in &holding.ports {
            taken.ports.remove(port);
        }
    }

    /// Fills in the addresses and ports that `service` needs and does not name, and reserves those it names.
    /// `before` is what the stored Service holds already. Returns what was newly reserved.
    pub fn assign(&self, service: &mut Value, before: &Holding) -> Result<Holding, ApiError> {
        let mut taken = self.lock();
        let mut new = Holding::default();
        let name = meta::object::name(service).to_owned();
        let result = self
            .assign_addresses(&mut taken, service, before, &mut new)
            .and_then(|()| assign_ports(&mut taken, service, before, &mut new));
        if let Err(error) = result {
            for address in &new.addresses {
                taken.addresses.remove(address);
            }
            for port in &new.ports {
                taken.ports.remove(port);
            }
            return Err(ApiError::invalid("", "Service", &name, vec![error]));
        }
        Ok(new)
    }

    fn assign_addresses(
        &self,
        taken: &mut Taken,
        service: &mut Value,
        before: &Holding,
        new: &mut Holding,
    ) -> Result<(), FieldError> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        let asked = spec["clusterIP"]
            .as_str()
            .or_else(|| spec["clusterIPs"][0].as_str())
            .unwrap_or_default();
        if asked == "None" {
            spec["clusterIPs"] = json!(["None"]);
            spec["clusterIP"] = "None".into();
            return Ok(());
        }
        let path = FieldPath::new("spec").child("clusterIPs");
        let address = if asked.is_empty() {
            let Some(address) = self.free_address(taken) else {
                return Err(FieldError::invalid(
                    &path,
                    json!([]),
                    "failed to allocate a serviceIP: range is full",
                ));
            };
            address
        } else {
            let invalid = |detail: &str| {
                let detail = format!("failed to allocate IP {asked}: {detail}");
                FieldError::invalid(&path, json!([asked]), detail)
            };
            let address: Ipv4Addr = asked
                .parse()
                .map_err(|_| invalid("not a valid IPv4 address"))?;
            if !before.addresses.contains(&address) {
                if !self.range.contains(address) {
                    let low = Ipv4Addr::from(self.range.first);
                    let bits = 32 - self.range.count.trailing_zeros();
                    return Err(invalid(&format!(
                        "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {low}/{bits}"
                    )));
                }
                if taken.addresses.contains(&address) {
                    return Err(invalid("provided IP is already allocated"));
                }
            }
            address
        };
        if taken.addresses.insert(address) {
            new.addresses.push(address);
        }
        let text = address.to_string();
        spec["clusterIPs"] = json!([text]);
        spec["clusterIP"] = text.into();
        if spec["ipFamilies"].is_null() {
            spec["ipFamilies"] = json!(["IPv4"]);
        }
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "SingleStack".into();
        }
        Ok(())
    }

    fn free_address(&self, taken: &mut Taken) -> Option<Ipv4Addr> {
        // Offsets 0 and the last are the network's own; the low ones are left to those who ask by name.
        let usable = self.range.count - 2;
        for _ in 0..usable {
            taken.next_address = if taken.next_address >= usable {
                1
            } else {
                taken.next_address + 1
            };
            let address = Ipv4Addr::from(self.range.first + taken.next_address);
            if taken.next_address > 256.min(usable / 2) && !taken.addresses.contains(&address) {
                return Some(address);
            }
        }
        (1..=usable)
            .map(|offset| Ipv4Addr::from(self.range.first + offset))
            .find(|a| !taken.addresses.contains(a))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn assign_ports(
    taken: &mut Taken,
    service: &mut Value,
    before: &Holding,
    new: &mut Holding,
) -> Result<(), FieldError> {
    let spec = &mut service["spec"];
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let wanted = kind == "NodePort"
        || kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false;
    // A load balancer that keeps client addresses asks the nodes which of them has a backend.
    if kind == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local" {
        let path = FieldPath::new("spec").child("healthCheckNodePort");
        if let Some(port) = assign_port(
            taken,
            &spec["healthCheckNodePort"],
            true,
            &path,
            before,
            new,
        )? {
            spec["healthCheckNodePort"] = port.into();
        }
    }
    let Some(ports) = spec["ports"].as_array_mut() else {
        return Ok(());
    };
    for (index, port) in ports.iter_mut().enumerate() {
        let path = FieldPath::new("spec")
            .child("ports")
            .index(index)
            .child("nodePort");
        if let Some(free) = assign_port(taken, &port["nodePort"], wanted, &path, before, new)? {
            port["nodePort"] = free.into();
        }
    }
    Ok(())
}

/// Reserves one port: the one that is asked for, or a free one, which it gives, if one is wanted.
fn assign_port(
    taken: &mut Taken,
    port: &Value,
    wanted: bool,
    path: &FieldPath,
    before: &Holding,
    new: &mut Holding,
) -> Result<Option<u16>, FieldError> {
    let asked = port.as_u64().unwrap_or(0);
    if asked == 0 {
        if !wanted {
            return Ok(None);
        }
        let Some(free) = free_port(taken) else {
            return Err(FieldError::invalid(
                path,
                json!(0),
                "failed to allocate a nodePort: range is full",
            ));
        };
        taken.ports.insert(free);
        new.ports.push(free);
        return Ok(Some(free));
    }
    let Some(number) = u16::try_from(asked)
        .ok()
        .filter(|number| NODE_PORTS.contains(number))
    else {
        let (low, high) = (NODE_PORTS.start(), NODE_PORTS.end());
        let detail = format!(
            "provided port is not in the valid range. The range of valid ports is {low}-{high}"
        );
        return Err(FieldError::invalid(path, json!(asked), detail));
    };
    // One number may serve several protocols of one Service.
    if before.ports.contains(&number) || new.ports.contains(&number) {
        return Ok(None);
    }
    if !taken.ports.insert(number) {
        return Err(FieldError::invalid(
            path,
            json!(asked),
            "provided port is already allocated",
        ));
    }
    new.ports.push(number);
    Ok(None)
}

fn free_port(taken: &mut Taken) -> Option<u16> {
    let span = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    for _ in 0..span {
        taken.next_port = (taken.next_port + 1) % span;
        let port = NODE_PORTS.start() + taken.next_port;
        if !taken.ports.contains(&port) {
            return Some(port);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "s"}, "spec": spec})
    }

    #[test]
    fn addresses_are_given_once_and_can_be_asked_for_by_name() {
        let allocator = Allocator::default();
        let mut first = service(json!({"type": "ClusterIP"}));
        let held = allocator.assign(&mut first, &Holding::default()).unwrap();
        let address = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(address.starts_with("10.96."));
        let mut second = service(json!({"type": "ClusterIP", "clusterIP": address}));
        let error = allocator
            .assign(&mut second, &Holding::default())
            .unwrap_err();
        assert_eq!(
            error.message,
            format!(
                "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP \
                 {address}: provided IP is already allocated"
            )
        );
        allocator.release(&held);
        allocator.assign(&mut second, &Holding::default()).unwrap();
        let mut outside = service(json!({"clusterIP": "192.0.2.1"}));
        assert_eq!(
            allocator
                .assign(&mut outside, &Holding::default())
                .unwrap_err()
                .code,
            422
        );
    }

    #[test]
    fn headless_and_external_services_get_no_address() {
        let allocator = Allocator::default();
        let mut headless = service(json!({"clusterIP": "None"}));
        assert_eq!(
            allocator
                .assign(&mut headless, &Holding::default())
                .unwrap(),
            Holding::default()
        );
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let mut external = service(json!({"type": "ExternalName"}));
        assert_eq!(
            allocator
                .assign(&mut external, &Holding::default())
                .unwrap(),
            Holding::default()
        );
    }

    #[test]
    fn health_check_ports_come_from_the_same_table() {
        let allocator = Allocator::default();
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]});
        let mut first = service(local.clone());
        allocator.assign(&mut first, &Holding::default()).unwrap();
        let port = first["spec"]["healthCheckNodePort"].as_u64().unwrap();
        assert_ne!(first["spec"]["ports"][0]["nodePort"], port);
        let mut second = service(local);
        second["spec"]["healthCheckNodePort"] = port.into();
        let error = allocator
            .assign(&mut second, &Holding::default())
            .unwrap_err();
        assert!(
            error.message.contains("provided port is already allocated"),
            "{}",
            error.message
        );
        // What was refused gives nothing of the first one back.
        assert!(
            allocator
                .lock()
                .ports
                .contains(&u16::try_from(port).unwrap())
        );
    }

    #[test]
    fn node_ports_stay_in_range_and_a_refused_service_keeps_nothing() {
        let allocator = Allocator::default();
        let mut wrong = service(
            json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 80}]}),
        );
        assert_eq!(
            allocator
                .assign(&mut wrong, &Holding::default())
                .unwrap_err()
                .code,
            422
        );
        assert!(allocator.lock().ports.is_empty() && allocator.lock().addresses.is_empty());
        let mut right = service(
            json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 30080}]}),
        );
        let held = allocator.assign(&mut right, &Holding::default()).unwrap();
        assert_eq!(held.ports.len(), 2);
        let before = Holding::of(&right);
        assert_eq!(
            allocator.assign(&mut right, &before).unwrap(),
            Holding::default()
        );
    }
}
