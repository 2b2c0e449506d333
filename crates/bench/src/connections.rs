//! `connections`: what silent connections and silent watches cost the API server in memory.
//!
//! The server is `megaplane up` in a process of its own. Connections are opened over TLS and asked one request each;
//! after a while, in which the server gives back what only a busy one needs, its memory is looked at. Then some of them
//! open watches, each of one object, and it is looked at again.

use std::time::Duration;

use bytes::Bytes;
use http2::Event;

use crate::Options;
use crate::plane_process::{Ask, Peer, PlaneProcess, block_on};
use crate::progress::Progress;
use crate::report::Report;

/// Longer than the server waits until it takes a connection for idle.
const QUIET: Duration = Duration::from_secs(12);
/// Connections that open watches, so that a watch is told from a connection.
const WATCHING_MAX: usize = 100;
const WATCHES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

pub fn run(options: &Options) -> Result<Report, String> {
    let mut report = Report::in_memory()
        .count("connections", options.connections)
        .count("streams_per_connection", options.streams);
    for (listener, connection, watch) in [
        ("own", "bytes_per_connection", "bytes_per_watch"),
        (
            "hyper",
            "hyper_bytes_per_connection",
            "hyper_bytes_per_watch",
        ),
    ] {
        let (a_connection, a_watch) = measured(options, listener)?;
        report = report
            .number(connection, a_connection)
            .number(watch, a_watch);
    }
    Ok(report)
}

fn measured(options: &Options, listener: &str) -> Result<(f64, f64), String> {
    let plane = PlaneProcess::start(listener)?;
    block_on(async {
        // Its own threads and tables are warm after the first.
        let mut first = plane.connect().await?;
        ask(&mut first).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = plane.resident_bytes();
        let mut peers = Vec::new();
        let mut progress = Progress::new("connections", options.connections);
        for _ in 0..options.connections {
            let mut peer = plane.connect().await?;
            ask(&mut peer).await?;
            peers.push(peer);
            progress.add(1);
        }
        tokio::time::sleep(QUIET).await;
        let connected = plane.resident_bytes();
        let watching = peers.len().min(WATCHING_MAX);
        for (number, peer) in peers.iter_mut().take(watching).enumerate() {
            watch(peer, number, options.streams).await?;
        }
        tokio::time::sleep(QUIET).await;
        let watched = plane.resident_bytes();
        let each = |grown: u64, count: usize| grown as f64 / count.max(1) as f64;
        Ok((
            each(connected.saturating_sub(before), options.connections),
            each(
                watched.saturating_sub(connected),
                watching * options.streams,
            ),
        ))
    })
}

async fn ask(peer: &mut Peer) -> Result<(), String> {
    let target = "/api/v1/namespaces/default";
    let answer = peer
        .exchange(&Ask {
            method: "GET",
            target,
            body: Bytes::new(),
        })
        .await?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(format!("refused: {}", answer.status))
    }
}

/// Opens watches, each of an object of its own, and waits until they have begun.
async fn watch(peer: &mut Peer, number: usize, streams: usize) -> Result<(), String> {
    for stream in 0..streams {
        let target = format!(
            "{WATCHES}?watch=true&resourceVersion=1&timeoutSeconds=600&fieldSelector=metadata.name%3Dnone-{number}-{stream}"
        );
        peer.ask(&Ask {
            method: "GET",
            target: &target,
            body: Bytes::new(),
        })?;
    }
    let mut begun = 0;
    while begun < streams {
        peer.turn(|event| {
            begun += usize::from(matches!(event, Event::Headers { .. }));
        })
        .await?;
    }
    Ok(())
}
