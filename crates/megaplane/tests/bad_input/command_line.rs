//! Flags that cannot be, a port that is taken, places that cannot be written.

use std::net::TcpListener;

use crate::support::{Folder, Plane, PlaneOptions, free_port, run_to_end};

pub(crate) fn impossible_flags() {
    let folder = Folder::new("flags");
    for (arguments, says) in [
        (&["up", "--nodes", "-1"][..], "--nodes"),
        (&["up", "--nodes", "many"], "--nodes"),
        (&["up", "--nodes", "99999999999999999999"], "--nodes"),
        (&["up", "--secure-port", "70000"], "--secure-port"),
        (&["up", "--secure-port", "https"], "--secure-port"),
        (&["up", "--bind-address", "nowhere"], "--bind-address"),
        (&["up", "--ephemeral", "--data-dir", "x"], "--data-dir"),
        (&["up", "--no-such-flag"], "--no-such-flag"),
        (&["up", "--nodes"], "--nodes"),
        (&["up", "extra"], "extra"),
        (&["fly"], "fly"),
        (&[], "Usage"),
    ] {
        run_to_end(&folder, arguments).is_refusal(&[says]);
    }
    let help = run_to_end(&folder, &["up", "--help"]);
    assert!(help.status.success());
    crate::support::assert_has(
        &help.stdout,
        &[
            "--nodes",
            "--data-dir",
            "--ephemeral",
            "--secure-port",
            "--bind-address",
            "--kubeconfig",
        ],
    );
    assert!(run_to_end(&folder, &["--version"]).status.success());
}

pub(crate) fn a_port_in_use() {
    let folder = Folder::new("port");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let arguments = [
        "up",
        "--ephemeral",
        "--kubeconfig",
        "kubeconfig",
        "--secure-port",
        &port,
    ];
    run_to_end(&folder, &arguments).is_refusal(&[&port, "in use", "--secure-port"]);
    // A plane does not share its port with another plane either.
    let plane = Plane::start(PlaneOptions {
        nodes: 0,
        persistent: false,
    });
    let port = plane.port().to_string();
    let arguments = [
        "up",
        "--ephemeral",
        "--kubeconfig",
        "kubeconfig",
        "--secure-port",
        &port,
    ];
    run_to_end(&folder, &arguments).is_refusal(&[&port, "in use"]);
    assert!(
        !folder.join("kubeconfig").exists(),
        "a refused start writes no kubeconfig"
    );
    assert_eq!(plane.get("/livez").status, 200);
    // An address that is not ours.
    let port = free_port().to_string();
    let arguments = [
        "up",
        "--ephemeral",
        "--kubeconfig",
        "kubeconfig",
        "--bind-address",
        "192.0.2.1",
        "--secure-port",
        &port,
    ];
    run_to_end(&folder, &arguments).is_refusal(&["192.0.2.1"]);
}

pub(crate) fn places_that_cannot_be_written() {
    let folder = Folder::new("places");
    let file = folder.write("file", "not a folder");
    let port = free_port().to_string();
    let inside = format!("{file}/data");
    let up = |more: &[&str]| {
        let mut arguments = vec!["up", "--secure-port", &port];
        arguments.extend_from_slice(more);
        run_to_end(&folder, &arguments)
    };
    up(&["--data-dir", &file]).is_refusal(&[&file]);
    up(&["--data-dir", &inside]).is_refusal(&[&file]);
    up(&["--ephemeral", "--kubeconfig", &format!("{file}/kubeconfig")]).is_refusal(&[&file]);
    let folder_path = folder.path().to_str().unwrap().to_owned();
    up(&["--ephemeral", "--kubeconfig", &folder_path]).is_refusal(&[&folder_path]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a folder");
}
