//! Signed claims as tokens. They need no memory and can't be taken back one by one; any change of users ends them all,
//! since they carry the revision of the users they were made at.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::settings::JwtSettings;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) username: String,
    pub(super) revision: u64,
    /// Seconds since 1970. A token without is not taken.
    pub(super) exp: u64,
}

/// Makes and reads tokens.
pub(super) struct Jwt {
    header: Header,
    sign: Option<EncodingKey>,
    verify: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("algorithm", &self.header.alg).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// What is wrong with them, and what to give.
    pub(super) fn open(settings: &JwtSettings) -> Result<Self, String> {
        let algorithm = algorithm(&settings.method)?;
        let private = settings.private_key.as_deref().map(read).transpose()?;
        let public = settings.public_key.as_deref().map(read).transpose()?;
        let sign = private.as_deref().map(|key| signing_key(algorithm, key)).transpose()?;
        let verify = match (&public, &private) {
            (Some(key), _) => verifying_key(algorithm, key)?,
            (None, Some(key)) => public_part(algorithm, key)?,
            (None, None) => return Err("give priv-key=FILE, or pub-key=FILE to only verify tokens".into()),
        };
        // The algorithm is the configured one, whatever a token says; and time is not stretched.
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.validate_aud = false;
        let jwt = Self { header: Header::new(algorithm), sign, verify, validation, ttl: settings.ttl };
        if jwt.sign.is_some() {
            let token = jwt.sign("probe", 1)?;
            if settings.ttl >= Duration::from_secs(2) && jwt.verify(&token).is_none() {
                return Err("priv-key and pub-key don't belong together".into());
            }
        }
        Ok(jwt)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// etcd's words when there is no key to sign with.
    pub(super) fn sign(&self, username: &str, revision: u64) -> Result<String, String> {
        let key = self.sign.as_ref().ok_or("auth: token signing attempted with verify-only key")?;
        let expires = SystemTime::now() + self.ttl;
        let exp = expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = Claims { username: username.to_owned(), revision, exp };
        jsonwebtoken::encode(&self.header, &claims, key).map_err(|error| format!("auth: can't sign a token: {error}"))
    }

    /// What a token says, when its signature and its time are good.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation).ok().map(|data| data.claims)
    }
}

fn algorithm(method: &str) -> Result<Algorithm, String> {
    let known = [
        ("RS256", Algorithm::RS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
        ("PS384", Algorithm::PS384),
        ("PS512", Algorithm::PS512),
        ("ES256", Algorithm::ES256),
        ("ES384", Algorithm::ES384),
        ("HS256", Algorithm::HS256),
        ("HS384", Algorithm::HS384),
        ("HS512", Algorithm::HS512),
        ("EdDSA", Algorithm::EdDSA),
    ];
    let found = known.iter().find(|(name, _)| *name == method).map(|(_, algorithm)| *algorithm);
    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("sign-method={method} is not supported; choose one of {}", names()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("can't read the key {}: {error}", path.display()))
}

enum Family {
    Secret,
    Rsa,
    Elliptic,
    Edwards,
}

fn family(algorithm: Algorithm) -> Family {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Secret,
        Algorithm::ES256 | Algorithm::ES384 => Family::Elliptic,
        Algorithm::EdDSA => Family::Edwards,
        _ => Family::Rsa,
    }
}

fn signing_key(algorithm: Algorithm, pem: &[u8]) -> Result<EncodingKey, String> {
    let wrong = |error: jsonwebtoken::errors::Error| format!("priv-key is no key for {algorithm:?}: {error}");
    match family(algorithm) {
        Family::Secret => Ok(EncodingKey::from_secret(secret(pem)?)),
        Family::Rsa => EncodingKey::from_rsa_pem(pem).map_err(wrong),
        Family::Elliptic => match private(pem)? {
            PrivateKeyDer::Sec1(key) => {
                Ok(EncodingKey::from_ec_der(&der::pkcs8_of_sec1(key.secret_sec1_der(), algorithm == Algorithm::ES384)))
            }
            _ => EncodingKey::from_ec_pem(pem).map_err(wrong),
        },
        Family::Edwards => EncodingKey::from_ed_pem(pem).map_err(wrong),
    }
}

