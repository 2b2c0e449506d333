//! `megaplane store`: the etcd v3 server, under etcd's own flag names.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use etcd_server::{
    AuthOptions, AutoCompaction, BCRYPT_COST_MAX, BCRYPT_COST_MIN, Door, Listener, Options, Server,
    TlsFiles, TlsVersion, TokenKind,
};
use kv::Durability;

use crate::move_command::StoreCommand;
use crate::{move_command, screen, threads};

/// Flags of `megaplane store`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StoreOptions {
    /// What to do instead of running it
    #[command(subcommand)]
    command: Option<StoreCommand>,
    /// Name of this member
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// Where everything is kept [default: NAME.etcd in the current folder, as etcd does]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// URLs to listen on for clients, http or https, separated by commas
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    listen_client_urls: Vec<String>,
    /// URLs where only health, version and metrics are told, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    listen_metrics_urls: Vec<String>,
    /// URLs to tell clients about, separated by commas [default: the URL listened on]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    advertise_client_urls: Vec<String>,
    /// What the list of members says of where members would find this one, separated by commas
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    initial_advertise_peer_urls: Vec<String>,
    /// Server certificate, PEM (needed for https); read again when it changes, like the files below
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Authority whose client certificates are good, PEM
    #[arg(long, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Refuse clients without a certificate
    #[arg(long)]
    client_cert_auth: bool,
    /// Client certificates that are good no longer, PEM or DER
    #[arg(long, value_name = "FILE")]
    client_crl_file: Option<PathBuf>,
    /// Oldest version of TLS that is spoken
    #[arg(long, value_name = "TLS1.2|TLS1.3", default_value = "TLS1.2", value_parser = tls_version)]
    tls_min_version: TlsVersion,
    /// What users get when they log in, once access rules are on: simple, or jwt,sign-method=RS256,pub-key=FILE,
    /// priv-key=FILE,ttl=10m
    #[arg(long, value_name = "simple|jwt,…", default_value = "simple", value_parser = TokenKind::parse)]
    auth_token: TokenKind,
    /// Seconds a simple token is good after its last use
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    auth_token_ttl: u32,
    /// What a hash of a password costs: 2 to the power of N rounds
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(i64::from(BCRYPT_COST_MIN)..=i64::from(BCRYPT_COST_MAX))
    )]
    bcrypt_cost: u32,
    /// Bytes a request may have
    #[arg(long, value_name = "BYTES", default_value_t = 1_572_864)]
    max_request_bytes: usize,
    /// Operations a transaction may have
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_txn_ops: usize,
    /// Bytes all keys may hold together, history included: past it an alarm is raised and growth is refused until it
    /// is ended; 0 for etcd's 2 GiB, negative for no limit
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    quota_backend_bytes: i64,
    /// How --auto-compaction-retention counts: periodic or revision
    #[arg(long, value_name = "MODE", default_value = "periodic")]
    auto_compaction_mode: String,
    /// History to keep: hours or a time such as 90m, or a number of revisions; 0 keeps all until somebody compacts
    #[arg(long, value_name = "RETENTION", default_value = "0")]
    auto_compaction_retention: String,
    /// Time between progress notices to watches that ask for them, as in 5s or 10m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    watch_progress_notify_interval: Duration,
    /// Web pages of these origins may read plain HTTP answers, separated by commas; * for all
    #[arg(
        long,
        value_name = "ORIGINS",
        value_delimiter = ',',
        default_value = "*"
    )]
    cors: Vec<String>,
    /// Whether the API is served as JSON under /v3/ too
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    enable_grpc_gateway: bool,
    /// Do not wait for the disk: a crash may lose what was acknowledged
    #[arg(long)]
    unsafe_no_fsync: bool,
    /// How keys under a prefix are kept: PREFIX=memory, PREFIX=buffered or PREFIX=fsync; may be repeated
    #[arg(long, value_name = "PREFIX=CLASS", value_parser = durability)]
    durability: Vec<(String, Durability)>,
    /// Who speaks HTTP/2: this program's own codec, or the library that also speaks HTTP/1.1
    #[arg(
        long,
        value_name = "own|hyper",
        default_value = "own",
        value_parser = listener
    )]
    listener: Listener,
    /// Durability for a known user of the store: kubernetes keeps Leases and Events in memory, for speed
    #[arg(long, value_name = "NAME", value_parser = ["kubernetes"])]
    durability_preset: Option<String>,
    /// How much is logged: debug, info, warn, error (panic and fatal are taken for error)
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    log_level: Option<&'static str>,
    /// How logs look: console or json
    #[arg(long, value_name = "FORMAT", default_value = "console", value_parser = ["console", "json"])]
    log_format: String,
    /// Log filter per module, in place of --log-level
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "MEGAPLANE_LOG"
    )]
    log: String,
}

