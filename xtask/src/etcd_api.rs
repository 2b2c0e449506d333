//! Rust from the etcd API's .proto files: messages into `etcd-wire`, services into `etcd-server`.
//!
//! Needs no protoc. What comes out is committed, so that a build needs none of this.

use std::path::Path;

/// Regenerates both.
pub fn run(repository: &Path) -> Result<(), String> {
    let protos = repository.join("crates/etcd-wire/proto");
    let files = protox::compile(["rpc.proto", "health.proto"], [&protos])
        .map_err(|error| error.to_string())?;
    let messages = folder(repository, "crates/etcd-wire/src/generated")?;
    prost_build::Config::new()
        .bytes(["."])
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
        .extern_path(".grpc.health.v1", "::etcd_wire::health")
        .compile_fds(files)
        .map_err(|error| format!("{}: {error}", services.display()))?;
    Ok(())
}

fn folder(repository: &Path, path: &str) -> Result<std::path::PathBuf, String> {
    let folder = repository.join(path);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{path}: {error}"))?;
    Ok(folder)
}
