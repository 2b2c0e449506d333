//! `megaplane store restore`, `import` and `export`: moving in and out of etcd, with a line that says how far it is.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use migrate::{Bump, HashCheck, Imported, Progress, export_directory, import_file};

use crate::screen::say;
use crate::threads::now_micros;

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
  megaplane store import /var/lib/etcd/member/snap/db --data-dir /var/lib/megaplane-store")]
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
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make; it must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Flags of `megaplane store export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// The data directory of a store that is stopped
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The snapshot to write; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
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
        StoreCommand::Import(options) => {
            import(&options.file, &options.data_dir, HashCheck::IfThere, None)
        }
        StoreCommand::Export(options) => {
            let mut line = Line::new();
            let (dir, out) = (&options.data_dir, &options.out);
            let exported =
                export_directory(dir, out, now_micros(), |progress| line.show(progress))?;
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
            "WARNING: the file says that access rules are on. They are kept, but this release does not enforce them: every client that can connect may do everything".to_owned(),
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
    }
}