fn durability(text: &str) -> Result<(String, Durability), String> {
    let (prefix, class) = text
        .rsplit_once('=')
        .ok_or("it should look like /registry/events/=memory")?;
    let class = match class {
        "memory" => Durability::Memory,
        "buffered" => Durability::Buffered,
        "fsync" => Durability::Fsync,
        other => return Err(format!("{other:?} is none of memory, buffered, fsync")),
    };
    Ok((prefix.to_owned(), class))
}

fn listener(text: &str) -> Result<Listener, String> {
    match text {
        "own" => Ok(Listener::Own),
        "hyper" => Ok(Listener::Hyper),
        other => Err(format!("{other:?} is neither own nor hyper")),
    }
}

/// What `--durability-preset kubernetes` means: what a cluster makes again by itself within a minute.
const KUBERNETES_IN_MEMORY: [&str; 2] = ["/registry/leases/", "/registry/events/"];

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "TLS1.2" => Ok(TlsVersion::Tls12),
        "TLS1.3" => Ok(TlsVersion::Tls13),
        other => Err(format!("{other:?} is neither TLS1.2 nor TLS1.3")),
    }
}

fn log_level(text: &str) -> Result<&'static str, String> {
    match text {
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warn" => Ok("warn"),
        "error" | "dpanic" | "panic" | "fatal" => Ok("error"),
        other => Err(format!(
            "{other:?} is none of debug, info, warn, error, panic, fatal"
        )),
    }
}

/// A duration as Go writes it: `300ms`, `1.5s`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration such as 300ms, 5s or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = after;
    }
    if total.is_zero() {
        Err(bad())
    } else {
        Ok(total)
    }
}

/// Runs until a signal comes, or does what the subcommand says. `notes` are what was given and has no effect.
pub fn run(options: &StoreOptions, notes: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(command) = &options.command {
        return move_command::run(command);
    }
    let filter = options.log_level.unwrap_or(&options.log);
    screen::start_logging(filter, options.log_format == "json")?;
    for note in notes {
        tracing::warn!("{note}");
    }
    threads::raise_file_limit();
    let server = Server::open(server_options(options)?)?;
    let data_dir = data_dir(options);
    screen::say(&format!(
        "Megaplane store {} serves etcd's API {} on {}, data in {}",
        env!("CARGO_PKG_VERSION"),
        etcd_server::ETCD_VERSION,
        server.address(),
        data_dir.display()
    ));
    let (stop, stopping) = tokio::sync::watch::channel(false);
    threads::spawn("signals", move || async move {
        threads::signal().await;
        let _ = stop.send(true);
    })?;
    server.run(stopping)?;
    screen::say("stopped");
    Ok(())
}

fn data_dir(options: &StoreOptions) -> PathBuf {
    let default = || PathBuf::from(format!("{}.etcd", options.name));
    options.data_dir.clone().unwrap_or_else(default)
}

