//! What compressing stored objects with a zstd dictionary for each kind would save, and cost:
//! `dictionaries [NODES] [PODS] [DICTIONARY_KIB]`.
//!
//! ```text
//!   API server, scheduler, controllers, fleet in this process ─► NODES register, PODS of Deployments run ─► all stop
//!        ─► of each kind: some objects train a dictionary ─► others are compressed and read back, by levels 1 and 3
//! ```
//!
//! The objects are what the store holds, byte for byte. An object never trains the dictionary that it is judged by, unless
//! there are too few. Memory is counted twice: in bytes, and as the resident memory of copies, one allocation each, from
//! the allocator of the binary. CPU is that of one thread that finds contexts and output buffer ready and objects scattered, so a
//! store would pay more, never less. Decides nothing: that is `docs/decisions/0013-no-dictionaries-yet.md`.

use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use apiserver::Api;
use bytes::Bytes;
use client::Client;
use controllers::{ControllersConfig, ControllersProgress};
use fleet::{FleetConfig, FleetProgress};
use rustix::time::{ClockId, clock_gettime};
use scheduler::{SchedulerConfig, SchedulerProgress};
use store::{Collection, Store, StoreConfig};
use value::{Value, json};
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Deployments that the pods belong to: as many templates.
const DEPLOYMENTS: usize = 50;
/// Kinds with fewer objects are not worth a dictionary.
const OBJECTS_MIN: usize = 500;
/// Objects that train a dictionary: with more, training takes minutes and the dictionary gets no better.
const TRAINING_OBJECTS_MAX: usize = 2_000;
/// Passes over the objects; figures are the median pass.
const PASSES: usize = 5;
/// Silence after which the plane will do nothing more.
const STALL_MAX: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Time for the first renewals of Leases: a kubelet makes them every ten seconds.
const SETTLE_TIME: Duration = Duration::from_secs(25);
const LEVELS: [i32; 2] = [1, 3];
/// Makes this program the process of [`resident_each`].
const ALLOCATE: &str = "--allocate";

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == ALLOCATE) {
        return allocate();
    }
    let mut number = |default: usize| match arguments.next() {
        Some(text) => text
            .parse::<usize>()
            .map_err(|error| format!("{text:?}: {error}")),
        None => Ok(default),
    };
    let (nodes, pods, dictionary_kib) = (number(20_000)?, number(20_000)?, number(16)?);
    let store = lived_in(nodes, pods)?;
    println!(
        "| kind | objects | writes each | raw B | resident B | a history entry, B |\n|---|---|---|---|---|---|"
    );
    let kinds = kinds(&store)?;
    for kind in &kinds {
        kind.print()?;
    }
    println!(
        "\n| kind | dictionary | level | B | of raw | resident B | compress µs | decompress µs | into a new allocation |\n|---|---|---|---|---|---|---|---|---|"
    );
    for kind in &kinds {
        let dictionary = kind.trained(dictionary_kib << 10)?;
        for level in LEVELS {
            kind.judge(level, None)?;
            kind.judge(level, Some(&dictionary))?;
        }
    }
    Ok(())
}

/// The objects of one kind.
struct Kind {
    name: String,
    values: Vec<Bytes>,
    /// Writes that an object has seen, its creation included.
    writes_each: f64,
    history_bytes_an_entry: f64,
}

fn kinds(store: &Store) -> Result<Vec<Kind>, AnyError> {
    let mut kinds = Vec::new();
    for collection in store.collections() {
        if collection.len() >= OBJECTS_MIN {
            kinds.push(Kind::of(&collection)?);
            kinds.extend(kinds.last().and_then(Kind::with_own_identities));
        }
    }
    Ok(kinds)
}

