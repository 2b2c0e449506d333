//! `megaplane store restore`, `import` and `export`: moving in and out of etcd, with a line that says how far it is.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use migrate::{
    Bump, Compared, HashCheck, Imported, Progress, SourceOptions, Until, export_directory,
    export_source, import_file, import_source,
};

use crate::screen::say;
use crate::threads::{self, now_micros};

/// How often a line is printed where there is no terminal.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// What to do with a store besides running it.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Make a data directory from a snapshot that `etcdctl snapshot save` made, of etcd or of a store
    #[command(after_help = "\
Example:
  megaplane store restore backup.db --data-dir /var/lib/megaplane-store
  megaplane store --data-dir /var/lib/megaplane-store

Clients that have seen revisions newer than the snapshot must not see them again with other contents:
  megaplane store restore backup.db --data-dir DIR --bump-revision 1000000000 --mark-compacted")]
    Restore(RestoreOptions),
    /// Make a data directory from etcd's files: a snapshot, or member/snap/db of a member that was stopped
    #[command(after_help = "\
Example, on a machine whose etcd has been stopped:
  megaplane store import /var/lib/etcd/member/snap/db --data-dir /var/lib/megaplane-store

Example, of a running etcd, with a short pause of its writers at the end:
  megaplane store import --from http://127.0.0.1:2379 --follow --data-dir /var/lib/megaplane-store
  (stop the writers, then Ctrl-C; it takes in the rest, compares checksums and says what to do)")]
    Import(ImportOptions),
    /// Write an etcd snapshot of a stopped store, for `etcdctl snapshot restore`
    #[command(after_help = "\
Example, back to etcd:
  megaplane store export --data-dir /var/lib/megaplane-store --out store.db
  etcdctl snapshot restore store.db --data-dir /var/lib/etcd

Of a running store, `etcdctl snapshot save` takes one.")]
    Export(ExportOptions),
}

/// Flags of `megaplane store restore`.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make; it must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Do not look at the SHA-256 at the end of the file
    #[arg(long)]
    skip_hash_check: bool,
    /// Go on so many revisions after the snapshot's last one
    #[arg(long, value_name = "N", requires = "mark_compacted")]
    bump_revision: Option<i64>,
    /// Give up all history, so that every watch and list begins anew
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
}

/// Flags of `megaplane store import`.
#[derive(Debug, Args)]
pub struct ImportOptions {
    /// The snapshot, or etcd's database
    #[arg(
        value_name = "FILE",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    file: Option<PathBuf>,
    /// Client URL of a running etcd to copy instead: a snapshot, then every change since
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// Carry changes over until Ctrl-C or --until-revision [default: until it has caught up]
    // Said twice: a flag that is needed is not missed where it would be refused.
    #[arg(long, requires = "from", conflicts_with = "file")]
    follow: bool,
    /// Stop after this revision
    #[arg(long, value_name = "R", requires = "from", conflicts_with = "file")]
    until_revision: Option<i64>,
    /// The data directory to make; it must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// How to show a running etcd who asks.
#[derive(Debug, Args)]
pub struct Credentials {
    /// Authority whose server certificates are good, PEM
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// NAME:PASSWORD, where access rules are on
    #[arg(long, value_name = "NAME:PASSWORD", env = "ETCDCTL_USER", hide_env_values = true, value_parser = user)]
    user: Option<(String, String)>,
}

fn user(text: &str) -> Result<(String, String), String> {
    let (name, password) = text.split_once(':').ok_or("it should be NAME:PASSWORD")?;
    Ok((name.to_owned(), password.to_owned()))
}

impl Credentials {
    fn source(&self, url: &str) -> SourceOptions {
        SourceOptions {
            url: url.to_owned(),
            ca_cert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            user: self.user.clone(),
        }
    }
}

/// Flags of `megaplane store export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// The data directory of a store that is stopped
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "endpoint",
        conflicts_with = "endpoint"
    )]
    data_dir: Option<PathBuf>,
    /// Client URL of a running store instead
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// The snapshot to write; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Whether the word after `store` is one of these commands, which know none of etcd's words and variables.
pub fn is_command(word: &str) -> bool {
    StoreCommand::has_subcommand(word) || word == "help"
}

