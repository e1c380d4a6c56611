//! Certificates, made by `openssl` in a scratch folder: one authority, what it issues, and what it takes back.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::store::bounded;

/// How long one run of openssl may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An authority with its files in a folder of its own.
pub struct Authority {
    dir: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Pair {
    /// The certificate's path as text.
    pub fn cert(&self) -> &str {
        self.cert.to_str().unwrap_or_default()
    }

    /// The key's path as text.
    pub fn key(&self) -> &str {
        self.key.to_str().unwrap_or_default()
    }
}

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Says<'a> {
    /// The common name.
    pub common_name: &'a str,
    /// Alternative names as openssl writes them: `IP:127.0.0.1,DNS:localhost`; empty for none.
    pub names: &'a str,
    /// `clientAuth`, `serverAuth`, or both.
    pub usage: &'a str,
    /// First and last moment as openssl writes them (`20200101000000Z`); `None`: from now for a month.
    pub valid: Option<(&'a str, &'a str)>,
}

impl Says<'_> {
    /// A certificate for 127.0.0.1, good for server and client, valid now.
    pub fn named(common_name: &str) -> Says<'_> {
        Says { common_name, names: "IP:127.0.0.1,DNS:localhost", usage: "serverAuth,clientAuth", valid: None }
    }
}

impl Authority {
    /// A new authority in a new folder.
    pub fn new(dir: &Path) -> Result<Authority> {
        std::fs::create_dir_all(dir)?;
        let authority = Authority { dir: dir.to_path_buf() };
        let shown = dir.display();
        let config = format!(
            "[req]\ndistinguished_name = dn\n[dn]\n[ca]\ndefault_ca = here\n[here]\nnew_certs_dir = {shown}\n\
             database = {shown}/index\nserial = {shown}/serial\ncrlnumber = {shown}/crlnumber\ncertificate = {shown}/ca.pem\n\
             private_key = {shown}/ca.key\ndefault_md = sha256\ndefault_days = 30\ndefault_crl_days = 30\npolicy = any\n\
             unique_subject = no\ncopy_extensions = copy\n[any]\ncommonName = optional\n"
        );
        std::fs::write(dir.join("openssl.cnf"), config)?;
        for (name, text) in [("index", ""), ("serial", "1000\n"), ("crlnumber", "01\n")] {
            std::fs::write(dir.join(name), text)?;
        }
        authority.key("ca.key", "prime256v1")?;
        let subject = format!("/CN=authority {}", dir.file_name().unwrap_or_default().to_string_lossy());
        authority
            .run(&["req", "-x509", "-new", "-key", "ca.key", "-days", "30", "-subj", &subject, "-out", "ca.pem"])?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Issues a certificate as `name.pem` and `name.key`.
    pub fn issue(&self, name: &str, says: Says<'_>) -> Result<Pair> {
        let [key, request, cert] = ["key", "csr", "pem"].map(|ending| format!("{name}.{ending}"));
        self.key(&key, "prime256v1")?;
        let subject = format!("/CN={}", says.common_name);
        let usage = format!("extendedKeyUsage={}", says.usage);
        let names = format!("subjectAltName={}", says.names);
        let mut asked = vec!["req", "-new", "-key", &key, "-subj", &subject, "-addext", &usage];
        if !says.names.is_empty() {
            asked.extend(["-addext", &names]);
        }
        self.run(&[&asked[..], &["-out", &request]].concat())?;
        let mut signed = vec!["ca", "-batch", "-notext", "-in", &request, "-out", &cert];
        if let Some((first, last)) = says.valid {
            signed.extend(["-startdate", first, "-enddate", last]);
        }
        self.run(&signed)?;
        Ok(Pair { cert: self.dir.join(cert), key: self.dir.join(key) })
    }

    /// Takes a certificate back.
    pub fn revoke(&self, pair: &Pair) -> Result<()> {
        self.run(&["ca", "-revoke", pair.cert()])
    }

    /// The list of what was taken back, written anew to `file`.
    pub fn revocation_list(&self, file: &Path) -> Result<()> {
        let made = self.dir.join("list.new");
        self.run(&["ca", "-gencrl", "-out", &made.to_string_lossy()])?;
        Ok(std::fs::rename(made, file)?)
    }

    /// A certificate that it signs itself, with a key on the given curve.
    pub fn self_signed(&self, name: &str, curve: &str) -> Result<Pair> {
        let [key, cert] = ["key", "pem"].map(|ending| format!("{name}.{ending}"));
        self.key(&key, curve)?;
        self.run(&["req", "-x509", "-new", "-key", &key, "-days", "30", "-subj", "/O=etcd", "-out", &cert])?;
        Ok(Pair { cert: self.dir.join(cert), key: self.dir.join(key) })
    }

    fn key(&self, file: &str, curve: &str) -> Result<()> {
        self.run(&["ecparam", "-name", curve, "-genkey", "-noout", "-out", file])
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if ["ca", "req"].contains(&args[0]) {
            command.args(["-config", "openssl.cnf"]);
        }
        let out = bounded(&mut command, LIMIT)?;
        ensure!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}
