//! etcd's command line, as people and tools write it, turned into ours.
//!
//! Knows how etcd spells its flags: one dash or two, `ETCD_` variables, a configuration file that replaces both, names
//! that began with `experimental-`. Knows which of its flags mean nothing here, and says so for each one given: none is
//! dropped in silence, and none that guards something is dropped at all. What a flag that works means is for
//! [`crate::store_command`].
//!
//! ```text
//!   --config-file ─► the file alone    else    flag ─► else its variable ─► else the default
//! ```

use std::collections::BTreeSet;
use std::path::Path;

/// What the translation made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// The flags for our parser, program and subcommand not among them.
    pub flags: Vec<String>,
    /// A line for each thing given that has no effect here.
    pub notes: Vec<String>,
}

/// How a flag of etcd's is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Ours has the same one.
    Same,
    /// The same for a switch that is on unless it is turned off.
    Either,
    /// It would change nothing here, for this reason.
    Nothing(&'static str),
    /// Ours has it not, and one member is all it may name.
    OneMember,
    /// What it asks for cannot be had. Its default, where it has one, is let through.
    Refused(&'static str, &'static str),
}

struct Flag {
    name: &'static str,
    is_switch: bool,
    meaning: Meaning,
}

const fn value(name: &'static str, meaning: Meaning) -> Flag {
    Flag {
        name,
        is_switch: false,
        meaning,
    }
}

const fn switch(name: &'static str, meaning: Meaning) -> Flag {
    Flag {
        name,
        is_switch: true,
        meaning,
    }
}

use Meaning::{Either, Nothing, OneMember, Refused, Same};

const NO_PEERS: Meaning = Nothing("this store has one member and talks to no peers");
const NO_RAFT: Meaning = Nothing("this store has one member and holds no elections");
const NO_BBOLT: Meaning = Nothing("nothing is kept in a bbolt file");
const NO_TRACING: Meaning = Nothing("requests are not traced");
const OWN_LOG: Meaning = Nothing("the log manages its own files");
const NO_DISCOVERY: Meaning = Refused(
    "",
    "this store has one member and cannot discover others; leave it out",
);

