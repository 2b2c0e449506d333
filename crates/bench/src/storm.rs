//! `storm`: all clients come back at once after the server was killed.
//!
//! ```text
//!   connect ─► watch at a version ─► writes, some seen, some not ─► kill -9 ─► start again ─► all served? nothing lost?
//! ```
//!
//! `megaplane up` with a data directory in a process of its own; `--connections` clients in this one, each with a
//! connection and a watch of its own pods as a kubelet keeps it. A client whose connection breaks comes back at once and
//! then after ever longer pauses, and goes on from the last version it saw. It is served when its watch was answered; one
//! that is told 410 begins anew without a version (lists again), and is counted. In the end each client must have seen
//! every change of its pod that was acknowledged before the end, once.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http2::Event;
use tokio::task::JoinSet;

use crate::Options;
use crate::descriptors::Room;
use crate::event_cutter::{EventCutter, Kind};
use crate::plane_process::{Ask, Dialer, Peer, PlaneProcess, Setup, block_on};
use crate::progress::Progress;
use crate::report::Report;
use crate::spread::Spread;
use crate::targets;

/// Clients whose pods are written to. The others wait for news that never comes, as most do.
const WRITTEN_MAX: usize = 1_000;
/// Requests of the writer that are under way together.
const CHUNK: usize = 50;
/// Pauses of a client between its tries: from this, doubled each time, up to that (client-go: 0.8 s to 30 s; here sooner,
/// which is harder).
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A try that takes longer is given up.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Clients that connect at a time before the storm; in it there is no such bound.
const OPENING_MAX: usize = 64;
/// When nobody more was served for so long, nobody will be.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long a change that was acknowledged may take to a client that is served.
const NEWS_MAX: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

pub fn run(options: &Options) -> Result<Report, String> {
    let room = Room::take(options.connections);
    let mut plane = PlaneProcess::start_as(Setup {
        listener: "own",
        is_durable: true,
        schedules: false,
    })?;
    let report = Report::default()
        .text("durability", "fsync")
        .count("connections_asked", room.asked)
        .count("connections", room.connections)
        .text(
            "connections_limited_by",
            room.limited_by.as_deref().unwrap_or("nothing"),
        );
    block_on(storm(room.connections, &mut plane, report))
}

