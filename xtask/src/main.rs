//! Workshop commands: `cargo xtask codegen | etcd-api | oracle | graph | protoc | ci`.
//!
//! What this deliberately does not know: how the server runs. It only prepares and checks the sources.

mod codegen;
mod etcd_api;
mod graph;
mod oracle;
mod protoc;
mod protos;
mod sources;
mod supplement;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask <command>

  codegen [--schema DIR]   regenerate crates/schema/src/table.txt from the published Kubernetes schema
  etcd-api                 regenerate the etcd messages and services from crates/etcd-wire/proto
  oracle  [--schema DIR]   check every published sample object in JSON, YAML and protobuf, byte for byte
  graph                    print which room opens a door to which, and fail if one opens the wrong way
  protoc ARGUMENTS         descriptors from .proto files, as build scripts ask protoc for them (scripts/protoc)
  ci                       run .ci/run

DIR defaults to $MEGAPLANE_KUBE_SCHEMA, else ../shared/kube-schema beside the repository.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = arguments.first().map(String::as_str).unwrap_or("");
    let result = match command {
        "codegen" => {
            schema_directory(&arguments[1..]).and_then(|dir| codegen::run(&dir, &repository()))
        }
        "oracle" => schema_directory(&arguments[1..]).and_then(|dir| oracle::run(&dir)),
        "etcd-api" => etcd_api::run(&repository()),
        "graph" => graph::run(&repository()),
        "protoc" => protoc::run(&arguments[1..]),
        "ci" => ci(),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn schema_directory(arguments: &[String]) -> Result<PathBuf, String> {
    let directory = match arguments {
        [] => std::env::var_os("MEGAPLANE_KUBE_SCHEMA")
            .map(PathBuf::from)
            .unwrap_or_else(|| repository().join("../shared/kube-schema")),
        [flag, directory] if flag == "--schema" => PathBuf::from(directory),
        _ => return Err(USAGE.to_owned()),
    };
    if !directory.is_dir() {
        return Err(format!(
            "{} is not a directory. The schema archives are only needed to regenerate or check the table; \
             give their place with --schema DIR or MEGAPLANE_KUBE_SCHEMA.",
            directory.display()
        ));
    }
    Ok(directory)
}

fn ci() -> Result<(), String> {
    let script = repository().join(".ci/run");
    let status = Command::new(&script)
        .current_dir(repository())
        .status()
        .map_err(|error| format!("cannot run {}: {error}", script.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(".ci/run failed: {status}"))
    }
}
