//! The cluster's own certificates: an authority made at first start, the server's certificate, and the client
//! certificates that it signs.
//!
//! Files in the folder `pki`: `ca.crt`, `ca.key`, `apiserver.crt`, `apiserver.key`, `admin.crt`, `admin.key`. Keys are
//! readable by their owner only. Knows nothing of TLS sessions or of what a user may do.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};

/// How long certificates live: the authority ten years, what it signs one year, made anew at a start that
/// finds less than a third of it left.
const CA_LIFE_SECONDS: i64 = 10 * 365 * 86_400;
const LEAF_LIFE_SECONDS: i64 = 365 * 86_400;
/// Clocks may differ a little: certificates begin an hour ago.
const BACKDATE_SECONDS: i64 = 3600;

/// Why the certificates could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A file holds something else than it should.
    #[error("{0}: {1} (move the folder away to have new certificates made)")]
    Content(PathBuf, String),
    /// A certificate could not be made.
    #[error("cannot make the certificate of {0}: {1}")]
    Make(&'static str, rcgen::Error),
}

/// A certificate chain with its private key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate, PEM.
    pub certificate_pem: String,
    /// Private key, PEM.
    pub key_pem: String,
}

/// The certificates of a control plane.
#[derive(Debug, Clone)]
pub struct Pki {
    /// The authority's certificate, PEM: what clients trust and what client certificates must descend from.
    pub ca_pem: String,
    /// The server's identity.
    pub server: Identity,
    /// The administrator's identity (`kubernetes-admin`, group `system:masters`).
    pub admin: Identity,
}

/// Where certificates are kept, and for which addresses the server's is good.
#[derive(Debug, Clone)]
pub struct PkiOptions {
    /// Folder; `None` keeps everything in memory.
    pub directory: Option<PathBuf>,
    /// Address that the server listens on, beside loopback and the service address.
    pub bind_address: IpAddr,
    /// Cluster address of the `kubernetes` service.
    pub service_address: IpAddr,
    /// Now, in seconds since the Unix epoch.
    pub now_seconds: i64,
}

impl Pki {
    /// Opens the certificates, making those that are missing, spent, or not good for the addresses.
    pub fn open(options: &PkiOptions) -> Result<Pki, PkiError> {
        let Some(directory) = &options.directory else {
            let ca = make_ca(options.now_seconds)?;
            return Ok(Pki {
                server: make_server(&ca, options)?,
                admin: make_admin(&ca, options.now_seconds)?,
                ca_pem: ca.certificate_pem,
            });
        };
        std::fs::create_dir_all(directory)
            .map_err(|error| PkiError::File(directory.clone(), error))?;
        let ca = match load(directory, "ca")? {
            Some(ca) => ca,
            None => save(directory, "ca", make_ca(options.now_seconds)?)?,
        };
        let admin = match load(directory, "admin")? {
            Some(admin) if lasts(directory, "admin", &admin, options)? => admin,
            _ => save(directory, "admin", make_admin(&ca, options.now_seconds)?)?,
        };
        // The server's certificate depends on the addresses of this very start: it is cheap, and made anew.
        let server = save(directory, "apiserver", make_server(&ca, options)?)?;
        Ok(Pki {
            ca_pem: ca.certificate_pem,
            server,
            admin,
        })
    }
}