impl Kind {
    fn of(collection: &Collection) -> Result<Kind, AnyError> {
        let mut rows = Vec::with_capacity(collection.len());
        let at = collection.revision();
        collection.list(b"", None, at, usize::MAX, &mut rows)?;
        let writes: i64 = rows.iter().map(|(_, record)| record.version).sum();
        let stats = collection.stats();
        let entries = stats.history_entries.max(1) as f64;
        Ok(Kind {
            name: String::from_utf8_lossy(collection.prefix()).into_owned(),
            writes_each: writes as f64 / rows.len().max(1) as f64,
            history_bytes_an_entry: stats.history_bytes as f64 / entries,
            values: scattered(rows.into_iter().map(|(_, record)| record.value).collect()),
        })
    }

    /// Simulated nodes number their machines. Those of real ones have nothing in common, so here they are drawn.
    fn with_own_identities(&self) -> Option<Kind> {
        let nodes = schema::resource("", "v1", "nodes")?;
        if self.name != "/registry/nodes/" {
            return None;
        }
        let draw = |place: usize, field: usize| {
            let hash = |salt: usize| {
                let mut hasher = DefaultHasher::new();
                (place, field, salt).hash(&mut hasher);
                hasher.finish()
            };
            format!("{:016x}{:016x}", hash(0), hash(1))
        };
        let redrawn = |(place, value): (usize, &Bytes)| {
            let mut node = schema::decode_protobuf(nodes.type_id, value).ok()?;
            for (field, name) in ["machineID", "systemUUID", "bootID"].iter().enumerate() {
                node["status"]["nodeInfo"][*name] = draw(place, field).into();
            }
            let mut bytes = Vec::new();
            schema::encode_protobuf(nodes.type_id, &node, &mut bytes).ok()?;
            Some(Bytes::from(bytes))
        };
        Some(Kind {
            name: "nodes, identities drawn".into(),
            values: self
                .values
                .iter()
                .enumerate()
                .map(redrawn)
                .collect::<Option<_>>()?,
            ..*self
        })
    }

    fn print(&self) -> Result<(), AnyError> {
        let resident = resident_each(self.values.iter().map(Bytes::len))?;
        println!(
            "| {} | {} | {:.2} | {:.0} | {resident:.0} | {:.0} |",
            self.name,
            self.values.len(),
            self.writes_each,
            self.bytes_each(),
            self.history_bytes_an_entry,
        );
        Ok(())
    }

    fn bytes_each(&self) -> f64 {
        let bytes: usize = self.values.iter().map(Bytes::len).sum();
        bytes as f64 / self.values.len().max(1) as f64
    }

    /// Those that train, and those that are judged: a fifth, and the rest.
    fn split(&self) -> (&[Bytes], &[Bytes]) {
        let training = (self.values.len() / 5).min(TRAINING_OBJECTS_MAX);
        self.values.split_at(training)
    }

    fn trained(&self, bytes_max: usize) -> Result<Vec<u8>, AnyError> {
        Ok(zstd::dict::from_samples(self.split().0, bytes_max)?)
    }

    /// Compresses and reads back, and prints what that came to.
    fn judge(&self, level: i32, dictionary: Option<&[u8]>) -> Result<(), AnyError> {
        let objects = self.split().1;
        let encoder = dictionary.map(|bytes| EncoderDictionary::copy(bytes, level));
        let decoder = dictionary.map(DecoderDictionary::copy);
        let mut compressor = match &encoder {
            Some(encoder) => Compressor::with_prepared_dictionary(encoder)?,
            None => Compressor::new(level)?,
        };
        // Which dictionary it is, the kind says.
        compressor.include_dictid(false)?;
        let mut decompressor = match &decoder {
            Some(decoder) => Decompressor::with_prepared_dictionary(decoder)?,
            None => Decompressor::new()?,
        };
        let longest = objects.iter().map(Bytes::len).max().unwrap_or(0);
        let mut buffer = vec![0u8; zstd::zstd_safe::compress_bound(longest)];
        let compressed = objects
            .iter()
            .map(|object| compressor.compress(object))
            .collect::<Result<Vec<_>, _>>()?;
        let compress_micros = micros_each(objects.len(), || {
            for object in objects {
                let length = compressor.compress_to_buffer(object, &mut buffer[..])?;
                std::hint::black_box(&buffer[..length]);
            }
            Ok(())
        })?;
        let decompress_micros = micros_each(objects.len(), || {
            for object in &compressed {
                let length = decompressor.decompress_to_buffer(object, &mut buffer[..])?;
                std::hint::black_box(&buffer[..length]);
            }
            Ok(())
        })?;
        let fresh_micros = micros_each(objects.len(), || {
            for object in &compressed {
                std::hint::black_box(decompressor.decompress(object, longest)?);
            }
            Ok(())
        })?;
        for (object, compressed) in objects.iter().zip(&compressed) {
            if decompressor.decompress(compressed, longest)? != object[..] {
                return Err("an object came back as another".into());
            }
        }
        let raw: usize = objects.iter().map(Bytes::len).sum();
        let bytes: usize = compressed.iter().map(Vec::len).sum();
        println!(
            "| {} | {} | {level} | {:.0} | {:.0} % | {:.0} | {compress_micros:.2} | {decompress_micros:.2} | {fresh_micros:.2} |",
            self.name,
            dictionary.map_or("none".into(), |bytes| format!(
                "{} KiB",
                bytes.len().div_ceil(1024)
            )),
            bytes as f64 / objects.len().max(1) as f64,
            100.0 * bytes as f64 / raw.max(1) as f64,
            resident_each(compressed.iter().map(Vec::len))?,
        );
        Ok(())
    }
}

