//! Load in a closed loop: connections with streams that each write their own key as soon as the write before is
//! answered, and watchers.
//!
//! Knows no server: whatever speaks etcd's API on the port is loaded.

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::etcd::wire::{Done, PUT, TXN, Wire};

/// Where the keys of all shapes are.
pub const PREFIX: &str = "/registry/leases/";
/// The end of that range.
const PREFIX_END: &str = "/registry/leases0";
/// Rounds a writer can be told to make before it has made the last.
const ROUNDS_WAITING_MAX: usize = 1;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As kube-apiserver updates: compare the revision, put 650 B, else read.
    Kubernetes,
    /// As etcd's own tool puts: 48 B keys, 1 KiB values.
    Put,
    /// Puts of 300 B on a thousand keys, again and again.
    LeaseFlood,
}

impl Form {
    pub const ALL: [(&str, Form); 3] = [
        ("kubernetes", Form::Kubernetes),
        ("put", Form::Put),
        ("lease-flood", Form::LeaseFlood),
    ];

    pub fn value_bytes(self) -> usize {
        match self {
            Form::Kubernetes => 650,
            Form::Put => 1 << 10,
            Form::LeaseFlood => 300,
        }
    }

    /// Watchers of the kind that Kubernetes would have.
    pub fn watchers(self) -> usize {
        match self {
            Form::Kubernetes => 5,
            Form::Put | Form::LeaseFlood => 0,
        }
    }

    /// The key of a stream, and of the round it is in.
    fn key(self, connection: usize, stream: usize, round: usize) -> Bytes {
        match self {
            Form::Kubernetes => {
                format!("{PREFIX}kube-node-lease/node-{connection:04}-{stream:04}").into()
            }
            // 48 bytes.
            Form::Put => format!("{PREFIX}{connection:04}-{stream:04}-{round:021}").into(),
            Form::LeaseFlood => {
                format!("{PREFIX}lease-{:04}", (connection * 131 + stream) % 1_000).into()
            }
        }
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub form: Form,
    pub connections: usize,
    pub streams: usize,
    pub operations: usize,
}

/// Open connections.
pub struct Load {
    writers: Vec<Remote>,
    watchers: Vec<JoinHandle<String>>,
}

/// A writer on a task.
struct Remote {
    rounds: mpsc::Sender<usize>,
    results: mpsc::Receiver<Result<Vec<u32>, String>>,
}

impl Load {
    /// Connects the watchers, then the writers.
    pub async fn open(port: u16, shape: Shape) -> Result<Load, String> {
        let mut watchers = Vec::new();
        for _ in 0..shape.form.watchers() {
            let mut wire = Wire::connect(port).await?;
            wire.watch(whole_kind())?;
            // It is told that it is there.
            while wire.watched().await? == 0 {}
            watchers.push(tokio::spawn(async move {
                loop {
                    if let Err(error) = wire.watched().await {
                        return error;
                    }
                }
            }));
        }
        let mut writers = Vec::new();
        for number in 0..shape.connections {
            let mut writer = Writer::open(port, number, shape).await?;
            let (rounds, mut asked) = mpsc::channel(ROUNDS_WAITING_MAX);
            let (answer, results) = mpsc::channel(ROUNDS_WAITING_MAX);
            tokio::spawn(async move {
                while let Some(operations) = asked.recv().await {
                    if answer.send(writer.run(operations).await).await.is_err() {
                        return;
                    }
                }
            });
            writers.push(Remote { rounds, results });
        }
        Ok(Load { writers, watchers })
    }

    /// Makes so many writes in all; answers how long each took, in microseconds.
    pub async fn run(&mut self, operations: usize) -> Result<Vec<u32>, String> {
        let each = operations.div_ceil(self.writers.len().max(1));
        let gone = || "a writer has ended".to_owned();
        for writer in &self.writers {
            writer.rounds.send(each).await.map_err(|_| gone())?;
        }
        let mut all = Vec::with_capacity(operations);
        for writer in &mut self.writers {
            all.extend(writer.results.recv().await.ok_or_else(gone)??);
        }
        match self.watchers.iter().find(|watcher| watcher.is_finished()) {
            Some(_) => Err("a watcher has ended".into()),
            None => Ok(all),
        }
    }
}

/// A watch of all keys of the load.
pub fn whole_kind() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        ..Default::default()
    }
}

/// A connection whose streams write.
struct Writer {
    wire: Wire,
    form: Form,
    number: usize,
    /// The revision that each stream left its key at, and its rounds.
    streams: Vec<(i64, usize)>,
    value: Bytes,
}

impl Writer {
    async fn open(port: u16, number: usize, shape: Shape) -> Result<Writer, String> {
        Ok(Writer {
            wire: Wire::connect(port).await?,
            form: shape.form,
            number,
            streams: vec![(0, 0); shape.streams],
            value: vec![7; shape.form.value_bytes()].into(),
        })
    }

    /// Keeps every stream busy until so many writes are done.
    async fn run(&mut self, operations: usize) -> Result<Vec<u32>, String> {
        let mut times = Vec::with_capacity(operations);
        let mut begun = 0;
        while begun < operations.min(self.streams.len()) {
            self.begin(begun)?;
            begun += 1;
        }
        let mut answered = Vec::new();
        while times.len() < operations {
            self.wire.answered(&mut answered).await?;
            for done in answered.drain(..) {
                times.push(done.micros);
                let stream = done.tag;
                self.done(done)?;
                if begun < operations {
                    self.begin(stream)?;
                    begun += 1;
                }
            }
        }
        Ok(times)
    }

    fn begin(&mut self, stream: usize) -> Result<(), String> {
        let Some((revision, round)) = self.streams.get(stream).copied() else {
            return Ok(());
        };
        let key = self.form.key(self.number, stream, round);
        let put = pb::PutRequest {
            key: key.clone(),
            value: self.value.clone(),
            ..Default::default()
        };
        if self.form != Form::Kubernetes {
            return self.wire.begin(stream, PUT, &put);
        }
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        };
        let get = pb::RangeRequest {
            key,
            ..Default::default()
        };
        let op = |request| {
            vec![pb::RequestOp {
                request: Some(request),
            }]
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: op(Request::RequestPut(put)),
            failure: op(Request::RequestRange(get)),
        };
        self.wire.begin(stream, TXN, &request)
    }

    fn done(&mut self, done: Done) -> Result<(), String> {
        let tag = done.tag;
        let revision = if self.form == Form::Kubernetes {
            let reply: pb::TxnResponse = done.decode()?;
            if !reply.succeeded {
                return Err("a key was not at the revision it was left at".into());
            }
            reply.header.map_or(0, |header| header.revision)
        } else {
            let reply: pb::PutResponse = done.decode()?;
            reply.header.map_or(0, |header| header.revision)
        };
        if let Some(stream) = self.streams.get_mut(tag) {
            *stream = (revision, stream.1 + 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_length_they_are_said_to_have() {
        assert_eq!(Form::Put.key(3, 4, 5).len(), 48);
        assert_ne!(Form::Put.key(3, 4, 5), Form::Put.key(3, 4, 6));
        assert_eq!(Form::Kubernetes.key(3, 4, 5), Form::Kubernetes.key(3, 4, 6));
        let keys: std::collections::BTreeSet<_> = (0..40)
            .flat_map(|connection| (0..50).map(move |stream| (connection, stream)))
            .map(|(connection, stream)| Form::LeaseFlood.key(connection, stream, 0))
            .collect();
        assert_eq!(keys.len(), 1_000);
    }
}