fn server_options(options: &StoreOptions) -> Result<Options, String> {
    let doors = doors(&options.listen_client_urls, false)?;
    let metrics = self::doors(&options.listen_metrics_urls, true)?;
    let secure = doors.iter().chain(&metrics).any(|door| door.is_secure);
    let tls = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) if secure => Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            trusted_ca: options.trusted_ca_file.clone(),
            client_cert_auth: options.client_cert_auth,
            crl: options.client_crl_file.clone(),
            version_min: options.tls_min_version,
        }),
        _ if secure => return Err("an https URL needs --cert-file and --key-file".into()),
        (None, None) => None,
        _ => {
            return Err(format!(
                "--cert-file and --key-file are given, but no URL of --listen-client-urls {} is https",
                options.listen_client_urls.join(",")
            ));
        }
    };
    if options.client_cert_auth && options.trusted_ca_file.is_none() {
        return Err("--client-cert-auth needs --trusted-ca-file".into());
    }
    let preset = options
        .durability_preset
        .iter()
        .flat_map(|_| KUBERNETES_IN_MEMORY);
    let preset = preset.map(|prefix| (prefix.to_owned(), Durability::Memory));
    let defaults = Options::default();
    let quota_bytes = match options.quota_backend_bytes {
        0 => defaults.quota_bytes,
        bytes => u64::try_from(bytes).unwrap_or(u64::MAX),
    };
    let doors = doors.into_iter().chain(metrics).collect();
    let auto_compaction = AutoCompaction::parse(
        &options.auto_compaction_mode,
        &options.auto_compaction_retention,
    )?;
    Ok(Options {
        auto_compaction,
        name: options.name.clone(),
        data_dir: Some(data_dir(options)),
        doors,
        advertise_client_urls: options.advertise_client_urls.clone(),
        tls,
        listener: options.listener,
        runtimes: std::thread::available_parallelism().map_or(1, usize::from),
        max_request_bytes: options.max_request_bytes,
        max_txn_ops: options.max_txn_ops,
        watches_per_stream_max: defaults.watches_per_stream_max,
        quota_bytes,
        progress_notify_interval: options.watch_progress_notify_interval,
        advertise_peer_urls: options.initial_advertise_peer_urls.clone(),
        json_gateway: options.enable_grpc_gateway,
        cors: options.cors.clone(),
        auth: AuthOptions {
            token: options.auth_token.clone(),
            token_ttl: match options.auth_token_ttl {
                // As etcd has it.
                0 => defaults.auth.token_ttl,
                seconds => Duration::from_secs(u64::from(seconds)),
            },
            bcrypt_cost: options.bcrypt_cost,
        },
        default_durability: if options.unsafe_no_fsync {
            Durability::Buffered
        } else {
            Durability::Fsync
        },
        // What is given by hand comes after the preset, and wins.
        durability: preset.chain(options.durability.iter().cloned()).collect(),
    })
}

/// The doors of a list of URLs; a name may stand for several addresses.
fn doors(urls: &[String], is_for_metrics: bool) -> Result<Vec<Door>, String> {
    let mut doors: Vec<Door> = Vec::new();
    for url in urls.iter().filter(|url| !url.is_empty()) {
        let (is_secure, addresses) = addresses(url)?;
        for address in addresses {
            if doors.iter().all(|door| door.address != address) {
                doors.push(Door {
                    address,
                    is_secure,
                    is_for_metrics,
                });
            }
        }
    }
    Ok(doors)
}

/// Whether a URL means TLS, and its addresses. Of a name that has some of the older protocol, only these: etcd's
/// clients try them first, and not every machine has the newer one.
fn addresses(url: &str) -> Result<(bool, Vec<SocketAddr>), String> {
    let (is_secure, place) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(place), _) => (false, place),
        (_, Some(place)) => (true, place),
        _ => {
            return Err(format!(
                "{url}: a URL to listen on begins with http:// or https://"
            ));
        }
    };
    let found = place
        .trim_end_matches('/')
        .to_socket_addrs()
        .map_err(|error| format!("{url}: {error}"))?;
    let all: Vec<SocketAddr> = found.collect();
    let older: Vec<SocketAddr> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    let addresses = if older.is_empty() { all } else { older };
    if addresses.is_empty() {
        return Err(format!("{url}: there is no such address"));
    }
    Ok((is_secure, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_classes_are_read_or_refused_with_a_reason() {
        let list = |text: &str| doors(&[text.to_owned()], false);
        let door = Door {
            address: ([127, 0, 0, 1], 2379).into(),
            is_secure: false,
            is_for_metrics: false,
        };
        assert_eq!(list("http://127.0.0.1:2379").unwrap(), [door]);
        assert_eq!(list("http://localhost:2379").unwrap(), [door]);
        assert!(list("https://127.0.0.1:1/").unwrap()[0].is_secure);
        let twice = [
            "http://127.0.0.1:2379".to_owned(),
            "http://localhost:2379".to_owned(),
        ];
        assert_eq!(doors(&twice, false).unwrap(), [door]);
        for bad in ["127.0.0.1:2379", "http://127.0.0.1", "unix://x"] {
            assert!(list(bad).is_err(), "{bad}");
        }
        assert_eq!(
            durability("/registry/events/=memory"),
            Ok(("/registry/events/".into(), Durability::Memory))
        );
        assert!(durability("/registry/events/").is_err());
        assert_eq!(listener("own"), Ok(Listener::Own));
        assert_eq!(listener("hyper"), Ok(Listener::Hyper));
        assert!(listener("").is_err());
        assert!(
            durability("x=disk")
                .unwrap_err()
                .contains("memory, buffered, fsync")
        );
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        for bad in [
            "",
            "5",
            "s",
            "5x",
            "-5s",
            "1..5s",
            "0s",
            "99999999999999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