async fn storm(count: usize, plane: &mut PlaneProcess, report: Report) -> Result<Report, String> {
    let written = count.min(WRITTEN_MAX);
    let mut writer = plane.connect().await?;
    let version = targets::create(&mut writer, written).await?;
    let crowd = Arc::new(Crowd::new(count));
    let mut clients = JoinSet::new();
    let mut progress = Progress::new("clients", count);
    for index in 0..count {
        while index - crowd.served.load(Relaxed).min(index) >= OPENING_MAX {
            crowd.check()?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        clients.spawn(live(plane.dialer(), index, version, crowd.clone()));
        progress.set(crowd.served.load(Relaxed));
    }
    crowd
        .wait("connecting", |crowd| crowd.served.load(Relaxed), count)
        .await?;
    drop(progress);

    // Everybody's place moves on once, and each has seen it.
    let mut sent = vec![0usize; written];
    let mut acknowledged = vec![0usize; written];
    for at in (0..written).step_by(CHUNK) {
        let chunk = at..(at + CHUNK).min(written);
        write(&mut writer, chunk, 1, &mut sent, &mut acknowledged).await?;
    }
    let seen = |crowd: &Crowd| (0..written).filter(|at| crowd.events(*at) > 0).count();
    crowd.wait("seeing the first change", seen, written).await?;
    // Of the next change nobody knows who has seen it when the lights go out.
    for at in (0..written / 2).step_by(CHUNK) {
        let chunk = at..(at + CHUNK).min(written / 2);
        write(&mut writer, chunk, 2, &mut sent, &mut acknowledged).await?;
    }
    let rss_before = plane.resident_bytes();
    crowd.begin_storm();
    let killed = Instant::now();
    plane.kill()?;
    plane.start_again()?;
    let started = Instant::now();
    let mut progress = Progress::new("clients served again", count);
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let back = crowd.lock().back.len();
        progress.set(back);
        if crowd.served.load(Relaxed) >= count && back >= count {
            break;
        }
        if plane.has_ended() {
            return Err("the server ended again".into());
        }
        if back > before {
            (before, since) = (back, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            let why = crowd.lock().failure.clone();
            return Err(format!(
                "{back} of {count} clients were served again, and then nobody for {} s ({why})",
                STALL_MAX.as_secs()
            ));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let all = killed.elapsed().as_secs_f64();
    // The process began with the storm: all it has used went into it.
    let cpu = plane.cpu_nanos() as f64 / 1e9;
    let rss = plane.resident_bytes();
    drop(progress);

    let mut again = plane.connect().await?;
    write(
        &mut again,
        0..written.min(CHUNK),
        3,
        &mut sent,
        &mut acknowledged,
    )
    .await?;
    let (lost, twice) = crowd.compare(&sent, &acknowledged).await;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let marks = crowd.lock();
    let mut times = Spread::default();
    marks
        .back
        .iter()
        .for_each(|at| times.add(at.saturating_duration_since(killed)));
    let [first, half, most] = times.at([0.0, 0.5, 0.99]).map(|millis| millis / 1e3);
    let report = report
        .number("first_served_seconds", first)
        .number("half_served_seconds", half)
        .number("p99_served_seconds", most)
        .number("all_served_seconds", all)
        .number(
            "all_served_seconds_since_start",
            all - (started - killed).as_secs_f64(),
        )
        .number("served_per_second", count as f64 / (all - first).max(1e-3))
        .number("server_cpu_seconds", cpu)
        .number("server_cpu_us_per_client", cpu * 1e6 / count as f64)
        .count("relisted", crowd.relisted.load(Relaxed))
        .count("failed_tries", crowd.failed_tries.load(Relaxed))
        .count("changes_acknowledged", acknowledged.iter().sum())
        .count("changes_lost", lost)
        .count("changes_told_twice", twice)
        .number("rss_before_gib", gib(rss_before))
        .number("rss_gib", gib(rss));
    drop(marks);
    if lost > 0 {
        let of = |client: &usize| crowd.events(*client) < acknowledged[*client];
        let examples = (0..written).filter(of).take(5).map(|client| {
            format!(
                "client {client} saw {} of {}",
                crowd.events(client),
                acknowledged[client]
            )
        });
        let examples = examples.collect::<Vec<_>>().join(", ");
        return Err(format!(
            "{lost} changes were acknowledged and not told within {} s to the clients that wait for them, of whom {} of \
             {count} are served and {} were told 410: {examples}",
            NEWS_MAX.as_secs(),
            crowd.served.load(Relaxed),
            crowd.relisted.load(Relaxed),
        ));
    }
    Ok(report)
}

/// Patches the pods of some clients, all at once.
async fn write(
    writer: &mut Peer,
    clients: std::ops::Range<usize>,
    turn: usize,
    sent: &mut [usize],
    acknowledged: &mut [usize],
) -> Result<(), String> {
    let paths: Vec<String> = clients.clone().map(targets::pod_path).collect();
    let asks: Vec<Ask<'_>> = paths
        .iter()
        .map(|target| Ask {
            method: "PATCH",
            target,
            body: targets::patch(turn),
        })
        .collect();
    for client in clients.clone() {
        sent[client] += 1;
    }
    for (client, answer) in clients.zip(writer.exchange_all(&asks).await?) {
        if answer.status != 200 {
            return Err(format!("a patch was refused: {}", answer.status));
        }
        acknowledged[client] += 1;
    }
    Ok(())
}

/// What all clients have met.
struct Crowd {
    served: AtomicUsize,
    relisted: AtomicUsize,
    failed_tries: AtomicUsize,
    /// Changes that each has seen.
    events: Vec<AtomicU64>,
    /// Who was told 410.
    begins_anew: Vec<AtomicBool>,
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    is_storm: bool,
    /// When each client was served again for the first time, in the order of time.
    back: Vec<Instant>,
    /// The last thing that went wrong.
    failure: String,
}

impl Crowd {
    fn new(count: usize) -> Crowd {
        Crowd {
            served: AtomicUsize::new(0),
            relisted: AtomicUsize::new(0),
            failed_tries: AtomicUsize::new(0),
            events: (0..count).map(|_| AtomicU64::new(0)).collect(),
            begins_anew: (0..count).map(|_| AtomicBool::new(false)).collect(),
            marks: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self, client: usize) -> usize {
        let events = self
            .events
            .get(client)
            .map_or(0, |events| events.load(Relaxed));
        usize::try_from(events).unwrap_or(usize::MAX)
    }

    fn begin_storm(&self) {
        self.lock().is_storm = true;
        self.failed_tries.store(0, Relaxed);
        self.relisted.store(0, Relaxed);
    }

    /// Before the storm a client that fails is a failure of the benchmark.
    fn check(&self) -> Result<(), String> {
        if self.failed_tries.load(Relaxed) > 0 {
            return Err(format!(
                "a client could not be served: {}",
                self.lock().failure
            ));
        }
        Ok(())
    }

    async fn wait(
        &self,
        what: &str,
        done: impl Fn(&Crowd) -> usize,
        wanted: usize,
    ) -> Result<(), String> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            self.check()?;
            let count = done(self);
            if count >= wanted {
                return Ok(());
            }
            if count > before {
                (before, since) = (count, Instant::now());
            } else if since.elapsed() > STALL_MAX {
                return Err(format!("{what}: {count} of {wanted}, and then none"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until every acknowledged change was seen, at most for a while. Gives how many were not, and how many were
    /// seen that nobody sent.
    async fn compare(&self, sent: &[usize], acknowledged: &[usize]) -> (usize, usize) {
        let begun = Instant::now();
        loop {
            let counts = |client: usize| !self.begins_anew[client].load(Relaxed);
            let missing = |(client, count): (usize, &usize)| {
                usize::from(counts(client)) * count.saturating_sub(self.events(client))
            };
            let lost: usize = acknowledged.iter().enumerate().map(missing).sum();
            if lost == 0 || begun.elapsed() > NEWS_MAX {
                let extra = |(client, count): (usize, &usize)| {
                    usize::from(counts(client)) * self.events(client).saturating_sub(*count)
                };
                return (lost, sent.iter().enumerate().map(extra).sum());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// One client, for ever.
async fn live(dialer: Dialer, index: usize, version: i64, crowd: Arc<Crowd>) {
    let mut client = OneClient {
        index,
        version: Some(version),
        is_served: false,
        has_come_back: false,
        crowd,
    };
    let mut pause = PAUSE_MIN;
    loop {
        let ended = client.session(&dialer).await;
        if client.lose() {
            // It was served: the next try comes at once.
            pause = PAUSE_MIN;
            continue;
        }
        if let Err(why) = ended {
            client.crowd.failed_tries.fetch_add(1, Relaxed);
            client.crowd.lock().failure = why;
        }
        // Everybody's pauses have another length, so that they do not stay a crowd.
        let part = 0.5 + (index % 101) as f64 / 202.0;
        tokio::time::sleep(pause.mul_f64(part)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The answer to a watch, as far as it was read.
#[derive(Default)]
struct Stream {
    status: Option<String>,
    cutter: EventCutter,
    is_over: bool,
}

struct OneClient {
    index: usize,
    /// The last that was seen; none: begin anew.
    version: Option<i64>,
    is_served: bool,
    has_come_back: bool,
    crowd: Arc<Crowd>,
}

impl OneClient {
    /// Connects, watches, and reads until something breaks.
    async fn session(&mut self, dialer: &Dialer) -> Result<(), String> {
        let timeout = |_| "a try took too long".to_owned();
        let mut peer = tokio::time::timeout(TRY_TIMEOUT, dialer.connect())
            .await
            .map_err(timeout)??;
        loop {
            // Without a version the server sends what there is, and goes on from there.
            let target = match self.version {
                Some(version) => targets::watch_path(self.index, version),
                None => targets::watch_path(self.index, 0).replace("&resourceVersion=0", ""),
            };
            peer.ask(&Ask {
                method: "GET",
                target: &target,
                body: Bytes::new(),
            })?;
            let mut stream = Stream::default();
            tokio::time::timeout(TRY_TIMEOUT, async {
                while stream.status.is_none() {
                    self.turn(&mut peer, &mut stream).await?;
                }
                Ok::<(), String>(())
            })
            .await
            .map_err(timeout)??;
            if let Some(status) = stream.status.as_deref().filter(|status| *status != "200") {
                return Err(format!("a watch was refused: {status}"));
            }
            self.serve();
            while !stream.is_over {
                self.turn(&mut peer, &mut stream).await?;
            }
        }
    }

    /// Reads once. What there is to tell may come together with the head of the answer.
    async fn turn(&mut self, peer: &mut Peer, stream: &mut Stream) -> Result<(), String> {
        let mut broken = None;
        peer.turn(|event| match event {
            Event::Headers { fields, .. } => {
                let text = fields.get(b":status").unwrap_or_default();
                let status = || String::from_utf8_lossy(text).into_owned();
                stream.status.get_or_insert_with(status);
            }
            Event::Data { data, end, .. } => {
                stream.is_over |= end;
                let taken = stream.cutter.take(data, |kind, object| {
                    stream.is_over |= !self.event(kind, object);
                });
                broken = broken.take().or(taken.err());
            }
            Event::Trailers { .. } => stream.is_over = true,
            _ => {}
        })
        .await?;
        broken.map_or(Ok(()), Err)
    }

    /// Takes in one event; false if the watch is over and must begin anew.
    fn event(&mut self, kind: Kind, object: &[u8]) -> bool {
        match kind {
            Kind::Error => {
                self.crowd.relisted.fetch_add(1, Relaxed);
                // It will see the state and not each change: nobody can count what it missed.
                if let Some(begins_anew) = self.crowd.begins_anew.get(self.index) {
                    begins_anew.store(true, Relaxed);
                }
                self.version = None;
                self.lose();
                return false;
            }
            Kind::Change => {
                if let Some(events) = self.crowd.events.get(self.index) {
                    events.fetch_add(1, Relaxed);
                }
            }
            Kind::Bookmark => {}
        }
        if let Ok(version) = targets::version_of(object) {
            self.version = Some(version);
        }
        true
    }

    fn serve(&mut self) {
        if !std::mem::replace(&mut self.is_served, true) {
            self.crowd.served.fetch_add(1, Relaxed);
        }
        let mut marks = self.crowd.lock();
        if marks.is_storm && !std::mem::replace(&mut self.has_come_back, true) {
            marks.back.push(Instant::now());
        }
    }

    /// Notes that it is no longer served; whether it was.
    fn lose(&mut self) -> bool {
        let was = std::mem::replace(&mut self.is_served, false);
        if was {
            self.crowd.served.fetch_sub(1, Relaxed);
        }
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(crowd: &Arc<Crowd>) -> OneClient {
        OneClient {
            index: 0,
            version: Some(7),
            is_served: false,
            has_come_back: false,
            crowd: crowd.clone(),
        }
    }

    #[test]
    fn who_is_told_that_history_is_gone_begins_anew_and_is_counted() {
        let crowd = Arc::new(Crowd::new(1));
        let mut one = client(&crowd);
        one.serve();
        assert_eq!(
            (crowd.served.load(Relaxed), crowd.lock().back.len()),
            (1, 0)
        );
        assert!(!one.event(Kind::Error, b""));
        assert_eq!((one.version, one.is_served), (None, false));
        assert_eq!(
            (crowd.relisted.load(Relaxed), crowd.served.load(Relaxed)),
            (1, 0)
        );
    }

    #[test]
    fn each_client_comes_back_once() {
        let crowd = Arc::new(Crowd::new(1));
        let mut one = client(&crowd);
        one.serve();
        crowd.begin_storm();
        for _ in 0..3 {
            one.lose();
            one.serve();
        }
        assert_eq!(
            (crowd.served.load(Relaxed), crowd.lock().back.len()),
            (1, 1)
        );
    }

    #[test]
    fn changes_that_nobody_saw_are_lost_and_those_that_nobody_sent_are_told_twice() {
        let crowd = Crowd::new(3);
        for (client, events) in [2, 1, 4].into_iter().enumerate() {
            crowd.events[client].store(events, Relaxed);
        }
        let runtime = crate::plane::runtime().unwrap();
        let compared = runtime.block_on(crowd.compare(&[2, 2, 3], &[2, 1, 3]));
        assert_eq!(compared, (0, 1));
    }
}
