//! `watches`: what watches of single objects cost while nothing happens, and how fast they tell what does.
//!
//! ```text
//!   idle    --nodes watches, each of one node's pods as a kubelet keeps it, shared by --connections connections
//!   single  --operations patches of pods at --rate a second: each is news for one of the watches
//!   kind    1,000 watches of all ConfigMaps; patches of one of them, so that they get --rate events a second together
//! ```
//!
//! The server is `megaplane up` in a process of its own, the client this process with our own codec over TLS. An event's
//! latency runs from when the client has read the reply of the write, which is sent when the write is visible, to when it
//! has read the event. Both are read by one thread, in whatever order they come: an event that is read first counts as 0.
//! The longer time, from the request, has no such cut and is reported beside it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http2::{Event, StreamId};
use tokio::task::JoinSet;

use crate::Options;
use crate::descriptors::Room;
use crate::event_cutter::{EventCutter, Kind};
use crate::plane_process::{Ask, Dialer, Peer, PlaneProcess, Setup, block_on};
use crate::progress::Progress;
use crate::report::Report;
use crate::spread::Spread;
use crate::targets;

/// Longer than the server waits until it takes a connection for idle.
const QUIET: Duration = Duration::from_secs(12);
/// Below so many watches the memory of one is lost in that of the process, and nobody waits for it.
const MEASURED_WATCHES_MIN: usize = 1_000;
const QUIET_SMALL: Duration = Duration::from_millis(500);
/// Watches that one connection may hold (`docs/limits.md`), with room for a request.
const WATCHES_A_CONNECTION_MAX: usize = 900;
/// Connections that are opened at a time: handshakes of more would only wait for each other.
const OPENING_MAX: usize = 32;
/// Pods that are written to, in turn.
const TARGETS_MAX: usize = 1_000;
const WRITERS: usize = 4;
/// Requests that a writer has under way: below the streams that a connection may have.
const WRITES_IN_FLIGHT_MAX: usize = 200;
const TICK: Duration = Duration::from_millis(2);
/// Watches of the whole kind, and connections they share.
const KIND_WATCHES: usize = 1_000;
const KIND_CONNECTIONS: usize = 100;
const KIND_WRITES_MAX: usize = 100_000;
/// When nothing came for so long, nothing more will.
const STALL_MAX: Duration = Duration::from_secs(30);

const MAP: &str = "/api/v1/namespaces/default/configmaps/bench-watched";

pub fn run(options: &Options) -> Result<Report, String> {
    let needed = options.nodes.div_ceil(WATCHES_A_CONNECTION_MAX);
    let room = Room::take(options.connections.min(options.nodes));
    if room.connections < needed {
        return Err(format!(
            "{} watches need at least {needed} connections, and there are {}: ask for more --connections, or for fewer \
             --nodes",
            options.nodes, room.connections
        ));
    }
    let plane = PlaneProcess::start_as(Setup {
        listener: "own",
        is_durable: false,
        schedules: false,
    })?;
    let report = Report::in_memory()
        .count("watches", options.nodes)
        .count("connections", room.connections)
        .text(
            "connections_limited_by",
            room.limited_by.as_deref().unwrap_or("nothing"),
        )
        .count("operations", options.operations)
        .count("rate_asked", options.rate);
    block_on(measured(options, room.connections, &plane, report))
}

async fn measured(
    options: &Options,
    connections: usize,
    plane: &PlaneProcess,
    report: Report,
) -> Result<Report, String> {
    let count = options.nodes.min(TARGETS_MAX);
    let mut first = plane.connect().await?;
    let version = targets::create(&mut first, count).await?;
    let board = Arc::new(Board::new(count));
    let (mut report, _idle) =
        idle(options.nodes, connections, plane, version, &board, report).await?;

    let cpu = plane.cpu_nanos();
    let begun = Instant::now();
    single(options, plane, &board).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = plane.cpu_nanos().saturating_sub(cpu) as f64 / 1e3;
    let done = board.lock().after_reply.len();
    report = report
        .count("single_events", done)
        .number("single_events_per_second", done as f64 / seconds.max(1e-9))
        .number("single_server_cpu_us_per_event", cpu / done.max(1) as f64);
    report = board
        .lock()
        .after_reply
        .report(report, "single_after_reply");
    report = board
        .lock()
        .after_request
        .report(report, "single_after_request");
    report = report.count("watches_broken", board.lock().broken);
    kind(options, plane, connections, report).await
}