fn make_ca(now_seconds: i64) -> Result<Identity, PkiError> {
    let make = |error| PkiError::Make("the authority", error);
    let key = KeyPair::generate().map_err(make)?;
    let mut params = base("megaplane-ca", now_seconds, CA_LIFE_SECONDS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = params.self_signed(&key).map_err(make)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// A server's certificate that nobody vouches for: good for `name`, loopback and `address`, for a year.
///
/// # Errors
/// It cannot be made: `name` is no name of a host.
pub fn self_signed(name: &str, address: IpAddr, now_seconds: i64) -> Result<Identity, PkiError> {
    let make = |error| PkiError::Make("this process", error);
    let key = KeyPair::generate().map_err(make)?;
    let mut params = base(name, now_seconds, LEAF_LIFE_SECONDS);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in [name, "localhost"] {
        let name = name.try_into().map_err(make)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let mut addresses: Vec<IpAddr> =
        vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    if !address.is_unspecified() && !addresses.contains(&address) {
        addresses.push(address);
    }
    let addresses = addresses.into_iter().map(SanType::IpAddress);
    params.subject_alt_names.extend(addresses);
    let certificate = params.self_signed(&key).map_err(make)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn make_server(ca: &Identity, options: &PkiOptions) -> Result<Identity, PkiError> {
    let mut params = base("kube-apiserver", options.now_seconds, LEAF_LIFE_SECONDS);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    for name in names {
        let name = name
            .try_into()
            .map_err(|error| PkiError::Make("the server", error))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let mut addresses: Vec<IpAddr> = vec![
        [127, 0, 0, 1].into(),
        std::net::Ipv6Addr::LOCALHOST.into(),
        options.service_address,
    ];
    if !options.bind_address.is_unspecified() {
        addresses.push(options.bind_address);
    }
    addresses.sort();
    addresses.dedup();
    params
        .subject_alt_names
        .extend(addresses.into_iter().map(SanType::IpAddress));
    sign("the server", params, ca)
}

fn make_admin(ca: &Identity, now_seconds: i64) -> Result<Identity, PkiError> {
    make_client(ca, "kubernetes-admin", &["system:masters"], now_seconds)
}

/// A client certificate: the name is the user, the organisations are the groups (k8s x509 client certs).
fn make_client(
    ca: &Identity,
    name: &str,
    groups: &[&str],
    now_seconds: i64,
) -> Result<Identity, PkiError> {
    let mut params = base(name, now_seconds, LEAF_LIFE_SECONDS);
    for group in groups {
        params
            .distinguished_name
            .push(DnType::OrganizationName, *group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign("a client", params, ca)
}

fn base(name: &str, now_seconds: i64, life_seconds: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(now_seconds - BACKDATE_SECONDS);
    params.not_after = date(now_seconds + life_seconds);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn date(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

fn sign(
    what: &'static str,
    mut params: CertificateParams,
    ca: &Identity,
) -> Result<Identity, PkiError> {
    let make = |error| PkiError::Make(what, error);
    let key = KeyPair::generate().map_err(make)?;
    // A serial of our own key's bytes: unique without a counter on disk.
    let serial: Vec<u8> = key
        .public_key_raw()
        .iter()
        .skip(1)
        .take(16)
        .copied()
        .collect();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    let ca_key = KeyPair::from_pem(&ca.key_pem).map_err(make)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate_pem, ca_key).map_err(make)?;
    let certificate = params.signed_by(&key, &issuer).map_err(make)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn load(directory: &Path, name: &str) -> Result<Option<Identity>, PkiError> {
    let read = |suffix: &str| {
        let path = directory.join(format!("{name}.{suffix}"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PkiError::File(path, error)),
        }
    };
    Ok(match (read("crt")?, read("key")?) {
        (Some(certificate_pem), Some(key_pem)) => Some(Identity {
            certificate_pem,
            key_pem,
        }),
        _ => None,
    })
}

/// Whether a third of the certificate's life is left.
fn lasts(
    directory: &Path,
    name: &str,
    identity: &Identity,
    options: &PkiOptions,
) -> Result<bool, PkiError> {
    let bad = |error: String| PkiError::Content(directory.join(format!("{name}.crt")), error);
    let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate_pem.as_bytes())
        .map_err(|error| bad(error.to_string()))?;
    let certificate = pem.parse_x509().map_err(|error| bad(error.to_string()))?;
    let ends = certificate.validity().not_after.timestamp();
    Ok(ends - options.now_seconds > LEAF_LIFE_SECONDS / 3)
}

fn save(directory: &Path, name: &str, identity: Identity) -> Result<Identity, PkiError> {
    write_private(&directory.join(format!("{name}.key")), &identity.key_pem)?;
    write_private(
        &directory.join(format!("{name}.crt")),
        &identity.certificate_pem,
    )?;
    Ok(identity)
}

fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    crate::files::write_atomically(path, text.as_bytes(), 0o600)
        .map_err(|error| PkiError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> PkiOptions {
        PkiOptions {
            directory: None,
            bind_address: [127, 0, 0, 1].into(),
            service_address: [10, 96, 0, 1].into(),
            now_seconds: 1_790_000_000,
        }
    }

    #[test]
    fn the_admin_certificate_says_who_it_is_and_descends_from_the_authority() {
        let pki = Pki::open(&options()).unwrap();
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(pki.admin.certificate_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let name = certificate
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        let group = certificate
            .subject()
            .iter_organization()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        assert_eq!((name, group), ("kubernetes-admin", "system:masters"));
        let (_, ca) = x509_parser::pem::parse_x509_pem(pki.ca_pem.as_bytes()).unwrap();
        assert_eq!(certificate.issuer(), ca.parse_x509().unwrap().subject());
    }

    #[test]
    fn a_second_start_keeps_the_authority_and_the_admin() {
        let directory = std::env::temp_dir().join(format!("megaplane-pki-{}", std::process::id()));
        let options = PkiOptions {
            directory: Some(directory.clone()),
            ..options()
        };
        let first = Pki::open(&options).unwrap();
        let second = Pki::open(&options).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.admin.certificate_pem, second.admin.certificate_pem);
        // A year later the admin's certificate is spent and made anew.
        let later = PkiOptions {
            now_seconds: options.now_seconds + LEAF_LIFE_SECONDS,
            ..options
        };
        assert_ne!(
            Pki::open(&later).unwrap().admin.certificate_pem,
            first.admin.certificate_pem
        );
        std::fs::remove_dir_all(directory).unwrap();
    }
}
