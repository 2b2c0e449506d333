//! `store-recovery`: how soon a store with nodes, Leases and pods serves again after `kill -9`, over the network.

use std::time::Instant;

use etcd_wire::etcdserverpb as pb;

use crate::Options;
use crate::etcd::fill::fill;
use crate::etcd::server::{Kind, Server};
use crate::etcd::wire::{Done, PUT, RANGE, Wire};
use crate::etcd::{beside, on_runtime};
use crate::report::Report;

/// Kinds, and the bytes of one object of each.
const KINDS: [(&str, usize); 3] = [("minions", 2_600), ("leases", 500), ("pods", 1_400)];

struct Figures {
    fill_per_second: f64,
    seconds: f64,
    cpu_seconds: f64,
    resident_bytes: u64,
    disk_bytes: u64,
}

pub fn run(options: &Options) -> Result<Report, String> {
    let report = Report::default()
        .text("durability", "fsync")
        .count("nodes", options.nodes)
        .count("objects", options.nodes * KINDS.len());
    beside(
        report,
        |kind| measured(options.nodes, kind),
        |report, of, figures| {
            let whole = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
            report
                .number(format!("{of}seconds"), figures.seconds)
                .number(format!("{of}cpu_seconds"), figures.cpu_seconds)
                .count(format!("{of}rss_bytes"), whole(figures.resident_bytes))
                .count(format!("{of}disk_bytes"), whole(figures.disk_bytes))
                .number(format!("{of}written_per_second"), figures.fill_per_second)
        },
        |report, ours, theirs| report.number("etcd_ratio", theirs.seconds / ours.seconds.max(1e-9)),
    )
}

fn measured(nodes: usize, kind: &Kind) -> Result<Figures, String> {
    let mut server = Server::start(kind)?;
    let begun = Instant::now();
    let mut newest = 0;
    on_runtime(async {
        for (name, bytes) in KINDS {
            let put = |number: usize| pb::PutRequest {
                key: format!("/registry/{name}/node-{number:07}").into(),
                value: contents(number, bytes).into(),
                ..Default::default()
            };
            let answered = |done: Done| {
                let reply: pb::PutResponse = done.decode()?;
                newest = newest.max(reply.header.unwrap_or_default().revision);
                Ok(())
            };
            fill(server.port, name, PUT, nodes, put, answered).await?;
        }
        Ok(())
    })?;
    let fill_per_second = (nodes * KINDS.len()) as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    server.kill_and_start()?;
    let seconds = on_runtime(async {
        let mut wire = Wire::connect(server.port).await?;
        let answer = range(&mut wire, KINDS[0].0, nodes - 1).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let header = answer.header.unwrap_or_default();
        if header.revision < newest {
            return Err("a revision comes twice".into());
        }
        for (name, bytes) in KINDS {
            for number in [0, nodes / 2, nodes - 1] {
                let answer = range(&mut wire, name, number).await?;
                let value = answer.kvs.first().map(|kv| &kv.value[..]);
                if value != Some(&contents(number, bytes)[..]) {
                    return Err(format!("{name} {number} is not what was acknowledged"));
                }
            }
            let all = pb::RangeRequest {
                key: format!("/registry/{name}/").into(),
                range_end: format!("/registry/{name}0").into(),
                count_only: true,
                ..Default::default()
            };
            let all: pb::RangeResponse = wire.call(RANGE, &all).await?;
            if all.count != nodes as i64 {
                return Err(format!("{} {name} of {nodes} are there", all.count));
            }
        }
        Ok(seconds)
    })?;
    Ok(Figures {
        fill_per_second,
        seconds,
        cpu_seconds: server.cpu_nanos() as f64 / 1e9,
        resident_bytes: server.resident_bytes(),
        disk_bytes: server.disk_bytes(),
    })
}

async fn range(wire: &mut Wire, name: &str, number: usize) -> Result<pb::RangeResponse, String> {
    let request = pb::RangeRequest {
        key: format!("/registry/{name}/node-{number:07}").into(),
        ..Default::default()
    };
    wire.call(RANGE, &request).await
}

/// Bytes that differ from object to object.
fn contents(number: usize, bytes: usize) -> Vec<u8> {
    let mut contents = vec![(number % 251) as u8; bytes];
    if let Some(head) = contents.get_mut(..8) {
        head.copy_from_slice(&number.to_le_bytes());
    }
    contents
}
