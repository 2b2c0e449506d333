//! `lease-renewal`: PUT of Leases through the API server's front room, the request that keeps a million nodes alive.
//!
//! Each request is what a kubelet sends: the Lease as the server gave it last, with a new time. Reading and encoding it
//! is the client's work and is not counted; everything from the request to its encoded reply is.

use std::time::Instant;

use bytes::Bytes;
use rest::http::{Method, Reply, Request};
use schema::Resource;

use crate::Options;
use crate::measure::{Samples, Spent, process_cpu_nanos, resident_bytes};
use crate::plane::{Plane, body_of, runtime};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::{encoded, lease, resource, scattered};

/// Requests prepared at a time: 8,192 of 1 KB.
const ROUND_MAX: usize = 8_192;

pub fn run(options: &Options) -> Result<Report, String> {
    let plane = Plane::start()?;
    runtime()?.block_on(renew(&plane, options))
}

async fn renew(plane: &Plane, options: &Options) -> Result<Report, String> {
    let leases = options.nodes;
    let mut bench = Bench {
        plane,
        resource: resource("coordination.k8s.io", "leases")?,
        turn: 0,
        body_bytes: 0,
    };
    bench.create(leases).await?;
    let operations = options.operations.div_ceil(options.runs);
    let place = scattered(leases);
    let mut progress = Progress::new("renewals", operations * (options.runs + 1));
    // Once for the caches, then in earnest.
    bench
        .run(operations.min(leases), leases, &place, &mut progress)
        .await?;
    let (mut cpu, mut rate) = <(Samples, Samples)>::default();
    for _ in 0..options.runs {
        let spent = bench.run(operations, leases, &place, &mut progress).await?;
        cpu.push(spent.cpu_nanos_per(operations) / 1e3);
        rate.push(spent.per_second(operations));
    }
    Ok(Report::in_memory()
        .count("leases", leases)
        .count("operations", operations * options.runs)
        .count("runs", options.runs)
        .count("body_bytes", bench.body_bytes)
        .main("cpu_us_per_op", &cpu)
        .number("per_cpu_second", 1e6 / cpu.median().max(1e-9))
        .median("per_second", &rate)
        .count(
            "rss_bytes",
            usize::try_from(resident_bytes()).unwrap_or(usize::MAX),
        ))
}

struct Bench<'a> {
    plane: &'a Plane,
    resource: &'static Resource,
    turn: usize,
    body_bytes: usize,
}

impl Bench<'_> {
    async fn create(&self, leases: usize) -> Result<(), String> {
        let mut progress = Progress::new("creating Leases", leases);
        for index in 0..leases {
            let body = encoded(self.resource, &lease(index, apiserver::now_micros()))?;
            let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases".to_owned();
            body_of(
                self.plane
                    .call(self.plane.request(Method::Post, path, body))
                    .await,
            )
            .await?;
            progress.add(1);
        }
        Ok(())
    }

    /// Makes so many renewals and gives what the server spent on them.
    async fn run(
        &mut self,
        operations: usize,
        leases: usize,
        place: &impl Fn(usize) -> usize,
        progress: &mut Progress,
    ) -> Result<Spent, String> {
        let mut spent = Spent::default();
        let mut left = operations;
        while left > 0 {
            // No Lease twice in a round: each request needs the version that the one before it made.
            let round = left.min(ROUND_MAX).min(leases);
            let mut requests = Vec::with_capacity(round);
            for _ in 0..round {
                requests.push(self.renewal(place(self.turn)).await?);
                self.turn += 1;
            }
            let mut replies: Vec<Reply> = Vec::with_capacity(round);
            let (begun, cpu) = (Instant::now(), process_cpu_nanos());
            for request in requests {
                replies.push(self.plane.call(request).await);
            }
            spent.add_since(begun, cpu);
            for reply in replies {
                body_of(reply).await?;
            }
            left -= round;
            progress.add(round);
        }
        Ok(spent)
    }

    /// The request that renews one Lease.
    async fn renewal(&mut self, index: usize) -> Result<Request, String> {
        let path = format!(
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}",
            fleet::node_name(index)
        );
        let body = body_of(
            self.plane
                .call(self.plane.request(Method::Get, path.clone(), Bytes::new()))
                .await,
        )
        .await?;
        let unknown = schema::envelope::unwrap(&body).map_err(|error| error.to_string())?;
        let mut lease = schema::decode_protobuf(self.resource.type_id, unknown.raw)
            .map_err(|error| error.to_string())?;
        lease["spec"]["renewTime"] = meta::time::format_micros(apiserver::now_micros()).into();
        let body = encoded(self.resource, &lease)?;
        self.body_bytes = body.len();
        Ok(self.plane.request(Method::Put, path, body))
    }
}
