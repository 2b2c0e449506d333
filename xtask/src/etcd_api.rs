//! Rust from the etcd API's .proto files: messages into `etcd-wire`, services into `etcd-server`.
//!
//! Needs no protoc. What comes out is committed, so that a build needs none of this. Beside the Rust there is the
//! same API as data, `api.binpb`: what reflection tells and what the JSON gateway reads.

use std::path::Path;

use prost::Message as _;

const FILES: [&str; 6] = [
    "rpc.proto",
    "lock.proto",
    "election.proto",
    "health.proto",
    "reflection.proto",
    "reflection_v1alpha.proto",
];

/// Its messages are those of the final version: one set of Rust types serves both.
const ALPHA: &str = ".grpc.reflection.v1alpha";

/// Regenerates all of it.
pub fn run(repository: &Path) -> Result<(), String> {
    let protos = repository.join("crates/etcd-wire/proto");
    let files = protox::compile(FILES, [&protos]).map_err(|error| error.to_string())?;
    let messages = folder(repository, "crates/etcd-wire/src/generated")?;
    let mut data = files.clone();
    for file in &mut data.file {
        // Comments and positions: nobody reads them at run time.
        file.source_code_info = None;
    }
    let path = messages.join("api.binpb");
    std::fs::write(&path, data.encode_to_vec())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    prost_build::Config::new()
        .bytes(["."])
        .extern_path(ALPHA, "crate::reflection")
        .out_dir(&messages)
        .compile_fds(files.clone())
        .map_err(|error| format!("{}: {error}", messages.display()))?;
    let services = folder(repository, "crates/etcd-server/src/generated")?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(&services)
        .extern_path(".mvccpb", "::etcd_wire::mvccpb")
        .extern_path(".authpb", "::etcd_wire::authpb")
        .extern_path(".etcdserverpb", "::etcd_wire::etcdserverpb")
        .extern_path(".v3lockpb", "::etcd_wire::v3lockpb")
        .extern_path(".v3electionpb", "::etcd_wire::v3electionpb")
        .extern_path(".grpc.health.v1", "::etcd_wire::health")
        .extern_path(".grpc.reflection.v1", "::etcd_wire::reflection")
        .extern_path(ALPHA, "::etcd_wire::reflection")
        .compile_fds(files)
        .map_err(|error| format!("{}: {error}", services.display()))?;
    Ok(())
}

fn folder(repository: &Path, path: &str) -> Result<std::path::PathBuf, String> {
    let folder = repository.join(path);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{path}: {error}"))?;
    Ok(folder)
}
