//! The binary: one subcommand per way to run Megaplane.
//!
//! Reads flags and starts rooms. Decides nothing about Kubernetes.

mod census;
mod cli;
mod move_command;
mod paths;
mod screen;
mod store_command;
mod threads;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

/// The allocator with the smallest overhead for very many small blocks, by measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let result = match cli.command {
        cli::Command::Up(options) => up::run(&options),
        cli::Command::Store(options) => store_command::run(&options),
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

fn version(json: bool) {
    let kubernetes = apiserver::version_info();
    if json {
        println!(
            "{}",
            serde_json::json!({"megaplane": env!("CARGO_PKG_VERSION"), "kubernetes": kubernetes})
        );
    } else {
        let served = kubernetes["gitVersion"].as_str().unwrap_or_default();
        println!(
            "megaplane {} (Kubernetes API {served})",
            env!("CARGO_PKG_VERSION")
        );
    }
}