/// In an order in which neighbours in memory are not neighbours in time: a step that shares no factor with any count.
fn scattered(values: Vec<Bytes>) -> Vec<Bytes> {
    let count = values.len();
    (0..count)
        .map(|turn| values[(turn as u64 * 1_000_000_007 % count.max(1) as u64) as usize].clone())
        .collect()
}

/// CPU time of this thread for one of `count` objects: the median pass.
fn micros_each(
    count: usize,
    mut pass: impl FnMut() -> Result<(), AnyError>,
) -> Result<f64, AnyError> {
    let mut passes = Vec::with_capacity(PASSES);
    for _ in 0..PASSES {
        let begun = cpu_nanos();
        pass()?;
        passes.push((cpu_nanos() - begun) as f64 / 1e3 / count.max(1) as f64);
    }
    passes.sort_unstable_by(f64::total_cmp);
    Ok(passes[PASSES / 2])
}

fn cpu_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Resident memory of one allocation for each value, as the store keeps it: taken by a process of its own, whose allocator has
/// nothing to give away that somebody used before.
fn resident_each(lengths: impl Iterator<Item = usize>) -> Result<f64, AnyError> {
    let lengths: Vec<String> = lengths.map(|length| length.to_string()).collect();
    let mut child = Command::new(std::env::current_exe()?)
        .arg(ALLOCATE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or("no input")?;
    input.write_all(lengths.join("\n").as_bytes())?;
    drop(input);
    let told = child.wait_with_output()?;
    Ok(std::str::from_utf8(&told.stdout)?.trim().parse()?)
}

/// The process of [`resident_each`].
fn allocate() -> Result<(), AnyError> {
    let lengths = std::io::read_to_string(std::io::stdin())?
        .lines()
        .map(str::parse)
        .collect::<Result<Vec<usize>, _>>()?;
    let count = lengths.len() * lengths_rounds(lengths.len());
    let mut kept: Vec<Arc<[u8]>> = Vec::with_capacity(count);
    let one = || -> Arc<[u8]> { Arc::from([1u8].as_slice()) };
    // The list is not the values': it is resident before they are counted.
    kept.resize_with(count, one);
    kept.clear();
    let before = apiserver::metrics::resident_bytes();
    while kept.len() < count {
        let copies = lengths
            .iter()
            .map(|length| std::iter::repeat_n(1u8, *length).collect());
        kept.extend(copies);
    }
    let grown = apiserver::metrics::resident_bytes().saturating_sub(before);
    println!("{}", grown as f64 / kept.len().max(1) as f64);
    Ok(())
}

/// So often that there are a million, and pages half full do not matter.
fn lengths_rounds(count: usize) -> usize {
    1_000_000usize.div_ceil(count.max(1))
}

/// A store in which nodes have registered and renewed, and pods run.
fn lived_in(nodes: usize, pods: usize) -> Result<Arc<Store>, AnyError> {
    let store = Arc::new(Store::new(StoreConfig::default()));
    let (stopping, stop) = tokio::sync::watch::channel(false);
    let api = Arc::new(Api::new(store.clone(), stop.clone()));
    let user = Api::system_user();
    let client = Client::new(api.clone(), Some(user), "megaplane-dictionaries");
    runtime()?.block_on(api.bootstrap(([127, 0, 0, 1], 6443).into()))?;
    let mut threads = Vec::new();
    let (its, signal) = (client.clone(), stop.clone());
    threads.push(spawn(move || {
        let progress = Arc::new(SchedulerProgress::default());
        scheduler::run(its, SchedulerConfig::default(), progress, signal)
    })?);
    let (its, signal) = (client.clone(), stop.clone());
    threads.push(spawn(move || {
        let progress = Arc::new(ControllersProgress::default());
        controllers::run(its, ControllersConfig::default(), progress, signal)
    })?);
    let fleet = Arc::new(FleetProgress::default());
    let (its, progress) = (client.clone(), fleet.clone());
    threads.push(spawn(move || {
        fleet::run(its, FleetConfig::new(nodes), progress, stop)
    })?);
    wait("nodes", nodes, || fleet.registered.load(Relaxed))?;
    runtime()?.block_on(deploy(&client, pods))?;
    wait("pods", pods / DEPLOYMENTS * DEPLOYMENTS, || {
        usize::try_from(fleet.pods_started.load(Relaxed)).unwrap_or(usize::MAX)
    })?;
    eprintln!("renewals for {} s", SETTLE_TIME.as_secs());
    std::thread::sleep(SETTLE_TIME);
    stopping.send(true)?;
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    Ok(store)
}

fn spawn<F, T>(make: F) -> Result<JoinHandle<()>, AnyError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    let runtime = runtime()?;
    Ok(std::thread::Builder::new().spawn(move || runtime.block_on(make()))?)
}

