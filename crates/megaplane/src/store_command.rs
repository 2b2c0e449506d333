//! `megaplane store`: the etcd v3 server, under etcd's own flag names.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use etcd_server::{Listener, Options, Server, TlsFiles};
use kv::Durability;

use crate::{screen, threads};

/// Flags of `megaplane store`.
#[derive(Debug, Args)]
pub struct StoreOptions {
    /// Name of this member
    #[arg(long, default_value = "default", env = "ETCD_NAME")]
    name: String,
    /// Where everything is kept [default: NAME.etcd in the current folder, as etcd does]
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// URL to listen on for clients, http or https
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://localhost:2379",
        env = "ETCD_LISTEN_CLIENT_URLS"
    )]
    listen_client_urls: String,
    /// URLs to tell clients about, separated by commas [default: the URL listened on]
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        env = "ETCD_ADVERTISE_CLIENT_URLS"
    )]
    advertise_client_urls: Vec<String>,
    /// Server certificate, PEM (needed for https)
    #[arg(long, value_name = "FILE", env = "ETCD_CERT_FILE")]
    cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", env = "ETCD_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// Authority whose client certificates are good, PEM
    #[arg(long, value_name = "FILE", env = "ETCD_TRUSTED_CA_FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Refuse clients without a certificate
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH")]
    client_cert_auth: bool,
    /// Bytes a request may have
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 1_572_864,
        env = "ETCD_MAX_REQUEST_BYTES"
    )]
    max_request_bytes: usize,
    /// Operations a transaction may have
    #[arg(
        long,
        value_name = "N",
        default_value_t = 128,
        env = "ETCD_MAX_TXN_OPS"
    )]
    max_txn_ops: usize,
    /// Bytes a collection (all keys of one Kubernetes kind) may hold, history included; 0 for etcd's 2 GiB
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        env = "ETCD_QUOTA_BACKEND_BYTES"
    )]
    quota_backend_bytes: u64,
    /// Seconds between progress notices to watches that ask for them
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    watch_progress_notify_seconds: u64,
    /// Do not wait for the disk: a crash may lose what was acknowledged
    #[arg(long, env = "ETCD_UNSAFE_NO_FSYNC")]
    unsafe_no_fsync: bool,
    /// How keys under a prefix are kept: PREFIX=memory, PREFIX=buffered or PREFIX=fsync; may be repeated
    #[arg(long, value_name = "PREFIX=CLASS", value_parser = durability)]
    durability: Vec<(String, Durability)>,
    /// Who speaks HTTP/2: this program's own codec, or the library that also speaks HTTP/1.1
    #[arg(
        long,
        value_name = "own|hyper",
        default_value = "own",
        value_parser = listener,
        env = "MEGAPLANE_LISTENER"
    )]
    listener: Listener,
    /// Log filter: error, warn, info, debug, or per module
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

/// Runs until a signal comes.
pub fn run(options: &StoreOptions) -> Result<(), Box<dyn std::error::Error>> {
    screen::start_logging(&options.log)?;
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
    let (secure, listen) = address(&options.listen_client_urls)?;
    let tls = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) if secure => Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            trusted_ca: options.trusted_ca_file.clone(),
            client_cert_auth: options.client_cert_auth,
        }),
        _ if secure => return Err("an https URL needs --cert-file and --key-file".into()),
        (None, None) => None,
        _ => {
            return Err(format!(
                "--cert-file and --key-file are given, but --listen-client-urls {} is not https",
                options.listen_client_urls
            ));
        }
    };
    if options.client_cert_auth && options.trusted_ca_file.is_none() {
        return Err("--client-cert-auth needs --trusted-ca-file".into());
    }
    let defaults = Options::default();
    let quota_bytes = match options.quota_backend_bytes {
        0 => defaults.quota_bytes,
        bytes => bytes,
    };
    Ok(Options {
        name: options.name.clone(),
        data_dir: Some(data_dir(options)),
        listen,
        advertise_client_urls: options.advertise_client_urls.clone(),
        tls,
        listener: options.listener,
        runtimes: std::thread::available_parallelism().map_or(1, usize::from),
        max_request_bytes: options.max_request_bytes,
        max_txn_ops: options.max_txn_ops,
        quota_bytes,
        progress_notify_interval: Duration::from_secs(options.watch_progress_notify_seconds.max(1)),
        default_durability: if options.unsafe_no_fsync {
            Durability::Buffered
        } else {
            Durability::Fsync
        },
        durability: options.durability.clone(),
        ..defaults
    })
}

/// Scheme and address of a client URL.
fn address(url: &str) -> Result<(bool, SocketAddr), String> {
    let (secure, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => {
            return Err(format!(
                "{url}: a client URL begins with http:// or https://"
            ));
        }
    };
    if rest.contains(',') {
        return Err("one URL at a time: this release listens on one address".into());
    }
    let place = rest.trim_end_matches('/');
    let mut found = place
        .to_socket_addrs()
        .map_err(|error| format!("{url}: {error}"))?;
    // `localhost` may be both: etcd's clients try the older protocol first.
    let all: Vec<SocketAddr> = found.by_ref().collect();
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first
        .map(|address| (secure, *address))
        .ok_or_else(|| format!("{url}: there is no such address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_classes_are_read_or_refused_with_a_reason() {
        assert_eq!(
            address("http://127.0.0.1:2379").unwrap(),
            (false, ([127, 0, 0, 1], 2379).into())
        );
        assert!(address("https://127.0.0.1:1/").unwrap().0);
        for bad in [
            "127.0.0.1:2379",
            "http://127.0.0.1",
            "unix://x",
            "http://a:1,http://b:2",
        ] {
            assert!(address(bad).is_err(), "{bad}");
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
}
