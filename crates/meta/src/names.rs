//! What names, keys and label values may look like. Each validator returns the texts of the rules broken, as upstream
//! words them; none means valid. Knows nothing of which field uses which rule.

use std::fmt::Display;

/// Longest DNS label.
pub const DNS_LABEL_MAX_BYTES: usize = 63;
/// Longest DNS subdomain.
pub const DNS_SUBDOMAIN_MAX_BYTES: usize = 253;
/// Longest name part of a qualified name.
pub const QUALIFIED_NAME_MAX_BYTES: usize = 63;
/// Longest label value.
pub const LABEL_VALUE_MAX_BYTES: usize = 63;
/// Longest port name.
pub const PORT_NAME_MAX_BYTES: usize = 15;

const LABEL_PATTERN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_PATTERN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A lower-case label of at most 63 bytes: namespaces, container names.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut broken = max_length(value, DNS_LABEL_MAX_BYTES);
    if is_subdomain(value) && !is_label(value) {
        broken.push("must not contain dots".to_owned());
    } else if !is_label(value) {
        broken.push(pattern_text(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL_PATTERN,
            &["my-name", "123-abc"],
        ));
    }
    broken
}

/// Lower-case labels joined by dots, at most 253 bytes: most object names.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut broken = max_length(value, DNS_SUBDOMAIN_MAX_BYTES);
    if !is_subdomain(value) {
        broken.push(pattern_text(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_PATTERN,
            &["example.com"],
        ));
    }
    broken
}

/// A subdomain that may have underscores in it: custom resources' hosts and a few others.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut broken = max_length(value, DNS_SUBDOMAIN_MAX_BYTES);
    let part = |part: &str| {
        let part = part.strip_prefix('_').unwrap_or(part);
        framed(part, is_lower_alphanumeric, |b| {
            is_lower_alphanumeric(b) || b == b'-' || b == b'_'
        })
    };
    if !value.split('.').all(part) {
        broken.push(pattern_text(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    broken
}

/// `*.` and a subdomain: hosts of an Ingress.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut broken = max_length(value, DNS_SUBDOMAIN_MAX_BYTES);
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        broken.push(pattern_text(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN_PATTERN}"),
            &["*.example.com"],
        ));
    }
    broken
}

/// A label that starts with a letter: names of Services.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut broken = max_length(value, DNS_LABEL_MAX_BYTES);
    if !(is_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        broken.push(pattern_text(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    broken
}

/// Anything that is one segment of a URL path: names of Roles and bindings.
pub fn path_segment_name(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// The beginning of a path segment: what a `generateName` of such kinds may be.
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    let illegal = ['/', '%'].into_iter().filter(|c| value.contains(*c));
    illegal.map(|c| format!("may not contain '{c}'")).collect()
}

/// `[prefix/]name`: keys of labels and annotations, taint keys, finalizers.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            let rule = pattern_text(
                QUALIFIED_RULE,
                QUALIFIED_PATTERN,
                &["MyName", "my.name", "123-abc"],
            );
            return vec![format!(
                "a qualified name {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                broken.push("prefix part must be non-empty".to_owned());
            } else {
                broken.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|text| format!("prefix part {text}")),
                );
            }
            name
        }
    };
    if name.is_empty() {
        broken.push("name part must be non-empty".to_owned());
    } else {
        let too_long = max_length(name, QUALIFIED_NAME_MAX_BYTES);
        broken.extend(too_long.into_iter().map(|text| format!("name part {text}")));
    }
    if !is_qualified_part(name) {
        let rule = pattern_text(
            QUALIFIED_RULE,
            QUALIFIED_PATTERN,
            &["MyName", "my.name", "123-abc"],
        );
        broken.push(format!("name part {rule}"));
    }
    broken
}