/// Does it.
pub fn run(command: &StoreCommand) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        StoreCommand::Restore(options) => {
            let check = if options.skip_hash_check {
                HashCheck::Skipped
            } else {
                HashCheck::Required
            };
            let bump = options.bump_revision.map(|revisions| Bump { revisions });
            import(&options.file, &options.data_dir, check, bump)
        }
        StoreCommand::Import(options) => match (&options.file, &options.from) {
            (Some(file), _) => import(file, &options.data_dir, HashCheck::IfThere, None),
            (None, Some(url)) => import_running(options, url),
            (None, None) => Err("name a file, or a running etcd with --from".into()),
        },
        StoreCommand::Export(options) => {
            let mut line = Line::new();
            let out = &options.out;
            let exported = match (&options.data_dir, &options.endpoint) {
                (Some(dir), _) => {
                    export_directory(dir, out, now_micros(), |progress| line.show(progress))?
                }
                (None, Some(url)) => {
                    let source = options.credentials.source(url);
                    threads::block_on(export_source(&source, out, |progress| line.show(progress)))??
                }
                (None, None) => return Err("name a data directory or an endpoint".into()),
            };
            line.close();
            say(&format!(
                "{}: {} versions up to revision {}, {} bytes. To put it under an etcd: etcdctl snapshot restore {}",
                out.display(),
                exported.versions,
                exported.revision,
                exported.bytes,
                out.display()
            ));
            Ok(())
        }
    }
}

/// Copies a running etcd. Ctrl-C and SIGTERM end the following, not the copy.
fn import_running(options: &ImportOptions, url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let until = match (options.until_revision, options.follow) {
        (Some(revision), _) => Until::Revision(revision),
        (None, true) => Until::Told,
        (None, false) => Until::CaughtUp,
    };
    let source = options.credentials.source(url);
    let dir = &options.data_dir;
    let mut line = Line::new();
    let (imported, compared) = threads::block_on(import_source(
        &source,
        dir,
        until,
        now_micros,
        threads::signal(),
        |progress| line.show(progress),
    ))??;
    line.close();
    say(&match compared {
        Compared::Equal => format!(
            "checked: at revision {} the copy's checksum of the keys is the source's",
            imported.revision
        ),
        Compared::Unknown(why) => format!(
            "WARNING: not compared with the source: {why}. Compare HashKV at revision {} by hand before you rely on the copy",
            imported.revision
        ),
    });
    for text in report(&imported, dir) {
        say(&text);
    }
    say(&format!(
        "What is written to {url} after revision {} is not in the copy: stop its writers before the last step",
        imported.revision
    ));
    Ok(())
}

fn import(
    file: &std::path::Path,
    dir: &std::path::Path,
    check: HashCheck,
    bump: Option<Bump>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut line = Line::new();
    let imported = import_file(file, dir, check, bump, now_micros(), |progress| {
        line.show(progress);
    })?;
    line.close();
    for text in report(&imported, dir) {
        say(&text);
    }
    Ok(())
}

/// What was carried over, and what to do next.
fn report(imported: &Imported, dir: &std::path::Path) -> Vec<String> {
    let history = match imported.compacted {
        Some(revision) => format!("history from revision {revision} on"),
        None => "the whole history".to_owned(),
    };
    let mut lines = vec![format!(
        "{}: {} versions, {} leases, {} users and {} roles, {history}; it goes on after revision {}",
        dir.display(),
        imported.versions,
        imported.leases,
        imported.users,
        imported.roles,
        imported.revision
    )];
    if imported.auth_enabled {
        lines.push(
            "Access rules are on: clients log in with the names and passwords they have".to_owned(),
        );
    }
    lines.push(format!(
        "Start it: megaplane store --data-dir {}",
        dir.display()
    ));
    lines
}

/// A line that says how far it is: drawn again and again on a terminal, printed now and then elsewhere.
struct Line {
    bar: Option<ProgressBar>,
    printed: Instant,
}

impl Line {
    fn new() -> Line {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Line {
            bar,
            printed: Instant::now(),
        }
    }

    fn show(&mut self, progress: Progress) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text(progress));
                bar.tick();
            }
            None if self.printed.elapsed() >= PRINT_INTERVAL => {
                self.printed = Instant::now();
                say(&text(progress));
            }
            None => {}
        }
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn text(progress: Progress) -> String {
    match progress {
        Progress::Checking {
            done_bytes,
            total_bytes,
        } => format!(
            "checksum: {} of {} MiB",
            done_bytes >> 20,
            total_bytes >> 20
        ),
        Progress::Copying {
            versions,
            revision,
            end,
        } => format!("copying: {versions} versions, at revision {revision} of {end}"),
        Progress::Downloading {
            done_bytes,
            total_bytes,
        } => format!(
            "snapshot: {} of {} MiB",
            done_bytes >> 20,
            total_bytes >> 20
        ),
        Progress::Following {
            versions,
            revision,
            target: Some(target),
        } => format!("catching up: {versions} versions, at revision {revision} of {target}"),
        Progress::Following {
            versions, revision, ..
        } => format!(
            "following: {versions} versions, at revision {revision}; stop the writers, then Ctrl-C"
        ),
        Progress::Comparing => "comparing".to_owned(),
    }
}