/// Opens connections and then watches, and looks at the memory that each took. The connections are read until the tasks
/// are dropped.
async fn idle(
    watches: usize,
    connections: usize,
    plane: &PlaneProcess,
    version: i64,
    board: &Arc<Board>,
    report: Report,
) -> Result<(Report, JoinSet<()>), String> {
    let quiet = if watches < MEASURED_WATCHES_MIN {
        QUIET_SMALL
    } else {
        QUIET
    };
    let before = plane.resident_bytes();
    let mut peers = connect_all(plane.dialer(), connections).await?;
    rest(&mut peers, quiet).await?;
    let connected = plane.resident_bytes();

    let (begun, cpu) = (Instant::now(), plane.cpu_nanos());
    let mut readers = JoinSet::new();
    let mut opening = JoinSet::new();
    let mut progress = Progress::new("watches", watches);
    for (number, mut peer) in peers.into_iter().enumerate() {
        while opening.len() >= OPENING_MAX {
            let (opened, count) = joined(opening.join_next().await)?;
            progress.add(count);
            readers.spawn(opened_reader(opened, board.clone()));
        }
        opening.spawn(async move {
            let places: Vec<usize> = (number..watches).step_by(connections).collect();
            let mut watched = Watched::default();
            for place in &places {
                let target = targets::watch_path(*place, version);
                watched.open(&mut peer, &target, *place)?;
            }
            watched.begin(&mut peer).await?;
            Ok::<_, String>(((peer, watched), places.len()))
        });
    }
    while let Some(opened) = opening.join_next().await {
        let (opened, count) = joined(Some(opened))?;
        progress.add(count);
        readers.spawn(opened_reader(opened, board.clone()));
    }
    let seconds = begun.elapsed().as_secs_f64();
    tokio::time::sleep(quiet).await;
    let watched = plane.resident_bytes();
    // Nothing happens in this time but bookmarks and pings.
    let cpu_idle = plane.cpu_nanos();
    tokio::time::sleep(quiet).await;
    let idle_cores = plane.cpu_nanos().saturating_sub(cpu_idle) as f64 / quiet.as_nanos() as f64;
    let each = |grown: u64, count: usize| grown as f64 / count.max(1) as f64;
    let report = report
        .number(
            "bytes_per_connection",
            each(connected.saturating_sub(before), connections),
        )
        .number(
            "bytes_per_watch",
            each(watched.saturating_sub(connected), watches),
        )
        .number(
            "watches_opened_per_second",
            watches as f64 / seconds.max(1e-9),
        )
        .number(
            "open_cpu_us_per_watch",
            cpu_idle.saturating_sub(cpu) as f64 / 1e3 / watches as f64,
        )
        .number("idle_cores", idle_cores)
        .number("rss_gib", watched as f64 / f64::from(1 << 30));
    Ok((report, readers))
}

async fn connect_all(dialer: Dialer, count: usize) -> Result<Vec<Peer>, String> {
    let mut progress = Progress::new("connections", count);
    let (mut opening, mut peers) = (JoinSet::new(), Vec::with_capacity(count));
    for _ in 0..count {
        while opening.len() >= OPENING_MAX {
            peers.push(joined(opening.join_next().await)?);
            progress.add(1);
        }
        let dialer = dialer.clone();
        opening.spawn(async move {
            let mut peer = dialer.connect().await?;
            let ask = Ask {
                method: "GET",
                target: "/api/v1/namespaces/default",
                body: Bytes::new(),
            };
            match peer.exchange(&ask).await?.status {
                200 => Ok::<_, String>(peer),
                status => Err(format!("a first request was refused: {status}")),
            }
        });
    }
    while let Some(peer) = opening.join_next().await {
        peers.push(joined(Some(peer))?);
    }
    Ok(peers)
}

/// Lets connections rest, and answers the pings that come meanwhile.
async fn rest(peers: &mut [Peer], time: Duration) -> Result<(), String> {
    tokio::time::sleep(time).await;
    for peer in peers {
        // What has come already is read; nothing is waited for.
        let read = tokio::time::timeout(Duration::ZERO, peer.read(|_| {}));
        if let Ok(result) = read.await {
            result?;
        }
        peer.flush().await?;
    }
    Ok(())
}