/// The value of a label: empty, or like the name part of a qualified name.
pub fn label_value(value: &str) -> Vec<String> {
    let mut broken = max_length(value, LABEL_VALUE_MAX_BYTES);
    if !value.is_empty() && !is_qualified_part(value) {
        broken.push(pattern_text(
            &format!(
                "a valid label must be an empty string or consist of {}",
                &QUALIFIED_RULE["must consist of ".len()..]
            ),
            &format!("({QUALIFIED_PATTERN})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    broken
}

/// An IANA service name: names of ports.
pub fn port_name(value: &str) -> Vec<String> {
    let mut broken = max_length(value, PORT_NAME_MAX_BYTES);
    if value.is_empty() || !value.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-') {
        broken.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        broken.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        broken.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        broken.push("must not begin or end with a hyphen".to_owned());
    }
    broken
}

/// A port number from 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65_535)
}

/// A number within bounds, both included.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        Vec::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// An identifier of the C language.
pub fn c_identifier(value: &str) -> Vec<String> {
    let head = value
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if head
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
    {
        return Vec::new();
    }
    vec![pattern_text(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The strict form of an environment variable's name, still demanded of names made from ConfigMaps by old rules.
pub fn env_var_name(value: &str) -> Vec<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let mut broken = Vec::new();
    if value.is_empty()
        || value.starts_with(|c: char| c.is_ascii_digit())
        || !value.bytes().all(legal)
    {
        broken.push(pattern_text(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    broken.extend(directory_complaint(value));
    broken
}

/// An environment variable's name as present releases accept it: printable ASCII without `=`.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// A key of a ConfigMap or Secret, which may become a file name.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut broken = max_length(value, DNS_SUBDOMAIN_MAX_BYTES);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if value.is_empty() || !value.bytes().all(legal) {
        broken.push(pattern_text(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    broken.extend(directory_complaint(value));
    broken
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Vec::new();
    }
    vec![pattern_text(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern_text(rule, "[0-9]+%", &["1%", "93%"])]
}

/// An IPv4 or IPv6 address.
pub fn ip_address(value: &str) -> Vec<String> {
    if value.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// The name a `generateName` prefix must yield: what is checked is the prefix without a trailing hyphen.
pub fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        // A suffix of letters and digits follows, so any legal last character stands for it.
        Some(head) if !head.is_empty() => format!("{head}a"),
        _ => prefix.to_owned(),
    }
}

fn max_length(value: &str, max_bytes: usize) -> Vec<String> {
    if value.len() > max_bytes {
        vec![too_long_text(max_bytes)]
    } else {
        Vec::new()
    }
}

fn too_long_text(max_bytes: impl Display) -> String {
    format!("must be no more than {max_bytes} bytes")
}

fn directory_complaint(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// A rule with examples and the pattern behind it, in upstream's odd punctuation.
fn pattern_text(rule: &str, pattern: &str, examples: &[&str]) -> String {
    let quoted: Vec<String> = examples
        .iter()
        .map(|example| format!("'{example}', "))
        .collect();
    format!(
        "{rule} (e.g. {}regex used for validation is '{pattern}')",
        quoted.join(" or ")
    )
}

fn is_lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether first and last byte satisfy `edge` and all satisfy `inner`.
fn framed(value: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn is_label(value: &str) -> bool {
    framed(value, is_lower_alphanumeric, |b| {
        is_lower_alphanumeric(b) || b == b'-'
    })
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_qualified_part(value: &str) -> bool {
    framed(
        value,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    type Validator = fn(&str) -> Vec<String>;

    #[test]
    fn each_validator_knows_good_from_bad() {
        let long = "a".repeat(64);
        let cases: [(Validator, &[&str], &[&str]); 12] = [
            (
                dns1123_label,
                &["a", "a-b", "1", "9-a"],
                &["", "-a", "a-", "A", "a.b", "ä", &long],
            ),
            (
                dns1123_subdomain,
                &["a", "a.b", "1.2.3", &long],
                &["", ".a", "a.", "a..b", "a.-b", "A"],
            ),
            (dns1035_label, &["a", "a1"], &["", "1a", "a-", &long]),
            (
                path_segment_name,
                &["", "a:b", "A B", "..a"],
                &[".", "..", "a/b", "50%"],
            ),
            (
                qualified_name,
                &["a", "A_b.c", "example.com/a"],
                &["", "/a", "a/", "a/b/c", "Ex/a", "-a", &long],
            ),
            (
                label_value,
                &["", "a", "A_b.c"],
                &["-a", "a/b", "a b", &long],
            ),
            (
                port_name,
                &["http", "a-1"],
                &["", "1", "HTTP", "a--b", "-a", "a-", "aaaaaaaaaaaaaaaa"],
            ),
            (
                env_var_name,
                &["A", "_a.b-c"],
                &["", "1A", "a=b", ".", "..", "..a"],
            ),
            (
                relaxed_env_var_name,
                &["1A", "a b"],
                &["", "a=b", "ä", "a\n"],
            ),
            (
                config_map_key,
                &["a.b", "A_b"],
                &["", "a/b", ".", "..", "..a"],
            ),
            (percent, &["1%", "100%"], &["", "%", "1", "a%"]),
            (
                wildcard_dns1123_subdomain,
                &["*.a.b"],
                &["*", "a.b", "*.", "*.*"],
            ),
        ];
        for (validator, good, bad) in cases {
            for value in good {
                assert_eq!(validator(value), Vec::<String>::new(), "{value:?}");
            }
            for value in bad {
                assert!(!validator(value).is_empty(), "{value:?} passed");
            }
        }
    }

    #[test]
    fn texts_are_upstreams() {
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
              and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            label_value("a/b"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
              start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
              for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
        assert_eq!(
            label_value(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(
            path_segment_name("a/b%"),
            ["may not contain '/'", "may not contain '%'"]
        );
    }

    #[test]
    fn a_generated_name_is_checked_without_its_dash() {
        assert_eq!(mask_trailing_dash("web-"), "weba");
        assert_eq!(mask_trailing_dash("web"), "web");
        assert_eq!(mask_trailing_dash("-"), "-");
    }
}