/// Every flag of etcd 3.4 to 3.6, its `experimental-` names without that word.
const FLAGS: &[Flag] = &[
    value("name", Same),
    value("data-dir", Same),
    value("listen-client-urls", Same),
    value("advertise-client-urls", Same),
    value("initial-advertise-peer-urls", Same),
    value("listen-metrics-urls", Same),
    value("cert-file", Same),
    value("key-file", Same),
    value("trusted-ca-file", Same),
    switch("client-cert-auth", Same),
    value("client-crl-file", Same),
    value("tls-min-version", Same),
    value("auth-token", Same),
    value("auth-token-ttl", Same),
    value("bcrypt-cost", Same),
    value("max-request-bytes", Same),
    value("max-txn-ops", Same),
    value("quota-backend-bytes", Same),
    value("auto-compaction-mode", Same),
    value("auto-compaction-retention", Same),
    value("watch-progress-notify-interval", Same),
    switch("unsafe-no-fsync", Same),
    value("log-level", Same),
    value("log-format", Same),
    // The quorum of one.
    value("heartbeat-interval", NO_RAFT),
    value("election-timeout", NO_RAFT),
    switch("initial-election-tick-advance", NO_RAFT),
    switch("pre-vote", NO_RAFT),
    value("max-learners", NO_RAFT),
    value("raft-read-timeout", NO_PEERS),
    value("raft-write-timeout", NO_PEERS),
    value("listen-peer-urls", NO_PEERS),
    value("initial-cluster", OneMember),
    value("initial-cluster-token", NO_PEERS),
    value("initial-cluster-state", NO_PEERS),
    switch("strict-reconfig-check", NO_PEERS),
    switch(
        "force-new-cluster",
        Nothing("this store is a cluster of its own already"),
    ),
    value("peer-cert-file", NO_PEERS),
    value("peer-key-file", NO_PEERS),
    switch("peer-client-cert-auth", NO_PEERS),
    value("peer-trusted-ca-file", NO_PEERS),
    value("peer-cert-allowed-cn", NO_PEERS),
    value("peer-cert-allowed-hostname", NO_PEERS),
    switch("peer-auto-tls", NO_PEERS),
    value("peer-client-cert-file", NO_PEERS),
    value("peer-client-key-file", NO_PEERS),
    value("peer-crl-file", NO_PEERS),
    value("peer-local-addr", NO_PEERS),
    switch("set-member-local-addr", NO_PEERS),
    switch("peer-skip-client-san-verification", NO_PEERS),
    value("client-cert-file", NO_PEERS),
    value("client-key-file", NO_PEERS),
    value("discovery", NO_DISCOVERY),
    value("discovery-proxy", NO_DISCOVERY),
    value("discovery-srv", NO_DISCOVERY),
    value("discovery-srv-name", NO_DISCOVERY),
    value("discovery-endpoints", NO_DISCOVERY),
    value("discovery-token", NO_DISCOVERY),
    value("discovery-fallback", NO_PEERS),
    value(
        "proxy",
        Refused(
            "off",
            "there is no proxy; connect clients to the store itself",
        ),
    ),
    // Files and sweeping.
    value(
        "wal-dir",
        Refused(
            "",
            "the log is kept in --data-dir; put that on the faster disk, or link `--data-dir` there",
        ),
    ),
    value("snapshot-count", OWN_LOG),
    value("snapshot-catchup-entries", NO_PEERS),
    value("max-snapshots", OWN_LOG),
    value("max-wals", OWN_LOG),
    value("backend-bbolt-freelist-type", NO_BBOLT),
    value("backend-batch-interval", NO_BBOLT),
    value("backend-batch-limit", NO_BBOLT),
    value("bootstrap-defrag-threshold-megabytes", NO_BBOLT),
    switch("stop-grpc-service-on-defrag", NO_BBOLT),
    value(
        "compaction-batch-limit",
        Nothing("compaction goes in steps of its own"),
    ),
    value(
        "compaction-sleep-interval",
        Nothing("compaction goes in steps of its own"),
    ),
    switch(
        "enable-lease-checkpoint",
        Nothing("deadlines of leases are always kept"),
    ),
    switch(
        "enable-lease-checkpoint-persist",
        Nothing("deadlines of leases are always kept"),
    ),
    switch(
        "initial-corrupt-check",
        Nothing("every record is checked at every start"),
    ),
    value("corrupt-check-time", NO_PEERS),
    switch("compact-hash-check-enabled", NO_PEERS),
    value("compact-hash-check-time", NO_PEERS),
    value("downgrade-check-time", NO_PEERS),
    switch("memory-mlock", Nothing("memory is not locked")),
    switch(
        "txn-mode-write-with-shared-buffer",
        Nothing("there is no other way here"),
    ),
    switch(
        "enable-v2",
        Refused("false", "the API of etcd v2 is not served"),
    ),
    value(
        "enable-v2v3",
        Refused("", "the API of etcd v2 is not served"),
    ),
    value(
        "v2-deprecation",
        Nothing("the API of etcd v2 is not served"),
    ),
    // The door.
    value(
        "listen-client-http-urls",
        Refused(
            "",
            "HTTP and gRPC share a port; give the URLs to --listen-client-urls",
        ),
    ),
    switch(
        "auto-tls",
        Refused(
            "false",
            "give a certificate with --cert-file and --key-file",
        ),
    ),
    value(
        "self-signed-cert-validity",
        Nothing("no certificates are made"),
    ),
    value(
        "client-cert-allowed-hostname",
        Refused("", "host names in client certificates are not checked"),
    ),
    value(
        "cipher-suites",
        Nothing("only suites without known weaknesses are ever offered"),
    ),
    value(
        "tls-max-version",
        Refused("", "the newest version of TLS is always offered"),
    ),
    value("cors", Same),
    switch("enable-grpc-gateway", Either),
    value(
        "host-whitelist",
        Refused("*", "the Host header is not checked"),
    ),
    value(
        "max-concurrent-streams",
        Nothing("a connection may have 1,048,576 streams"),
    ),
    value(
        "grpc-keepalive-min-time",
        Nothing("clients may ping as often as they like, within the bounds against floods"),
    ),
    value(
        "grpc-keepalive-interval",
        Nothing("silent connections are pinged after 2 h, as etcd does by default"),
    ),
    value(
        "grpc-keepalive-timeout",
        Nothing("a ping is waited for 20 s, as etcd does by default"),
    ),
    switch(
        "socket-reuse-port",
        Nothing("the port is taken by this process alone"),
    ),
    switch(
        "socket-reuse-address",
        Nothing("the address is always reused"),
    ),
    // What is told.
    value("metrics", Nothing("all metrics are always there")),
    switch("enable-pprof", Nothing("there is no Go runtime to profile")),
    value("logger", Nothing("there is one logger")),
    value(
        "log-outputs",
        Nothing("logs go to standard error; let the service manager keep them"),
    ),
    value(
        "log-output",
        Nothing("logs go to standard error; let the service manager keep them"),
    ),
    switch(
        "enable-log-rotation",
        Nothing("logs go to standard error; let the service manager keep them"),
    ),
    value(
        "log-rotation-config-json",
        Nothing("logs go to standard error; let the service manager keep them"),
    ),
    value(
        "log-package-levels",
        Nothing("use --log for levels per module"),
    ),
    switch("debug", Nothing("use --log-level debug")),
    value(
        "warning-apply-duration",
        Nothing("slow requests are counted, not logged"),
    ),
    value(
        "warning-unary-request-duration",
        Nothing("slow requests are counted, not logged"),
    ),
    switch("enable-distributed-tracing", NO_TRACING),
    value("distributed-tracing-address", NO_TRACING),
    value("distributed-tracing-service-name", NO_TRACING),
    value("distributed-tracing-instance-id", NO_TRACING),
    value("distributed-tracing-sampling-rate", NO_TRACING),
    value("feature-gates", Nothing("there are no features to switch")),
];

