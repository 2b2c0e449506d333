//! Every method signs what it checks, and takes nothing else.

use super::*;
use crate::auth::jwt_keys::KeyError;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

const NOW: u64 = 1_700_000_000;

fn jwt(method: &str, public: Option<&str>, private: Option<&str>) -> Result<Jwt, KeyError> {
    let key = Key::open(
        method,
        public.map(str::as_bytes),
        private.map(str::as_bytes),
    )?;
    Ok(Jwt::new(method.into(), key, Duration::from_secs(60)))
}

fn pair(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn who(name: &str, revision: u64) -> Option<Who> {
    Some(Who {
        name: name.into(),
        revision,
    })
}

#[test]
fn each_method_knows_its_own_tokens() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let p256 = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let p384 = pair(&rcgen::PKCS_ECDSA_P384_SHA384);
    let p521 = pair(&rcgen::PKCS_ECDSA_P521_SHA512);
    let ed = pair(&rcgen::PKCS_ED25519);
    for (method, keys) in [
        ("RS256", &rsa),
        ("RS384", &rsa),
        ("RS512", &rsa),
        ("PS256", &rsa),
        ("PS384", &rsa),
        ("PS512", &rsa),
        ("ES256", &p256),
        ("ES384", &p384),
        ("ES512", &p521),
        ("EdDSA", &ed),
    ] {
        let (public, private) = (keys.public_key_pem(), keys.serialize_pem());
        let both = jwt(method, Some(&public), Some(&private)).unwrap();
        let token = both.assign("u", 7, NOW).unwrap();
        assert_eq!(both.who(&token, NOW), who("u", 7), "{method}");
        // Who has the public half only can check, and who has the private half only can do both.
        let checks = jwt(method, Some(&public), None).unwrap();
        assert_eq!(checks.who(&token, NOW), who("u", 7), "{method}");
        assert_eq!(checks.assign("u", 7, NOW), Err(RpcError::VERIFY_ONLY));
        let signs = jwt(method, None, Some(&private)).unwrap();
        assert_eq!(signs.who(&token, NOW), who("u", 7), "{method}");
        // It ends.
        assert_eq!(both.who(&token, NOW + 60), None, "{method}");
        // Another signature, or none.
        let other = both.assign("v", 7, NOW).unwrap();
        let (message, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert_eq!(both.who(&format!("{message}.{signature}"), NOW), None);
        assert_eq!(both.who(&format!("{message}."), NOW), None);
        assert_eq!(both.who(message, NOW), None);
    }
}

#[test]
fn a_secret_signs_and_checks() {
    for method in ["HS256", "HS384", "HS512"] {
        let ours = jwt(method, None, Some("secret")).unwrap();
        let token = ours.assign("u", 3, NOW).unwrap();
        assert_eq!(ours.who(&token, NOW), who("u", 3));
        let theirs = jwt(method, None, Some("another")).unwrap();
        assert_eq!(theirs.who(&token, NOW), None);
    }
    // The example of RFC 7515, A.1, has another shape, but must at least not be taken.
    let ours = jwt("HS256", None, Some("secret")).unwrap();
    for token in ["", ".", "..", "a.b.c", "e30.e30.", "simple.7"] {
        assert_eq!(ours.who(token, NOW), None, "{token}");
    }
}

#[test]
fn a_token_says_by_which_method_it_was_signed_and_means_it() {
    let ours = jwt("HS256", None, Some("secret")).unwrap();
    let sign = |head: &str, claims: &str| {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = ours.key.sign(message.as_bytes()).unwrap().unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let claims = r#"{"username":"u","revision":7.0}"#;
    let good = r#"{"typ":"JWT","alg":"HS256"}"#;
    assert_eq!(ours.who(&sign(good, claims), NOW), who("u", 7));
    for head in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, "{}", "[]", ""] {
        assert_eq!(ours.who(&sign(head, claims), NOW), None, "{head}");
    }
    for claims in [
        r#"{"username":"u"}"#,
        r#"{"revision":7}"#,
        r#"{"username":7,"revision":7}"#,
        r#"{"username":"u","revision":"7"}"#,
        r#"{"username":"u","revision":7,"exp":"never"}"#,
        r#"{"username":"u","revision":7,"nbf":1700000001}"#,
        "{}",
        "7",
    ] {
        assert_eq!(ours.who(&sign(good, claims), NOW), None, "{claims}");
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_at_the_beginning() {
    let (ours, theirs) = (
        pair(&rcgen::PKCS_ECDSA_P256_SHA256),
        pair(&rcgen::PKCS_ECDSA_P256_SHA256),
    );
    let (public, private) = (ours.public_key_pem(), theirs.serialize_pem());
    let refused = |method, public: Option<&str>, private: Option<&str>| {
        jwt(method, public, private).unwrap_err()
    };
    let mismatch = refused("ES256", Some(&public), Some(&private));
    assert_eq!(mismatch, KeyError::Mismatch);
    assert_eq!(refused("ES256", None, None), KeyError::Missing);
    assert_eq!(refused("HS256", Some(&public), None), KeyError::Missing);
    assert_eq!(refused("HS256", None, Some("")), KeyError::Missing);
    assert_eq!(refused("none", None, Some("x")), KeyError::Method);
    let unusable = KeyError::Unusable;
    // Of another curve, of another kind, and no key at all.
    assert_eq!(refused("ES384", None, Some(&private)), unusable("private"));
    assert_eq!(refused("RS256", None, Some(&private)), unusable("private"));
    assert_eq!(refused("EdDSA", Some(&public), None), unusable("public"));
    assert_eq!(refused("RS256", Some("x"), None), unusable("public"));
}

#[test]
fn a_certificate_is_as_good_as_its_key() {
    let keys = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let certificate = CertificateParams::default().self_signed(&keys).unwrap();
    let signs = jwt(
        "ES256",
        Some(&certificate.pem()),
        Some(&keys.serialize_pem()),
    )
    .unwrap();
    let checks = jwt("ES256", Some(&certificate.pem()), None).unwrap();
    let token = signs.assign("u", 1, NOW).unwrap();
    assert_eq!(checks.who(&token, NOW), who("u", 1));
}
