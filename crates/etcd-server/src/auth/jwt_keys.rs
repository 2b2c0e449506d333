//! Keys that sign and check, by the name of the method. Knows no tokens.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RsaEncoding, RsaKeyPair, VerificationAlgorithm,
};
use aws_lc_rs::{encoding::PublicKeyX509Der, error::Unspecified, hmac};
use x509_parser::pem::Pem;

/// Why keys cannot be used, in etcd's words where it has some.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No such method.
    #[error("auth: invalid auth signature method")]
    Method,
    /// There is none.
    #[error("auth: missing key data")]
    Missing,
    /// Two keys that do not belong together.
    #[error("auth: public and private keys don't match")]
    Mismatch,
    /// Not a key of this method.
    #[error("the {0} key is none that this method can use")]
    Unusable(&'static str),
}

const PUBLIC: KeyError = KeyError::Unusable("public");
const PRIVATE: KeyError = KeyError::Unusable("private");

/// A key, or a pair of keys.
#[derive(Debug)]
pub enum Key {
    Secret(Box<hmac::Key>),
    Pair {
        public: ParsedPublicKey,
        /// None: signatures are made elsewhere.
        private: Option<Private>,
    },
}

/// The half that signs.
pub enum Private {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Private")
    }
}

/// What a method is made of.
enum Method {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn VerificationAlgorithm, &'static dyn RsaEncoding),
    Ecdsa(
        &'static dyn VerificationAlgorithm,
        &'static EcdsaSigningAlgorithm,
    ),
    Ed25519,
}

/// The methods of RFC 7518 and RFC 8037.
fn method(name: &str) -> Option<Method> {
    use Method::{Ecdsa, Ed25519, Hmac, Rsa};
    Some(match name {
        "HS256" => Hmac(hmac::HMAC_SHA256),
        "HS384" => Hmac(hmac::HMAC_SHA384),
        "HS512" => Hmac(hmac::HMAC_SHA512),
        "RS256" => Rsa(&sig::RSA_PKCS1_2048_8192_SHA256, &sig::RSA_PKCS1_SHA256),
        "RS384" => Rsa(&sig::RSA_PKCS1_2048_8192_SHA384, &sig::RSA_PKCS1_SHA384),
        "RS512" => Rsa(&sig::RSA_PKCS1_2048_8192_SHA512, &sig::RSA_PKCS1_SHA512),
        "PS256" => Rsa(&sig::RSA_PSS_2048_8192_SHA256, &sig::RSA_PSS_SHA256),
        "PS384" => Rsa(&sig::RSA_PSS_2048_8192_SHA384, &sig::RSA_PSS_SHA384),
        "PS512" => Rsa(&sig::RSA_PSS_2048_8192_SHA512, &sig::RSA_PSS_SHA512),
        "ES256" => Ecdsa(
            &sig::ECDSA_P256_SHA256_FIXED,
            &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
        ),
        "ES384" => Ecdsa(
            &sig::ECDSA_P384_SHA384_FIXED,
            &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
        ),
        "ES512" => Ecdsa(
            &sig::ECDSA_P521_SHA512_FIXED,
            &sig::ECDSA_P521_SHA512_FIXED_SIGNING,
        ),
        "EdDSA" => Ed25519,
        _ => return None,
    })
}

