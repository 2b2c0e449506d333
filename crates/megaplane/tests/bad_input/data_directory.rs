//! Data directories that are somebody else's, or not as they were left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{Exit, Folder, Plane, PlaneOptions, free_port, run_to_end};

fn persistent() -> Plane {
    Plane::start(PlaneOptions {
        nodes: 0,
        persistent: true,
    })
}

/// A start in a data directory, that should not succeed.
fn start_in(folder: &Folder, data: &Path) -> Exit {
    let (port, data) = (free_port().to_string(), data.to_str().unwrap());
    run_to_end(
        folder,
        &[
            "up",
            "--secure-port",
            &port,
            "--kubeconfig",
            "kubeconfig",
            "--data-dir",
            data,
        ],
    )
}

pub(crate) fn locked_by_another() {
    let plane = persistent();
    let folder = Folder::new("locked");
    let data = plane.data_dir();
    start_in(&folder, &data).is_refusal(&[data.to_str().unwrap(), "in use by another process"]);
    assert_eq!(plane.get("/livez").status, 200);
    plane
        .kubectl("create configmap still-writable -n default")
        .ok();
}

pub(crate) fn of_another_format_or_damaged() {
    let mut plane = persistent();
    for name in ["one", "two", "three", "four"] {
        plane
            .kubectl(&format!(
                "create configmap {name} -n default --from-literal=a={}",
                "x".repeat(2000)
            ))
            .ok();
    }
    // Killed: what it wrote is in the log, and the log is what a start has to read.
    plane.kill();
    let folder = Folder::new("damaged");
    let whole = folder_content(&plane.data_dir());
    another_format(&folder, &whole);
    a_flipped_byte(&folder, &whole);
    a_missing_segment(&folder, &whole);
    a_torn_end(&mut plane, &whole);
}

fn another_format(folder: &Folder, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    let data = folder.join("format");
    lay_out(&data, whole);
    let path = file_ending(&data, "FORMAT");
    std::fs::write(&path, "megaplane-wal 99\n").unwrap();
    refused_without_a_change(folder, &data, &["megaplane-wal 99", "megaplane-wal 2"]);
    // Something else altogether.
    std::fs::write(&path, b"\xff\xfe\0").unwrap();
    refused_without_a_change(folder, &data, &["format"]);
    std::fs::remove_file(&path).unwrap();
    refused_without_a_change(folder, &data, &["FORMAT", "missing"]);
}

fn a_flipped_byte(folder: &Folder, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    for place in ["front", "middle"] {
        let data = folder.join(place);
        lay_out(&data, whole);
        let path = file_ending(&data, ".seg");
        let mut bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let at = if place == "front" { 5 } else { used / 2 };
        bytes[at] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        refused_without_a_change(
            folder,
            &data,
            &[
                path.to_str().unwrap(),
                "is damaged at byte",
                "nothing was changed",
            ],
        );
    }
}

fn a_missing_segment(folder: &Folder, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    let data = folder.join("missing");
    lay_out(&data, whole);
    let path = file_ending(&data, ".seg");
    std::fs::remove_file(&path).unwrap();
    refused_without_a_change(folder, &data, &["missing"]);
}

/// What a crash leaves behind is no damage: the last write, never acknowledged, is dropped and the plane starts.
fn a_torn_end(plane: &mut Plane, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    let data = plane.data_dir();
    lay_out(&data, whole);
    let path = file_ending(&data, ".seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes.truncate(used - 3);
    std::fs::write(&path, bytes).unwrap();
    plane.start_again();
    for name in ["one", "two", "three"] {
        plane
            .kubectl(&format!("get configmap {name} -n default"))
            .ok();
    }
}

fn refused_without_a_change(folder: &Folder, data: &Path, says: &[&str]) {
    let before = folder_content(data);
    start_in(folder, data).is_refusal(says);
    assert_eq!(
        before,
        folder_content(data),
        "a refused start changes nothing"
    );
}

/// All files below a folder, except what is made anew at each start.
fn folder_content(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut content = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("LOCK")
                && !path.components().any(|part| part.as_os_str() == "pki")
            {
                content.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                );
            }
        }
    }
    content
}

/// Makes a folder hold exactly these files.
fn lay_out(root: &Path, content: &BTreeMap<PathBuf, Vec<u8>>) {
    let _ = std::fs::remove_dir_all(root);
    for (name, bytes) in content {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The largest file whose name ends so.
fn file_ending(root: &Path, end: &str) -> PathBuf {
    let content = folder_content(root);
    let named = content
        .iter()
        .filter(|(path, _)| path.to_str().unwrap().ends_with(end));
    let largest = named.max_by_key(|(_, bytes)| bytes.len());
    root.join(
        largest
            .unwrap_or_else(|| panic!("no {end} in {:?}", content.keys()))
            .0,
    )
}