fn verifying_key(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, String> {
    let wrong = |error: jsonwebtoken::errors::Error| format!("pub-key is no key for {algorithm:?}: {error}");
    match family(algorithm) {
        Family::Secret => Ok(DecodingKey::from_secret(secret(pem)?)),
        Family::Rsa => DecodingKey::from_rsa_pem(pem).map_err(wrong),
        Family::Elliptic => DecodingKey::from_ec_pem(pem).map_err(wrong),
        Family::Edwards => DecodingKey::from_ed_pem(pem).map_err(wrong),
    }
}

/// What verifies the signatures of a private key.
fn public_part(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, String> {
    let missing = || "priv-key does not contain its public half: give pub-key=FILE too".to_string();
    match family(algorithm) {
        Family::Secret => Ok(DecodingKey::from_secret(secret(pem)?)),
        Family::Rsa => {
            let key = private(pem)?;
            let parts = match &key {
                PrivateKeyDer::Pkcs1(key) => der::rsa_public(key.secret_pkcs1_der()),
                PrivateKeyDer::Pkcs8(key) => der::inside_pkcs8(key.secret_pkcs8_der()).and_then(der::rsa_public),
                _ => None,
            };
            let (modulus, exponent) = parts.ok_or_else(missing)?;
            Ok(DecodingKey::from_rsa_raw_components(modulus, exponent))
        }
        Family::Elliptic => {
            let key = private(pem)?;
            let point = match &key {
                PrivateKeyDer::Sec1(key) => der::point_of_sec1(key.secret_sec1_der()),
                PrivateKeyDer::Pkcs8(key) => der::inside_pkcs8(key.secret_pkcs8_der()).and_then(der::point_of_sec1),
                _ => None,
            };
            Ok(DecodingKey::from_ec_der(point.ok_or_else(missing)?))
        }
        Family::Edwards => {
            let text = std::str::from_utf8(pem).map_err(|_| missing())?;
            let pair = rcgen::KeyPair::from_pem(text).map_err(|error| format!("priv-key can't be read: {error}"))?;
            Ok(DecodingKey::from_ed_der(pair.public_key_raw()))
        }
    }
}

fn private(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("priv-key is no private key in PEM: {error}"))
}

/// A shared secret is the file's bytes, as they are.
fn secret(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.is_empty() { Err("the file of the secret is empty".into()) } else { Ok(bytes) }
}

/// As much DER as it takes to find the public half of a private key.
mod der {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    const PUBLIC_KEY_OF_SEC1: u8 = 0xa1;

    /// The first element: tag and content, and what follows it.
    fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (&tag, rest) = bytes.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (digits.iter().fold(0, |n, digit| n << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((tag, content, rest))
    }

    fn of(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        first(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
    }

    /// Version, algorithm, key.
    pub(super) fn inside_pkcs8(bytes: &[u8]) -> Option<&[u8]> {
        let (fields, _) = of(SEQUENCE, bytes)?;
        let (_, fields) = of(INTEGER, fields)?;
        let (_, fields) = of(SEQUENCE, fields)?;
        of(OCTET_STRING, fields).map(|(key, _)| key)
    }

    /// Version, modulus, public exponent, ...
    pub(super) fn rsa_public(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (fields, _) = of(SEQUENCE, bytes)?;
        let (_, fields) = of(INTEGER, fields)?;
        let (modulus, fields) = of(INTEGER, fields)?;
        let (exponent, _) = of(INTEGER, fields)?;
        let unsigned = |number| <[u8]>::strip_prefix(number, &[0]).unwrap_or(number);
        Some((unsigned(modulus), unsigned(exponent)))
    }

    /// Version, key, then optional parts, of which one is the public point.
    pub(super) fn point_of_sec1(bytes: &[u8]) -> Option<&[u8]> {
        let (fields, _) = of(SEQUENCE, bytes)?;
        let (_, fields) = of(INTEGER, fields)?;
        let (_, mut fields) = of(OCTET_STRING, fields)?;
        while let Some((tag, content, rest)) = first(fields) {
            if tag == PUBLIC_KEY_OF_SEC1 {
                let (bits, _) = of(BIT_STRING, content)?;
                return bits.strip_prefix(&[0]);
            }
            fields = rest;
        }
        None
    }

    /// The form that the signer wants: algorithm and curve beside the key.
    pub(super) fn pkcs8_of_sec1(key: &[u8], p384: bool) -> Vec<u8> {
        const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
        let algorithm = element(SEQUENCE, &[EC_PUBLIC_KEY, if p384 { P384 } else { P256 }].concat());
        element(SEQUENCE, &[&[INTEGER, 1, 0], &algorithm[..], &element(OCTET_STRING, key)].concat())
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..=0x7f => vec![tag, length as u8],
            0x80..=0xff => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [&head[..], content].concat()
    }
}

#[cfg(test)]
mod tests;
