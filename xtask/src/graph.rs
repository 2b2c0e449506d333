//! Draws the dependency picture of the rooms and checks that doors open one way.
//! Knows the floors; it does not know what happens inside a room.

use std::path::Path;
use std::process::Command;

use value::Value;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Floor {
    Words,
    Core,
    Edge,
    Shell,
    Workshop,
}

const FLOORS: &[(Floor, &str, &[&str])] = &[
    (Floor::Words, "words", &["kv", "value", "meta", "schema"]),
    (
        Floor::Core,
        "cores",
        &[
            "store",
            "registry",
            "placement",
            "devices",
            "reconcile",
            "http2",
        ],
    ),
    (Floor::Edge, "edges", &["wal", "rest", "etcd-wire", "bbolt"]),
    (
        Floor::Shell,
        "shells",
        &[
            "http2-shell",
            "client",
            "apiserver",
            "etcd-server",
            "migrate",
            "scheduler",
            "controllers",
            "fleet",
            "megaplane",
        ],
    ),
    (
        Floor::Workshop,
        "workshop",
        &[
            "bench",
            "chance",
            "linear",
            "spoil",
            "rivals",
            "xtask",
            "conformance",
        ],
    ),
];

/// Doors that are allowed although the floors alone would forbid them.
const EXCEPTIONS: &[(&str, &str)] = &[("wal", "store"), ("megaplane", "bench")];

/// Prints the picture; fails with the list of doors that open the wrong way.
pub(crate) fn run(repository: &Path) -> Result<(), String> {
    let edges = edges(repository)?;
    let mut wrong = Vec::new();
    for (floor, title, rooms) in FLOORS {
        println!("{title}");
        for room in *rooms {
            let Some((_, doors)) = edges.iter().find(|(name, _)| name == room) else {
                continue;
            };
            println!(
                "  {room:<12} -> {}",
                if doors.is_empty() {
                    "-".to_owned()
                } else {
                    doors.join(" ")
                }
            );
            for door in doors {
                if !allowed(*floor, room, door) {
                    wrong.push(format!("{room} must not know {door}"));
                }
            }
        }
    }
    for (room, _) in &edges {
        if floor_of(room).is_none() {
            wrong.push(format!(
                "{room} stands on no floor: add it to xtask/src/graph.rs"
            ));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn allowed(floor: Floor, room: &str, door: &str) -> bool {
    if EXCEPTIONS.contains(&(room, door)) {
        return true;
    }
    let Some(target) = floor_of(door) else {
        return false;
    };
    match floor {
        Floor::Words | Floor::Edge => target == Floor::Words,
        Floor::Core => matches!(target, Floor::Words | Floor::Core),
        Floor::Shell => target != Floor::Workshop,
        Floor::Workshop => true,
    }
}

fn floor_of(room: &str) -> Option<Floor> {
    FLOORS
        .iter()
        .find(|(_, _, rooms)| rooms.contains(&room))
        .map(|(floor, _, _)| *floor)
}

/// Every room with the rooms it depends on, tests aside.
fn edges(repository: &Path) -> Result<Vec<(String, Vec<String>)>, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(repository)
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata without packages")?;
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut edges: Vec<(String, Vec<String>)> = packages
        .iter()
        .filter_map(|package| {
            let mut doors: Vec<String> = package["dependencies"]
                .as_array()?
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            doors.sort();
            doors.dedup();
            Some((package["name"].as_str()?.to_owned(), doors))
        })
        .collect();
    edges.sort();
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_open_one_way() {
        assert!(allowed(Floor::Core, "store", "kv"));
        assert!(allowed(Floor::Core, "registry", "schema"));
        assert!(allowed(Floor::Edge, "wal", "store"));
        assert!(allowed(Floor::Shell, "megaplane", "bench"));
        assert!(!allowed(Floor::Words, "kv", "store"));
        assert!(!allowed(Floor::Edge, "rest", "registry"));
        assert!(!allowed(Floor::Core, "store", "wal"));
        assert!(!allowed(Floor::Shell, "apiserver", "bench"));
    }
}
