//! etcd's own command line against us. Needs the `etcdctl` beside the etcd that `MEGAPLANE_ETCD` names.

mod common;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::Ours;

struct Etcdctl {
    binary: PathBuf,
    endpoint: String,
}

impl Etcdctl {
    /// Runs it; answers whether it succeeded and what it printed.
    fn run(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = Command::new(&self.binary)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not run: {error}", self.binary.display()));
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// Runs it; it must succeed.
    fn good(&self, arguments: &[&str]) -> String {
        let (is_good, text) = self.run(arguments, "");
        assert!(is_good, "{arguments:?}: {text}");
        text
    }

    /// Runs it; it must fail.
    fn bad(&self, arguments: &[&str]) -> String {
        let (is_good, text) = self.run(arguments, "");
        assert!(!is_good, "{arguments:?}: {text}");
        text
    }
}

#[test]
fn etcds_own_command_line_finds_an_etcd() {
    let Some(etcd) = std::env::var_os("MEGAPLANE_ETCD") else {
        eprintln!(
            "not tried with etcdctl: MEGAPLANE_ETCD names no etcd (./test and scripts/fetch-etcd do)"
        );
        return;
    };
    let ours = Ours::in_memory();
    let ctl = Etcdctl {
        binary: PathBuf::from(etcd).with_file_name("etcdctl"),
        endpoint: ours.address.to_string(),
    };
    assert_eq!(ctl.good(&["put", "foo", "bar"]), "OK\n");
    assert_eq!(ctl.good(&["get", "foo"]), "foo\nbar\n");
    assert_eq!(ctl.good(&["put", "/registry/pods/a", "1"]), "OK\n");
    assert_eq!(
        ctl.good(&["get", "/registry/", "--prefix", "--keys-only"]),
        "/registry/pods/a\n\n"
    );
    assert_eq!(ctl.good(&["del", "foo", "--prev-kv"]), "1\nfoo\nbar\n");
    let txn = ctl.run(&["txn"], "mod(\"x\") = \"0\"\n\nput x 1\n\nget x\n\n");
    assert_eq!(txn, (true, "SUCCESS\n\nOK\n".into()));
    let granted = ctl.good(&["lease", "grant", "60"]);
    let lease = granted.split(' ').nth(1).unwrap();
    ctl.good(&["put", "leased", "v", "--lease", lease]);
    assert!(
        ctl.good(&["lease", "timetolive", lease, "--keys"])
            .contains("attached keys([leased])")
    );
    assert!(
        ctl.good(&["lease", "keep-alive", "--once", lease])
            .contains("keepalived with TTL(60)")
    );
    assert!(ctl.good(&["lease", "list"]).contains(lease));
    assert!(ctl.good(&["lease", "revoke", lease]).contains("revoked"));
    assert_eq!(ctl.good(&["get", "leased"]), "");
    assert_eq!(ctl.good(&["compaction", "4"]), "compacted revision 4\n");
    assert!(
        ctl.bad(&["compaction", "4"])
            .contains("mvcc: required revision has been compacted")
    );
    assert!(
        ctl.bad(&["get", "x", "--rev", "99"])
            .contains("mvcc: required revision is a future revision")
    );
    assert!(
        ctl.good(&["endpoint", "status"])
            .contains(etcd_server::ETCD_VERSION)
    );
    assert!(ctl.good(&["endpoint", "health"]).contains("is healthy"));
    assert!(ctl.good(&["member", "list"]).contains("started, default"));
    assert_eq!(ctl.good(&["alarm", "list"]), "");
    assert!(ctl.good(&["defrag"]).contains("Finished defragmenting"));
    // Its lock and election are made of leases, transactions and watches.
    assert!(ctl.good(&["lock", "l", "echo", "held"]).contains("held"));
    elects_one_after_the_other(&ctl);
    asks_for_users(&ctl);
}

/// Users, roles and what they may do, from the first user to the end of the rules.
fn asks_for_users(ctl: &Etcdctl) {
    ctl.good(&["put", "ann/a", "1"]);
    assert!(
        ctl.good(&["user", "add", "root:secret"])
            .contains("User root created")
    );
    ctl.good(&["user", "add", "ann:p"]);
    assert!(
        ctl.good(&["role", "add", "ann"])
            .contains("Role ann created")
    );
    ctl.good(&[
        "role",
        "grant-permission",
        "ann",
        "readwrite",
        "ann/",
        "--prefix",
    ]);
    ctl.good(&["user", "grant-role", "ann", "ann"]);
    // It makes the role root, and gives it to root.
    assert!(
        ctl.good(&["auth", "enable"])
            .contains("Authentication Enabled")
    );
    let by = |user: &str, arguments: &[&str]| {
        let all = [&["--user", user], arguments].concat();
        ctl.run(&all, "")
    };
    let good = |user: &str, arguments: &[&str]| {
        let (is_good, text) = by(user, arguments);
        assert!(is_good, "{user} {arguments:?}: {text}");
        text
    };
    let bad = |user: &str, arguments: &[&str]| {
        let (is_good, text) = by(user, arguments);
        assert!(!is_good, "{user} {arguments:?}: {text}");
        text
    };
    assert!(ctl.bad(&["get", "ann/a"]).contains("user name is empty"));
    assert!(bad("ann:x", &["get", "ann/a"]).contains("authentication failed"));
    assert_eq!(good("ann:p", &["get", "ann/a"]), "ann/a\n1\n");
    assert_eq!(good("ann:p", &["put", "ann/b", "2"]), "OK\n");
    assert!(bad("ann:p", &["get", "bob/a"]).contains("permission denied"));
    assert!(bad("ann:p", &["get", "", "--prefix"]).contains("permission denied"));
    assert!(bad("ann:p", &["watch", "bob/a"]).contains("permission denied"));
    assert!(bad("ann:p", &["user", "list"]).contains("permission denied"));
    assert!(bad("ann:p", &["compaction", "1"]).contains("permission denied"));
    assert!(bad("ann:p", &["defrag"]).contains("permission denied"));
    assert!(good("ann:p", &["user", "get", "ann"]).contains("Roles: ann"));
    assert!(good("ann:p", &["role", "get", "ann"]).contains("[ann/, ann0)"));
    assert!(good("ann:p", &["lock", "ann/l", "echo", "held"]).contains("held"));
    assert_eq!(good("root:secret", &["user", "list"]), "ann\nroot\n");
    assert_eq!(good("root:secret", &["role", "list"]), "ann\nroot\n");
    assert_eq!(good("root:secret", &["put", "bob/a", "1"]), "OK\n");
    assert!(good("root:secret", &["auth", "status"]).contains("Authentication Status: true"));
    assert!(good("root:secret", &["endpoint", "status"]).contains(etcd_server::ETCD_VERSION));
    good("root:secret", &["user", "revoke-role", "ann", "ann"]);
    assert!(bad("ann:p", &["get", "ann/a"]).contains("permission denied"));
    let disabled = good("root:secret", &["auth", "disable"]);
    assert!(disabled.contains("Authentication Disabled"));
    assert_eq!(ctl.good(&["get", "ann/a"]), "ann/a\n1\n");
}

/// A candidate that is told of its election: the two lines that its command line prints, and the process that holds it.
fn candidate(ctl: &Etcdctl, value: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(&ctl.binary)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &ctl.endpoint, "elect", "boss", value])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn elects_one_after_the_other(ctl: &Etcdctl) {
    let (mut first, mut lines) = candidate(ctl, "one");
    assert!(lines.next().unwrap().unwrap().starts_with("boss/"));
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    let (mut second, mut lines) = candidate(ctl, "two");
    // Its end without a word: the lease is taken from it by hand, for it would last a minute.
    first.kill().unwrap();
    first.wait().unwrap();
    let key = ctl.good(&[
        "get",
        "boss/",
        "--prefix",
        "--sort-by=CREATE",
        "--limit=1",
        "--keys-only",
    ]);
    let lease = key.trim().trim_start_matches("boss/");
    ctl.good(&["lease", "revoke", lease]);
    assert!(lines.next().unwrap().unwrap().starts_with("boss/"));
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    second.kill().unwrap();
    second.wait().unwrap();
}
