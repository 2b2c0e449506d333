//! The binary: one subcommand per way to run Megaplane.
//!
//! Reads flags and starts rooms. Decides nothing about Kubernetes.

mod census;
mod cli;
mod etcd_words;
mod feature_gates;
mod fleet_command;
mod fleet_files;
mod move_command;
mod paths;
mod room;
mod scheduler_command;
mod screen;
mod secure_port;
mod store_command;
mod threads;
mod top;
mod up;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

/// The allocator with the smallest overhead for very many small blocks, by measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (arguments, notes) = match arguments() {
        Ok(found) => found,
        Err(error) => {
            eprintln!("megaplane: {error}");
            return ExitCode::FAILURE;
        }
    };
    let cli = cli::Cli::parse_from(arguments);
    let result = match cli.command {
        cli::Command::Up(options) => up::run(&options),
        cli::Command::Scheduler(options) => scheduler_command::run(&options),
        cli::Command::SchedulerShard(options) => scheduler_command::run_shard(&options),
        cli::Command::Fleet(options) => fleet_command::run(&options),
        cli::Command::Top(options) => top::run(&options),
        cli::Command::Store(options) => store_command::run(&options, &notes),
        cli::Command::Bench(options) => bench::run(&options.into()).map_err(Into::into),
        cli::Command::Version { json } => {
            version(json);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("megaplane: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line; that of `store` with etcd's words turned into ours, and what is to be said of them.
fn arguments() -> Result<(Vec<OsString>, Vec<String>), String> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let is_store = arguments.get(1).is_some_and(|word| word == "store");
    let moves = arguments
        .get(2)
        .and_then(|word| word.to_str())
        .is_some_and(move_command::is_command);
    let texts = arguments
        .iter()
        .skip(2)
        .map(|word| word.to_str().map(str::to_owned));
    // What is no text is no word of etcd's, and our parser says so.
    let texts: Option<Vec<String>> = texts.collect();
    let Some(texts) = texts.filter(|_| is_store && !moves) else {
        return Ok((arguments, Vec::new()));
    };
    let variables = std::env::vars_os();
    let variables = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let done = etcd_words::translate(&texts, variables, read)?;
    let flags = done.flags.into_iter().map(OsString::from);
    Ok((
        arguments.into_iter().take(2).chain(flags).collect(),
        done.notes,
    ))
}

fn version(json: bool) {
    let kubernetes = apiserver::version_info();
    if json {
        println!(
            "{}",
            value::json!({"megaplane": env!("CARGO_PKG_VERSION"), "kubernetes": kubernetes})
        );
    } else {
        let served = kubernetes["gitVersion"].as_str().unwrap_or_default();
        println!(
            "megaplane {} (Kubernetes API {served})",
            env!("CARGO_PKG_VERSION")
        );
    }
}