fn runtime() -> Result<tokio::runtime::Runtime, AnyError> {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

fn wait(what: &str, wanted: usize, done: impl Fn() -> usize) -> Result<(), AnyError> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let count = done();
        if count >= wanted {
            eprintln!("{wanted} {what}");
            return Ok(());
        }
        if count > before {
            (before, since) = (count, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            return Err(format!("{what}: {count} of {wanted}, and then none").into());
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

async fn deploy(client: &Client, pods: usize) -> Result<(), AnyError> {
    let resource = schema::resource("apps", "v1", "deployments").ok_or("no deployments")?;
    for number in 0..DEPLOYMENTS {
        let object = deployment(number, pods / DEPLOYMENTS);
        let created = client.create(resource, "default", &object).await;
        created.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Deployments with little and with much in their pods: probes, environment, a side-car, volumes.
fn deployment(number: usize, replicas: usize) -> Value {
    let name = format!("service-{number:02}");
    let environment: Vec<Value> = (0..number % 8)
        .map(|at| json!({"name": format!("SETTING_{at}"), "value": format!("https://{name}.example.com/{at}")}))
        .collect();
    let mut main = json!({
        "name": "main", "image": format!("registry.example.com/team-{}/{name}:1.{number}.0", number % 7),
        "resources": {"requests": {"cpu": format!("{}m", 50 + 10 * (number % 10)), "memory": "64Mi"}},
        "ports": [{"name": "http", "containerPort": 8080}],
    });
    if !environment.is_empty() {
        main["env"] = environment.into();
    }
    if number % 2 == 1 {
        main["readinessProbe"] = json!({"httpGet": {"path": "/ready", "port": "http"}});
        main["livenessProbe"] =
            json!({"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 10});
    }
    let mut spec = json!({"containers": [main]});
    if number.is_multiple_of(3) {
        spec["containers"][0]["volumeMounts"] =
            json!([{"name": "scratch", "mountPath": "/var/scratch"}]);
        spec["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    }
    let labels = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop", "tier": format!("tier-{}", number % 4)});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}