impl Key {
    /// Keys of a method, out of what is in the files.
    pub fn open(
        name: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
    ) -> Result<Key, KeyError> {
        let method = method(name).ok_or(KeyError::Method)?;
        let (checks, private) = match &method {
            Method::Hmac(algorithm) => {
                let secret = private.filter(|secret| !secret.is_empty());
                let secret = secret.ok_or(KeyError::Missing)?;
                let key = hmac::Key::new(*algorithm, secret);
                return Ok(Key::Secret(Box::new(key)));
            }
            Method::Rsa(checks, encoding) => {
                let read = |pem: &[u8]| Ok(Private::Rsa(Box::new(rsa(&one_pem(pem)?)?), *encoding));
                (*checks, private.map(read).transpose()?)
            }
            Method::Ecdsa(checks, signs) => {
                let read = |pem: &[u8]| {
                    let pair = EcdsaKeyPair::from_private_key_der(signs, &one_pem(pem)?.contents);
                    pair.map(Private::Ecdsa).map_err(|_| PRIVATE)
                };
                (*checks, private.map(read).transpose()?)
            }
            Method::Ed25519 => {
                let read = |pem: &[u8]| {
                    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&one_pem(pem)?.contents);
                    pair.map(Private::Ed25519).map_err(|_| PRIVATE)
                };
                let checks: &'static dyn VerificationAlgorithm = &sig::ED25519;
                (checks, private.map(read).transpose()?)
            }
        };
        let given = public.map(public_der).transpose()?;
        let own = private.as_ref().map(Private::public).transpose()?;
        let der = given.as_deref().or(own.as_deref());
        let parse = |der: &[u8]| ParsedPublicKey::new(checks, der).map_err(|_| PUBLIC);
        let public = parse(der.ok_or(KeyError::Missing)?)?;
        if let Some(own) = &own
            && !is_same(&public, &parse(own)?)
        {
            return Err(KeyError::Mismatch);
        }
        Ok(Key::Pair { public, private })
    }

    /// Signs; none if that is done elsewhere.
    pub fn sign(&self, message: &[u8]) -> Option<Result<Vec<u8>, Unspecified>> {
        let random = SystemRandom::new();
        match self {
            Key::Secret(key) => Some(Ok(hmac::sign(key, message).as_ref().to_vec())),
            Key::Pair { private, .. } => Some(match private.as_ref()? {
                Private::Rsa(pair, encoding) => {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    pair.sign(*encoding, &random, message, &mut signature)
                        .map(|()| signature)
                }
                Private::Ecdsa(pair) => pair
                    .sign(&random, message)
                    .map(|signature| signature.as_ref().to_vec()),
                Private::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            }),
        }
    }

    /// Whether it was signed so.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Key::Pair { public, .. } => public.verify_sig(message, signature).is_ok(),
        }
    }
}

impl Private {
    /// Its other half.
    fn public(&self) -> Result<Vec<u8>, KeyError> {
        let der: Result<PublicKeyX509Der<'_>, Unspecified> = match self {
            Private::Rsa(pair, _) => pair.public_key().as_der(),
            Private::Ecdsa(pair) => pair.public_key().as_der(),
            Private::Ed25519(pair) => pair.public_key().as_der(),
        };
        der.map(|der| der.as_ref().to_vec()).map_err(|_| PRIVATE)
    }
}

fn is_same(left: &ParsedPublicKey, right: &ParsedPublicKey) -> bool {
    let der = |key: &ParsedPublicKey| {
        let der: Result<PublicKeyX509Der<'_>, Unspecified> = key.as_der();
        der.ok().map(|der| der.as_ref().to_vec())
    };
    der(left).is_some_and(|left| der(right) == Some(left))
}

/// The first section of a file that is about a key: an elliptic curve's parameters may stand before it.
fn one_pem(file: &[u8]) -> Result<Pem, KeyError> {
    let sections = Pem::iter_from_buffer(file).flatten();
    let mut keys = sections.filter(|pem| pem.label.ends_with("PRIVATE KEY"));
    keys.next().ok_or(PRIVATE)
}

fn rsa(pem: &Pem) -> Result<RsaKeyPair, KeyError> {
    let pair = match pem.label.as_str() {
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&pem.contents),
        _ => RsaKeyPair::from_pkcs8(&pem.contents),
    };
    pair.map_err(|_| PRIVATE)
}

/// A public key, or that of a certificate.
fn public_der(file: &[u8]) -> Result<Vec<u8>, KeyError> {
    for pem in Pem::iter_from_buffer(file).flatten() {
        match pem.label.as_str() {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => return Ok(pem.contents),
            "CERTIFICATE" => {
                let certificate = pem.parse_x509().map_err(|_| PUBLIC)?;
                return Ok(certificate.tbs_certificate.subject_pki.raw.to_vec());
            }
            _ => {}
        }
    }
    Err(PUBLIC)
}