/// Turns flags, variables or a configuration file in etcd's words into flags of ours.
///
/// `arguments` are those after `store`; `variables` the environment; `read` reads the configuration file.
pub fn translate(
    arguments: &[String],
    variables: impl IntoIterator<Item = (String, String)>,
    read: impl FnOnce(&Path) -> Result<String, String>,
) -> Result<Translated, String> {
    let mut given = Vec::new();
    let mut config_file = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(word) = flag_word(argument) else {
            given.push(Given::Other(argument.clone()));
            continue;
        };
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if name == "config-file" {
            config_file = value.or_else(|| rest.next().cloned());
            continue;
        }
        let Some(flag) = find(name) else {
            given.push(Given::Other(format!("--{word}")));
            continue;
        };
        let value = match value {
            Some(value) => value,
            None if flag.is_switch => "true".to_owned(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("--{name} needs a value"))?,
        };
        given.push(Given::Flag(flag, value));
    }
    let mut out = Translated::default();
    let variables: Vec<(String, String)> = variables
        .into_iter()
        .filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty())
        .collect();
    let named = |name: &str| variables.iter().find(|(other, _)| other == name);
    let file = config_file.or_else(|| named("ETCD_CONFIG_FILE").map(|(_, value)| value.clone()));
    match file {
        Some(file) => {
            let text = read(Path::new(&file))?;
            let ours = given
                .into_iter()
                .filter(|given| matches!(given, Given::Other(_)));
            given = ours.collect();
            given.extend(
                of_file(&text, &mut out.notes).map_err(|error| format!("{file}: {error}"))?,
            );
            out.notes.push(format!(
                "{file} is given: etcd's flags and variables beside it do not count"
            ));
        }
        None => given.extend(of_variables(&variables, &given, &mut out.notes)),
    }
    for given in given {
        match given {
            Given::Other(argument) => out.flags.push(argument),
            Given::Flag(flag, value) => flag.take(&value, &mut out)?,
        }
    }
    Ok(out)
}

enum Given {
    Flag(&'static Flag, String),
    /// A flag of our own, a value, or a mistake: for our parser.
    Other(String),
}

impl Flag {
    fn take(&self, value: &str, out: &mut Translated) -> Result<(), String> {
        let name = self.name;
        let value = if self.is_switch {
            switch_value(value).ok_or_else(|| format!("--{name}={value}: it is true or false"))?
        } else {
            value
        };
        match self.meaning {
            Same if self.is_switch && value == "false" => {}
            Same if self.is_switch => out.flags.push(format!("--{name}")),
            Same | Either => out.flags.push(format!("--{name}={value}")),
            Nothing(why) => out.notes.push(format!("--{name} has no effect: {why}")),
            OneMember if value.contains(',') => {
                return Err(format!(
                    "--{name}={value} names several members: this store has one"
                ));
            }
            OneMember => {}
            Refused(default, _) if value == default => {}
            Refused(_, why) => return Err(format!("--{name}={value} cannot be had here: {why}")),
        }
        Ok(())
    }
}

/// The name of a flag with one dash or two; none for values and for short flags of one letter.
fn flag_word(argument: &str) -> Option<&str> {
    match argument.strip_prefix("--") {
        Some(word) => Some(word).filter(|word| !word.is_empty()),
        None => argument.strip_prefix('-').filter(|word| word.len() > 1),
    }
}

fn find(name: &str) -> Option<&'static Flag> {
    let name = name.strip_prefix("experimental-").unwrap_or(name);
    FLAGS.iter().find(|flag| flag.name == name)
}

