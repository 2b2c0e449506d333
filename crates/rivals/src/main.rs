//! `cargo run -p rivals -- --etcd … --kube-apiserver … --kube-scheduler …`: plays stories and tells where the two
//! disagree. See the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rivals::generate::weights;
use rivals::peers::{Binaries, Peers};
use rivals::play::{Story, play, prepare};

/// Holds our scheduler against a real kube-scheduler 1.20, decision by decision
#[derive(Parser)]
#[command(name = "rivals")]
struct Options {
    /// An etcd, 3.4 or newer
    #[arg(long, env = "RIVALS_ETCD")]
    etcd: PathBuf,
    /// A kube-apiserver 1.20
    #[arg(long, env = "RIVALS_KUBE_APISERVER")]
    kube_apiserver: PathBuf,
    /// A kube-scheduler 1.20
    #[arg(long, env = "RIVALS_KUBE_SCHEDULER")]
    kube_scheduler: PathBuf,
    /// Stories to play, each with a cluster of its own
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Steps of a story: most of them place a pod
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// Folder for the stories, one file each
    #[arg(long)]
    record: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut agreed = true;
    for &seed in &options.seeds {
        match runtime.block_on(one(&options, seed)) {
            Ok(story) => agreed &= tell(seed, &story),
            Err(error) => {
                eprintln!("error: seed {seed}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if agreed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn one(options: &Options, seed: u64) -> Result<Story, String> {
    let folder = std::env::temp_dir().join(format!("rivals-{}-{seed}", std::process::id()));
    let binaries = Binaries {
        etcd: options.etcd.clone(),
        kube_apiserver: options.kube_apiserver.clone(),
        kube_scheduler: options.kube_scheduler.clone(),
    };
    let (mut peers, api) = Peers::start(&binaries, &folder).await?;
    let prepared = prepare(&api, seed).await?;
    let log = peers.start_scheduler(&binaries.kube_scheduler, &weights(seed))?;
    let story = play(&api, &log, prepared, seed, options.steps).await?;
    if story.wrong.is_empty() {
        peers.end();
    }
    if let Some(folder) = &options.record {
        let path = folder.join(format!("seed-{seed}.jsonl"));
        let lines: Vec<String> = story.lines.iter().map(ToString::to_string).collect();
        std::fs::write(&path, lines.join("\n") + "\n")
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(story)
}

fn tell(seed: u64, story: &Story) -> bool {
    let tally = &story.tally;
    println!(
        "seed {seed}: {} pods placed, {} totals of nodes equal or told of, {} pods without a node, \
         {} evictions: {} disagreements",
        tally.placed,
        tally.scores,
        tally.nowhere,
        tally.evictions,
        story.wrong.len()
    );
    story.wrong.is_empty()
}
