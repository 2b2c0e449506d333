//! `lease-wire`: what a renewal costs the API server over HTTP/2 and TLS, by our own codec and by hyper.
//!
//! The server is `megaplane up` in a process of its own. Each connection is a kubelet that renews its Lease, gets the
//! answer, and renews again with the version it was given; `--streams` of them share a connection.

use std::time::Instant;

use bytes::Bytes;
use schema::{FieldReader, Resource};

use crate::Options;
use crate::measure::Samples;
use crate::plane_process::{Ask, Peer, PlaneProcess, block_on};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::{encoded, lease, resource};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

pub fn run(options: &Options) -> Result<Report, String> {
    let own = measured(options, "own")?;
    let hyper = measured(options, "hyper")?;
    Ok(Report::in_memory()
        .count("connections", options.connections)
        .count("streams_per_connection", options.streams)
        .count("operations", options.operations)
        .count("runs", options.runs)
        .main("cpu_us_per_op", &own.cpu_micros)
        .median("per_second", &own.rate)
        .main("hyper_cpu_us_per_op", &hyper.cpu_micros)
        .median("hyper_per_second", &hyper.rate)
        .number(
            "hyper_cpu_ratio",
            hyper.cpu_micros.median() / own.cpu_micros.median().max(1e-9),
        ))
}

#[derive(Default)]
struct Figures {
    cpu_micros: Samples,
    rate: Samples,
}

fn measured(options: &Options, listener: &str) -> Result<Figures, String> {
    let plane = PlaneProcess::start(listener)?;
    block_on(async {
        let mut kubelets = Vec::new();
        for number in 0..options.connections {
            kubelets.push(Kubelets::open(&plane, number, options.streams).await?);
        }
        let mut figures = Figures::default();
        let rounds = options
            .operations
            .div_ceil(options.connections * options.streams)
            .max(1);
        let operations = rounds * options.connections * options.streams;
        let mut progress = Progress::new("renewals", operations * (options.runs + 1));
        let mut is_warm = false;
        for _ in 0..=options.runs {
            let (begun, cpu) = (Instant::now(), plane.cpu_nanos());
            let mut tasks = Vec::new();
            for mut one in kubelets.drain(..) {
                tasks.push(tokio::spawn(async move {
                    for _ in 0..rounds {
                        one.renew().await?;
                    }
                    Ok::<_, String>(one)
                }));
            }
            for task in tasks {
                kubelets.push(task.await.map_err(|error| error.to_string())??);
            }
            let cpu = plane.cpu_nanos().saturating_sub(cpu);
            let seconds = begun.elapsed().as_secs_f64();
            progress.add(operations);
            // Once for the caches, then in earnest.
            if std::mem::replace(&mut is_warm, true) {
                figures
                    .cpu_micros
                    .push(cpu as f64 / 1e3 / operations as f64);
                figures.rate.push(operations as f64 / seconds.max(1e-9));
            }
        }
        Ok(figures)
    })
}

/// Kubelets that share a connection.
struct Kubelets {
    peer: Peer,
    resource: &'static Resource,
    version: FieldReader,
    leases: Vec<Lease>,
}

struct Lease {
    index: usize,
    target: String,
    version: String,
}

impl Kubelets {
    async fn open(plane: &PlaneProcess, number: usize, streams: usize) -> Result<Kubelets, String> {
        let resource = resource("coordination.k8s.io", "leases")?;
        let version = FieldReader::compile(resource.type_id, "metadata.resourceVersion")
            .ok_or("Leases have no version")?;
        let mut peer = plane.connect().await?;
        let mut leases = Vec::new();
        for stream in 0..streams {
            let index = number * streams + stream;
            let body = encoded(resource, &unowned(index, apiserver::now_micros()))?;
            let answer = peer
                .exchange(&Ask {
                    method: "POST",
                    target: LEASES,
                    body,
                })
                .await?;
            if answer.status != 201 {
                return Err(format!("a Lease was refused: {}", answer.status));
            }
            leases.push(Lease {
                index,
                target: format!("{LEASES}/{}", fleet::node_name(index)),
                version: version_of(&version, &answer.body)?,
            });
        }
        Ok(Kubelets {
            peer,
            resource,
            version,
            leases,
        })
    }

    /// Renews all Leases of this connection at once.
    async fn renew(&mut self) -> Result<(), String> {
        let now = apiserver::now_micros();
        let mut asks = Vec::with_capacity(self.leases.len());
        for of in &self.leases {
            let mut object = unowned(of.index, now);
            object["metadata"]["resourceVersion"] = of.version.as_str().into();
            let body = encoded(self.resource, &object)?;
            asks.push(Ask {
                method: "PUT",
                target: &of.target,
                body,
            });
        }
        let answers = self.peer.exchange_all(&asks).await?;
        drop(asks);
        for (answer, of) in answers.iter().zip(&mut self.leases) {
            if answer.status != 200 {
                let text = String::from_utf8_lossy(&answer.body);
                return Err(format!("a renewal was refused: {} {text}", answer.status));
            }
            of.version = version_of(&self.version, &answer.body)?;
        }
        Ok(())
    }
}

/// A Lease without its Node: here is none, and what an owner that is not there owns is collected.
fn unowned(index: usize, now_micros: i64) -> meta::Value {
    let mut lease = lease(index, now_micros);
    if let Some(metadata) = lease["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
    }
    lease
}

fn version_of(reader: &FieldReader, body: &Bytes) -> Result<String, String> {
    let unknown = schema::envelope::unwrap(body).map_err(|error| error.to_string())?;
    let version = reader
        .read_str(unknown.raw)
        .ok_or("an answer has no version")?;
    Ok(version.into_owned())
}
