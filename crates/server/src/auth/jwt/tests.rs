//! Keys of every kind, as `openssl` writes them, and tokens that must not pass.

use std::path::PathBuf;
use std::process::Command;

use super::*;

fn openssl(dir: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(dir).output().expect("openssl is needed for this test");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn keys() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for line in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem",
        "rsa -in rsa.pem -traditional -out rsa1.pem",
        "rsa -in rsa.pem -pubout -out rsa.pub",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out other.pem",
        "ecparam -name prime256v1 -genkey -noout -out ec.sec1",
        "pkey -in ec.sec1 -out ec.pem",
        "pkey -in ec.sec1 -pubout -out ec.pub",
        "ecparam -name secp384r1 -genkey -noout -out ec384.sec1",
        "genpkey -algorithm ed25519 -out ed.pem",
        "pkey -in ed.pem -pubout -out ed.pub",
    ] {
        openssl(dir.path(), line);
    }
    std::fs::write(dir.path().join("secret"), "a shared secret").expect("write");
    dir
}

fn settings(dir: &Path, method: &str, private: &str, public: &str) -> JwtSettings {
    let file = |name: &str| (!name.is_empty()).then(|| -> PathBuf { dir.join(name) });
    JwtSettings {
        method: method.into(),
        private_key: file(private),
        public_key: file(public),
        ttl: Duration::from_secs(60),
    }
}

#[test]
fn every_kind_of_key_signs_and_verifies() {
    let dir = keys();
    for (method, private, public) in [
        ("RS256", "rsa.pem", ""),
        ("RS384", "rsa1.pem", ""),
        ("RS512", "rsa.pem", "rsa.pub"),
        ("PS256", "rsa.pem", ""),
        ("PS512", "rsa1.pem", "rsa.pub"),
        ("ES256", "ec.sec1", ""),
        ("ES256", "ec.pem", ""),
        ("ES256", "ec.pem", "ec.pub"),
        ("ES384", "ec384.sec1", ""),
        ("EdDSA", "ed.pem", ""),
        ("EdDSA", "ed.pem", "ed.pub"),
        ("HS256", "secret", ""),
        ("HS512", "secret", "secret"),
    ] {
        let jwt = Jwt::open(&settings(dir.path(), method, private, public));
        let jwt = jwt.unwrap_or_else(|why| panic!("{method} {private} {public}: {why}"));
        let token = jwt.sign("bo", 7).expect("a token");
        let claims = jwt.verify(&token).unwrap_or_else(|| panic!("{method} {private} {public}: its own token"));
        assert_eq!((&claims.username[..], claims.revision), ("bo", 7));
        let mut broken = token.into_bytes();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        assert_eq!(jwt.verify(&String::from_utf8_lossy(&broken)), None, "{method}: a changed token");
    }
    let only_verifies = Jwt::open(&settings(dir.path(), "RS256", "", "rsa.pub")).expect("a public key is enough");
    assert!(only_verifies.sign("bo", 7).is_err_and(|why| why.contains("verify-only")));
    let signs = Jwt::open(&settings(dir.path(), "RS256", "rsa.pem", "")).expect("keys");
    assert!(only_verifies.verify(&signs.sign("bo", 7).expect("a token")).is_some());
}

#[test]
fn what_was_not_signed_for_this_store_is_no_token() {
    let dir = keys();
    let jwt = Jwt::open(&settings(dir.path(), "RS256", "rsa.pem", "")).expect("keys");
    let other = Jwt::open(&settings(dir.path(), "RS256", "other.pem", "")).expect("keys");
    assert_eq!(jwt.verify(&other.sign("root", 7).expect("a token")), None, "another key");
    let longer = Jwt::open(&settings(dir.path(), "RS512", "rsa.pem", "")).expect("keys");
    assert_eq!(jwt.verify(&longer.sign("root", 7).expect("a token")), None, "another method with the same key");
    // The public key is public: nobody may sign with it as if it were a secret.
    let confused = Jwt::open(&settings(dir.path(), "HS256", "rsa.pub", "")).expect("any bytes are a secret");
    assert_eq!(jwt.verify(&confused.sign("root", 7).expect("a token")), None, "a public key as a secret");
    // {"alg":"none"} . {"username":"root","revision":7,"exp":9999999999} .
    let none = "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InJvb3QiLCJyZXZpc2lvbiI6NywiZXhwIjo5OTk5OTk5OTk5fQ.";
    assert_eq!(jwt.verify(none), None, "no signature");
    for garbage in ["", ".", "..", "a.b.c", "x"] {
        assert_eq!(jwt.verify(garbage), None);
    }
    #[derive(Serialize)]
    struct Timeless {
        username: &'static str,
        revision: u64,
    }
    let pem = std::fs::read(dir.path().join("rsa.pem")).expect("the key");
    let key = EncodingKey::from_rsa_pem(&pem).expect("the key");
    let sign = |claims: &dyn erased::Claims| claims.sign(&key);
    assert_eq!(jwt.verify(&sign(&Timeless { username: "root", revision: 7 })), None, "no time");
    let expired = Claims { username: "root".into(), revision: 7, exp: 1_000_000_000 };
    assert_eq!(jwt.verify(&sign(&expired)), None, "expired");
}

/// Claims of any shape, signed with a good key.
mod erased {
    use super::*;

    pub(super) trait Claims {
        fn sign(&self, key: &EncodingKey) -> String;
    }

    impl<T: Serialize> Claims for T {
        fn sign(&self, key: &EncodingKey) -> String {
            jsonwebtoken::encode(&Header::new(Algorithm::RS256), self, key).expect("a token")
        }
    }
}

#[test]
fn wrong_settings_say_what_to_give() {
    let dir = keys();
    let wrong = |method: &str, private: &str, public: &str| {
        Jwt::open(&settings(dir.path(), method, private, public)).expect_err("wrong settings")
    };
    assert!(wrong("ES512", "ec.pem", "").contains("choose one of RS256"));
    assert!(wrong("RS256", "", "").contains("give priv-key=FILE"));
    assert!(wrong("RS256", "nowhere", "").contains("can't read the key"));
    assert!(wrong("RS256", "ec.pem", "").contains("priv-key"));
    assert!(wrong("RS256", "other.pem", "rsa.pub").contains("don't belong together"));
}
