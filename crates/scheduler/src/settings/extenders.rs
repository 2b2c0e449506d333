//! `extenders[]`: services of others that are asked about nodes, with upstream's validation.
//!
//! Reads no files and makes no connection: [`ExtenderConfig::load`] does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::{FieldError, FieldPath};

use super::reader::Section;
use crate::ProfileConfig;
use crate::extenders::{EXTENDERS_MAX, ExtenderConfig, ExtenderTls, TIMEOUT_DEFAULT};

/// Reads the extenders; what they manage alone is ignored by the profiles from then on.
pub(super) fn read(
    section: &mut Section<'_>,
    profiles: &mut [ProfileConfig],
    errors: &mut Vec<FieldError>,
) -> Vec<ExtenderConfig> {
    let path = FieldPath::new("extenders");
    let mut ignored: Vec<Box<str>> = Vec::new();
    let mut managed: Vec<String> = Vec::new();
    let extenders = section.sections("extenders", |section, path| {
        read_one(section, path, (&mut managed, &mut ignored), errors)
    });
    let extenders = extenders.unwrap_or_default();
    let binders = extenders.iter().filter(|e| !e.bind_verb.is_empty()).count();
    if binders > 1 {
        let found = format!("found {binders} extenders implementing bind");
        let detail = "only one extender can implement bind";
        errors.push(FieldError::invalid(&path, found, detail));
    }
    if extenders.len() > EXTENDERS_MAX {
        errors.push(FieldError::too_many(&path, extenders.len(), EXTENDERS_MAX));
    }
    if !ignored.is_empty() {
        // They take the place of those that are listed (k8s: buildExtenders).
        for profile in profiles {
            profile.rules.ignored_resources = ignored.clone();
        }
    }
    extenders
}

fn read_one(
    section: &mut Section<'_>,
    path: &FieldPath,
    (managed, ignored): (&mut Vec<String>, &mut Vec<Box<str>>),
    errors: &mut Vec<FieldError>,
) -> ExtenderConfig {
    let timeout = section.duration("httpTimeout", TIMEOUT_DEFAULT);
    let mut extender = ExtenderConfig {
        url_prefix: section.text("urlPrefix", ""),
        filter_verb: section.text("filterVerb", ""),
        preempt_verb: section.text("preemptVerb", ""),
        prioritize_verb: section.text("prioritizeVerb", ""),
        weight: section.integer("weight", 0),
        bind_verb: section.text("bindVerb", ""),
        enable_https: section.flag("enableHTTPS", false),
        http_timeout: if timeout.is_zero() {
            TIMEOUT_DEFAULT
        } else {
            timeout
        },
        node_cache_capable: section.flag("nodeCacheCapable", false),
        ignorable: section.flag("ignorable", false),
        ..ExtenderConfig::default()
    };
    if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
        let detail = "must have a positive weight applied to it";
        let path = path.child("weight");
        errors.push(FieldError::invalid(&path, extender.weight, detail));
    }
    let tls = section.section("tlsConfig", |section| read_tls(section, path, errors));
    extender.tls = tls.unwrap_or_default();
    let resources = section.sections("managedResources", |section, path| {
        let name = section.text("name", "");
        let is_ignored = section.flag("ignoredByScheduler", false);
        let path = path.child("name");
        errors.extend(check_name(&path, &name));
        if managed.contains(&name) {
            let detail = "duplicate extender managed resource name";
            errors.push(FieldError::invalid(&path, name.as_str(), detail));
        }
        managed.push(name.clone());
        if is_ignored {
            ignored.push(name.as_str().into());
        }
        name
    });
    extender.managed_resources = resources.unwrap_or_default();
    extender
}

/// An extended resource: a qualified name outside of kubernetes.io.
fn check_name(path: &FieldPath, name: &str) -> Vec<FieldError> {
    let texts = meta::names::qualified_name(name);
    if !texts.is_empty() {
        return FieldError::invalid_each(path, name, texts);
    }
    let quota_name = format!("requests.{name}");
    let extended = name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && meta::names::qualified_name(&quota_name).is_empty();
    if extended {
        return Vec::new();
    }
    let detail = "is an invalid extended resource name";
    vec![FieldError::invalid(path, name, detail)]
}

fn read_tls(
    section: &mut Section<'_>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> ExtenderTls {
    let path = path.child("tlsConfig");
    let mut tls = ExtenderTls {
        cert_file: section.text("certFile", ""),
        key_file: section.text("keyFile", ""),
        ca_file: section.text("caFile", ""),
        ..ExtenderTls::default()
    };
    tls.tls.insecure = section.flag("insecure", false);
    tls.tls.server_name = section.text("serverName", "");
    let mut data = |name: &'static str| {
        let text = section.text(name, "");
        STANDARD.decode(&text).unwrap_or_else(|_| {
            let detail = "must be base64";
            errors.push(FieldError::invalid(&path.child(name), text, detail));
            Vec::new()
        })
    };
    tls.tls.certificate_pem = data("certData");
    tls.tls.key_pem = data("keyData");
    tls.tls.ca_pem = data("caData");
    tls
}