fn joined<T>(
    result: Option<Result<Result<T, String>, tokio::task::JoinError>>,
) -> Result<T, String> {
    match result {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(error.to_string()),
        None => Err("no task is left".into()),
    }
}

/// The watches of one connection.
#[derive(Default)]
struct Watched {
    /// In the order of the streams.
    streams: Vec<(StreamId, usize, EventCutter)>,
}

impl Watched {
    fn open(&mut self, peer: &mut Peer, target: &str, place: usize) -> Result<(), String> {
        let stream = peer.ask(&Ask {
            method: "GET",
            target,
            body: Bytes::new(),
        })?;
        self.streams.push((stream, place, EventCutter::default()));
        Ok(())
    }

    /// Waits until the server has answered all.
    async fn begin(&mut self, peer: &mut Peer) -> Result<(), String> {
        let (mut begun, mut refused) = (0, None);
        while begun < self.streams.len() {
            peer.turn(|event| {
                if let Event::Headers { fields, .. } = event {
                    begun += 1;
                    if fields.get(b":status") != Some(b"200") {
                        refused = fields
                            .get(b":status")
                            .map(|status| String::from_utf8_lossy(status).into_owned());
                    }
                }
            })
            .await?;
            if let Some(status) = refused {
                return Err(format!("a watch was refused: {status}"));
            }
        }
        Ok(())
    }

    /// Reads for ever; `on_event` is told the place of the watch whose event came.
    async fn follow(
        mut self,
        mut peer: Peer,
        mut on_event: impl FnMut(usize, Kind),
    ) -> Result<(), String> {
        loop {
            let mut broken = None;
            peer.turn(|event| {
                if let Event::Data { stream, data, .. } = event
                    && let Ok(at) = self.streams.binary_search_by_key(stream, |(id, _, _)| *id)
                {
                    let (_, place, cutter) = &mut self.streams[at];
                    if let Err(error) = cutter.take(data, |kind, _| on_event(*place, kind)) {
                        broken = Some(error);
                    }
                }
            })
            .await?;
            if let Some(error) = broken {
                return Err(error);
            }
        }
    }
}

async fn opened_reader((peer, watched): (Peer, Watched), board: Arc<Board>) {
    let followed = watched.follow(peer, |place, kind| match kind {
        Kind::Change => board.seen(place),
        Kind::Bookmark => {}
        Kind::Error => board.lock().broken += 1,
    });
    if followed.await.is_err() {
        board.lock().broken += 1;
    }
}

/// What is under way: one write a target at a time, and how long those took that are through.
struct Board(Mutex<Marks>);

struct Marks {
    under_way: Vec<Option<Mark>>,
    free: VecDeque<usize>,
    after_reply: Spread,
    after_request: Spread,
    /// Watches that ended, and connections.
    broken: usize,
}

#[derive(Clone, Copy)]
struct Mark {
    asked: Instant,
    replied: Option<Instant>,
    seen: Option<Instant>,
}