/// What Go's flag package takes for a truth.
fn switch_value(text: &str) -> Option<&'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some("false"),
        _ => None,
    }
}

/// The variables of flags that are not given.
fn of_variables(
    variables: &[(String, String)],
    given: &[Given],
    notes: &mut Vec<String>,
) -> Vec<Given> {
    let mut taken: BTreeSet<&str> = given
        .iter()
        .filter_map(|given| match given {
            Given::Flag(flag, _) => Some(flag.name),
            Given::Other(_) => None,
        })
        .collect();
    let mut found = Vec::new();
    for (variable, value) in variables {
        let name = variable
            .trim_start_matches("ETCD_")
            .to_lowercase()
            .replace('_', "-");
        match find(&name) {
            // The newer name of two, which sorts before, is as good as the older one.
            Some(flag) if taken.insert(flag.name) => found.push(Given::Flag(flag, value.clone())),
            Some(_) => notes.push(format!("{variable} does not count: its flag is given")),
            None => notes.push(format!(
                "{variable} is no variable of etcd's and has no effect"
            )),
        }
    }
    found
}

/// The flags of a configuration file: etcd's own, with sections for TLS.
fn of_file(text: &str, notes: &mut Vec<String>) -> Result<Vec<Given>, String> {
    let file: value::Map = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    let mut add = |name: &str, value: &value::Value| {
        let value = match value {
            value::Value::String(text) => text.clone(),
            value::Value::Bool(_) | value::Value::Number(_) => value.to_string(),
            value::Value::Null => return Ok(()),
            value::Value::Array(items) => {
                let texts = items.iter().filter_map(value::Value::as_str);
                texts.collect::<Vec<_>>().join(",")
            }
            value::Value::Object(_) => {
                notes.push(format!(
                    "{name} in the file has no effect: it is no section that is known"
                ));
                return Ok(());
            }
        };
        // An empty text is how the sample file says "not given".
        if value.is_empty() {
            return Ok(());
        }
        match find(name) {
            Some(flag) => found.push(Given::Flag(flag, value)),
            None => return Err(format!("{name} is no setting of etcd's")),
        }
        Ok(())
    };
    for (name, value) in &file {
        let section = match name.as_str() {
            "client-transport-security" => "",
            "peer-transport-security" => "peer-",
            name => {
                add(name, value)?;
                continue;
            }
        };
        for (name, value) in value.as_object().into_iter().flatten() {
            // `ca-file` was its name until etcd 3.2.
            let name = match name.as_str() {
                "auto-tls" if section.is_empty() => "auto-tls".to_owned(),
                "ca-file" => format!("{section}trusted-ca-file"),
                name => format!("{section}{name}"),
            };
            add(&name, value)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Translated, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        translate(&arguments, variables, |path| {
            Err(format!("{}: no file here", path.display()))
        })
    }

    #[test]
    fn one_dash_and_two_an_equals_sign_and_none_are_the_same() {
        let wanted = vec!["--name=a".to_owned(), "--client-cert-auth".to_owned()];
        for arguments in [
            &["--name", "a", "--client-cert-auth"][..],
            &["-name=a", "-client-cert-auth=true"],
            &["--name=a", "--client-cert-auth=T"],
        ] {
            assert_eq!(run(arguments, &[]).unwrap().flags, wanted, "{arguments:?}");
        }
        assert_eq!(
            run(&["--client-cert-auth=false"], &[]).unwrap().flags,
            Vec::<String>::new()
        );
        assert_eq!(
            run(&["--client-cert-auth=maybe"], &[]).unwrap_err(),
            "--client-cert-auth=maybe: it is true or false"
        );
        assert_eq!(run(&["--name"], &[]).unwrap_err(), "--name needs a value");
        // One that is on unless it is turned off is always told.
        for (argument, wanted) in [
            ("--enable-grpc-gateway", "--enable-grpc-gateway=true"),
            ("--enable-grpc-gateway=0", "--enable-grpc-gateway=false"),
        ] {
            assert_eq!(run(&[argument], &[]).unwrap().flags, [wanted]);
        }
    }

    #[test]
    fn experimental_names_are_the_plain_ones() {
        let done = run(&["--experimental-watch-progress-notify-interval=5s"], &[]).unwrap();
        assert_eq!(done.flags, ["--watch-progress-notify-interval=5s"]);
        let done = run(
            &[],
            &[("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "5s")],
        )
        .unwrap();
        assert_eq!(done.flags, ["--watch-progress-notify-interval=5s"]);
    }

    #[test]
    fn a_flag_comes_before_its_variable_and_unknown_variables_are_named() {
        let done = run(
            &["--name=flag"],
            &[
                ("ETCD_NAME", "variable"),
                ("ETCD_DATA_DIR", "d"),
                ("ETCD_NMAE", "x"),
                ("HOME", "h"),
            ],
        )
        .unwrap();
        assert_eq!(done.flags, ["--name=flag", "--data-dir=d"]);
        assert_eq!(
            done.notes,
            [
                "ETCD_NAME does not count: its flag is given",
                "ETCD_NMAE is no variable of etcd's and has no effect"
            ]
        );
    }

    #[test]
    fn what_has_no_effect_is_said_and_what_guards_something_is_refused() {
        let done = run(
            &["--heartbeat-interval", "250", "--snapshot-count=10000"],
            &[],
        )
        .unwrap();
        assert_eq!(done.flags, Vec::<String>::new());
        assert_eq!(
            done.notes,
            [
                "--heartbeat-interval has no effect: this store has one member and holds no elections",
                "--snapshot-count has no effect: the log manages its own files"
            ]
        );
        assert_eq!(
            run(&["--initial-cluster=a=http://b:1"], &[]).unwrap(),
            Translated::default()
        );
        assert!(run(&["--initial-cluster=a=http://b:1,c=http://d:1"], &[]).is_err());
        assert_eq!(
            run(&["--host-whitelist=*", "--enable-v2=false"], &[]).unwrap(),
            Translated::default()
        );
        let error = run(&["--host-whitelist=a.example"], &[]).unwrap_err();
        assert_eq!(
            error,
            "--host-whitelist=a.example cannot be had here: the Host header is not checked"
        );
    }

    #[test]
    fn flags_of_our_own_and_mistakes_go_on_to_the_parser() {
        let done = run(&["--durability", "/registry/events/=memory", "-bogus"], &[]).unwrap();
        assert_eq!(
            done.flags,
            ["--durability", "/registry/events/=memory", "--bogus"]
        );
    }

    #[test]
    fn a_file_replaces_flags_and_variables_of_etcds() {
        let text = "name: filed\ndata-dir: d\nquota-backend-bytes: 0\nstrict-reconfig-check: false\ncors:\n\
                    client-transport-security:\n  cert-file: c.pem\n  client-cert-auth: true\n  trusted-ca-file: ''\n\
                    peer-transport-security:\n  cert-file: p.pem\n";
        let arguments = [
            "--config-file".to_owned(),
            "f.yml".to_owned(),
            "--name=flag".to_owned(),
            "--log=debug".to_owned(),
        ];
        let variables = [("ETCD_DATA_DIR".to_owned(), "v".to_owned())];
        let done = translate(&arguments, variables, |_| Ok(text.to_owned())).unwrap();
        let mut flags = done.flags;
        flags.sort();
        assert_eq!(
            flags,
            [
                "--cert-file=c.pem",
                "--client-cert-auth",
                "--data-dir=d",
                "--log=debug",
                "--name=filed",
                "--quota-backend-bytes=0"
            ]
        );
        assert_eq!(done.notes.len(), 3);
        let bad = translate(&arguments, [], |_| Ok("nmae: x".into())).unwrap_err();
        assert_eq!(bad, "f.yml: nmae is no setting of etcd's");
        assert!(
            run(&["--config-file=gone.yml"], &[])
                .unwrap_err()
                .contains("no file here")
        );
    }

    #[test]
    fn each_flag_stands_once_in_the_table() {
        let names: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
    }
}