impl Board {
    fn new(targets: usize) -> Board {
        Board(Mutex::new(Marks {
            under_way: vec![None; targets],
            free: (0..targets).collect(),
            after_reply: Spread::default(),
            after_request: Spread::default(),
            broken: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target that nothing is under way to.
    fn take(&self) -> Option<usize> {
        let mut marks = self.lock();
        let target = marks.free.pop_front()?;
        marks.under_way[target] = Some(Mark {
            asked: Instant::now(),
            replied: None,
            seen: None,
        });
        Some(target)
    }

    fn replied(&self, target: usize) {
        self.note(target, |mark, now| mark.replied = Some(now));
    }

    fn seen(&self, target: usize) {
        self.note(target, |mark, now| mark.seen = Some(now));
    }

    fn note(&self, target: usize, note: impl FnOnce(&mut Mark, Instant)) {
        let mut marks = self.lock();
        // An event that nobody here caused has no mark.
        let Some(Some(mark)) = marks.under_way.get_mut(target) else {
            return;
        };
        note(mark, Instant::now());
        if let Mark {
            asked,
            replied: Some(replied),
            seen: Some(seen),
        } = *mark
        {
            marks
                .after_reply
                .add(seen.saturating_duration_since(replied));
            marks
                .after_request
                .add(seen.saturating_duration_since(asked));
            marks.under_way[target] = None;
            marks.free.push_back(target);
        }
    }
}

/// Patches pods at the asked rate until each patch was seen.
async fn single(options: &Options, plane: &PlaneProcess, board: &Arc<Board>) -> Result<(), String> {
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let peer = plane.connect().await?;
        let count =
            options.operations / WRITERS + usize::from(number < options.operations % WRITERS);
        let rate = options.rate as f64 / WRITERS as f64;
        writers.spawn(write(peer, count, rate, board.clone()));
    }
    let mut progress = Progress::new("events of single objects", options.operations);
    let (mut before, mut since) = (0, Instant::now());
    loop {
        tokio::time::sleep(TICK * 10).await;
        let done = board.lock().after_reply.len();
        progress.set(done);
        while let Some(ended) = writers.try_join_next() {
            joined(Some(ended))?;
        }
        if done >= options.operations {
            return Ok(());
        }
        if done > before {
            (before, since) = (done, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            return Err(format!(
                "{done} of {} events came, and then none for {} s",
                options.operations,
                STALL_MAX.as_secs()
            ));
        }
    }
}

/// Writes so often, as far as there are free targets.
async fn write(mut peer: Peer, count: usize, rate: f64, board: Arc<Board>) -> Result<(), String> {
    let begun = Instant::now();
    let mut asked = 0;
    let mut open: HashMap<StreamId, usize> = HashMap::new();
    while asked < count || !open.is_empty() {
        let due = ((begun.elapsed().as_secs_f64() * rate) as usize).min(count);
        while asked < due && open.len() < WRITES_IN_FLIGHT_MAX {
            let Some(target) = board.take() else { break };
            let stream = peer.ask(&Ask {
                method: "PATCH",
                target: &targets::pod_path(target),
                body: targets::patch(asked),
            })?;
            open.insert(stream, target);
            asked += 1;
        }
        peer.flush().await?;
        let mut refused = None;
        let read = peer.read(|event| {
            let (stream, is_over) = match event {
                Event::Headers {
                    stream,
                    fields,
                    end,
                } => {
                    if fields.get(b":status") == Some(b"200") {
                        if let Some(target) = open.get(stream) {
                            board.replied(*target);
                        }
                    } else {
                        refused = Some(
                            String::from_utf8_lossy(fields.get(b":status").unwrap_or_default())
                                .into_owned(),
                        );
                    }
                    (stream, *end)
                }
                Event::Data { stream, end, .. } => (stream, *end),
                _ => return,
            };
            if is_over {
                open.remove(stream);
            }
        });
        if let Ok(result) = tokio::time::timeout(TICK, read).await {
            result?;
        }
        if let Some(status) = refused {
            return Err(format!("a patch was refused: {status}"));
        }
    }
    Ok(())
}

/// When each write was asked for and replied to, in order; and what the watches saw.
#[derive(Default)]
struct Turns {
    asked: Vec<Instant>,
    replied: Vec<Instant>,
    /// Events that came before the reply was read, by write.
    early: Vec<usize>,
    after_reply: Spread,
    after_request: Spread,
}

async fn kind(
    options: &Options,
    plane: &PlaneProcess,
    connections: usize,
    report: Report,
) -> Result<Report, String> {
    let watches = KIND_WATCHES.min(options.nodes);
    let shared_by = KIND_CONNECTIONS.min(connections).min(watches);
    let writes = (options.operations / watches).clamp(1, KIND_WRITES_MAX);
    let rate = options.rate as f64 / watches as f64;
    let mut writer = plane.connect().await?;
    let version = create_map(&mut writer).await?;

    let turns = Arc::new(Mutex::new(Turns::default()));
    let mut readers = JoinSet::new();
    for number in 0..shared_by {
        let mut peer = plane.connect().await?;
        let mut watched = Watched::default();
        let places = (number..watches).step_by(shared_by);
        let target = format!(
            "/api/v1/configmaps?allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=3600&watch=true"
        );
        for place in places {
            watched.open(&mut peer, &target, place)?;
        }
        watched.begin(&mut peer).await?;
        let turns = turns.clone();
        readers.spawn(async move {
            let mut counts: HashMap<usize, usize> = HashMap::new();
            watched
                .follow(peer, |place, kind| {
                    if kind == Kind::Change {
                        // There is one writer, who waits for each reply: events come in the order of the writes.
                        let count = counts.entry(place).or_default();
                        lock(&turns).seen(*count);
                        *count += 1;
                    }
                })
                .await
        });
    }

    let mut progress = Progress::new("events of a whole kind", writes * watches);
    let (begun, cpu) = (Instant::now(), plane.cpu_nanos());
    for turn in 0..writes {
        let due = Duration::from_secs_f64(turn as f64 / rate);
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        lock(&turns).asked.push(Instant::now());
        let ask = Ask {
            method: "PATCH",
            target: MAP,
            body: targets::patch(turn),
        };
        let answer = writer.exchange(&ask).await?;
        if answer.status != 200 {
            return Err(format!("a patch was refused: {}", answer.status));
        }
        lock(&turns).reply();
        progress.set(lock(&turns).after_reply.len());
    }
    let (mut before, mut since) = (0, Instant::now());
    let expected = writes * watches;
    loop {
        let done = lock(&turns).after_reply.len();
        if done >= expected {
            break;
        }
        if done > before {
            (before, since) = (done, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            return Err(format!("{done} of {expected} events of the kind came"));
        }
        tokio::time::sleep(TICK).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = plane.cpu_nanos().saturating_sub(cpu) as f64 / 1e3;
    let report = report
        .count("kind_watches", watches)
        .count("kind_events", expected)
        .number(
            "kind_events_per_second",
            expected as f64 / seconds.max(1e-9),
        )
        .number("kind_server_cpu_us_per_event", cpu / expected as f64);
    let turns = lock(&turns);
    let report = turns.after_reply.report(report, "kind_after_reply");
    Ok(turns.after_request.report(report, "kind_after_request"))
}

impl Turns {
    /// A watch has read the event of a write.
    fn seen(&mut self, turn: usize) {
        let Some(asked) = self.asked.get(turn) else {
            return;
        };
        self.after_request.add(asked.elapsed());
        match self.replied.get(turn) {
            Some(replied) => self.after_reply.add(replied.elapsed()),
            None => self.early.push(turn),
        }
    }

    fn reply(&mut self) {
        self.replied.push(Instant::now());
        for _ in self.early.drain(..) {
            self.after_reply.add(Duration::ZERO);
        }
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn create_map(peer: &mut Peer) -> Result<i64, String> {
    let maps = crate::workload::resource("", "configmaps")?;
    let map = value::json!({"metadata": {"name": "bench-watched", "namespace": "default"}});
    let answer = peer
        .exchange(&Ask {
            method: "POST",
            target: "/api/v1/namespaces/default/configmaps",
            body: crate::workload::encoded(maps, &map)?,
        })
        .await?;
    match answer.status {
        201 => targets::version_of(&answer.body),
        status => Err(format!("the ConfigMap was refused: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_through_when_its_reply_and_its_event_were_read_in_any_order() {
        let board = Board::new(2);
        assert_eq!(
            (board.take(), board.take(), board.take()),
            (Some(0), Some(1), None)
        );
        board.seen(1);
        board.replied(0);
        assert_eq!(board.lock().after_reply.len(), 0);
        board.replied(1);
        board.seen(0);
        // One that nobody waits for.
        board.seen(0);
        assert_eq!(board.lock().after_reply.len(), 2);
        // What was seen before its reply took no time after it.
        assert_eq!(board.lock().after_reply.at([0.0]), [0.0]);
        assert_eq!((board.take(), board.take()), (Some(1), Some(0)));
    }

    #[test]
    fn an_event_before_its_reply_counts_when_that_is_read() {
        let mut turns = Turns::default();
        turns.seen(0);
        turns.asked.push(Instant::now());
        turns.seen(0);
        turns.seen(0);
        assert_eq!((turns.after_request.len(), turns.after_reply.len()), (2, 0));
        turns.reply();
        assert_eq!(
            (turns.after_reply.len(), turns.after_reply.at([1.0])),
            (2, [0.0])
        );
        turns.seen(0);
        assert_eq!(turns.after_reply.len(), 3);
    }
}
