//! Encryption, seen from outside: whom a member admits, in which versions, and what those cost who say nothing.
//!
//! What upstream can do too is asked of both, so that a difference shows.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::certificates::{Authority, Pair, Says};
use eyrie_tests::ports;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;

/// How long one call of a client may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn both_admit_the_same_clients() -> Verdict {
    Ok(clients()?)
}

#[test]
fn both_admit_the_same_names() -> Verdict {
    Ok(names()?)
}

#[test]
fn versions_and_ciphers_are_those_asked_for() -> Verdict {
    Ok(versions()?)
}

#[test]
fn certificates_change_without_a_restart() -> Verdict {
    Ok(changes()?)
}

#[test]
fn a_member_makes_its_own_certificate() -> Verdict {
    Ok(automatic()?)
}

#[test]
fn what_cannot_be_used_is_named_before_anything_is_made() -> Verdict {
    Ok(unusable()?)
}

#[test]
fn the_silent_cost_little_and_keep_nobody_out() -> Verdict {
    Ok(silent()?)
}

/// A member with an open door and an encrypted one.
struct Member {
    store: Store,
    secure: String,
}

impl Member {
    fn start(program: &Program, dir: &Path, flags: &[&str]) -> Result<Member> {
        let (setup, secure) = setup(program, dir, flags)?;
        Ok(Member { store: setup.start()?, secure })
    }

    /// A program's etcdctl at the encrypted door.
    fn ctl(&self, program: &Program, ca: &Path, pair: Option<&Pair>, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&program.ctl[0]);
        command.args(&program.ctl[1..]).args([
            "--endpoints",
            &self.secure,
            "--dial-timeout=2s",
            "--command-timeout=4s",
        ]);
        command.arg("--cacert").arg(ca);
        if let Some(pair) = pair {
            command.args(["--cert", pair.cert(), "--key", pair.key()]);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        bounded(&mut command, CALL_LIMIT)
    }

    fn admits(&self, program: &Program, ca: &Path, pair: Option<&Pair>) -> Result<bool> {
        Ok(self.ctl(program, ca, pair, &["get", "key"])?.status.success())
    }

    /// A page, over HTTP/1.1 at the encrypted door.
    fn page(&self, ca: &Path, pair: Option<&Pair>, path: &str) -> Result<Option<String>> {
        let mut command = Command::new("curl");
        command.args(["-sS", "--http1.1", "--max-time", "5", "--cacert"]).arg(ca);
        if let Some(pair) = pair {
            command.args(["--cert", pair.cert(), "--key", pair.key()]);
        }
        command
            .arg(format!("{}{path}", self.secure))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let out = bounded(&mut command, CALL_LIMIT)?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    }

    /// What `openssl s_client` says of a handshake.
    fn handshake(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", self.secure.trim_start_matches("https://"), "-alpn", "h2"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = bounded(&mut command, CALL_LIMIT)?;
        Ok(format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
    }

    fn memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.store.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
    }
}

fn setup(program: &Program, dir: &Path, flags: &[&str]) -> Result<(Setup, String)> {
    std::fs::create_dir_all(dir)?;
    let setup = Setup::new(program, dir)?;
    let secure = format!("https://127.0.0.1:{}", ports::free()?);
    let urls = format!("http://127.0.0.1:{},{secure}", setup.client_port);
    let setup = setup.flags(&["--listen-client-urls", &urls, "--advertise-client-urls", &secure]).flags(flags);
    Ok((setup, secure))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn clients() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(&dir.path().join("ours"))?;
    let others = Authority::new(&dir.path().join("others"))?;
    let server = authority.issue("server", Says::named("server"))?;
    let good = authority.issue("good", Says::named("someone"))?;
    let revoked = authority.issue("revoked", Says::named("revoked"))?;
    authority.revoke(&revoked)?;
    let list = dir.path().join("list.pem");
    authority.revocation_list(&list)?;
    let past = Says { valid: Some(("20200101000000Z", "20200201000000Z")), ..Says::named("past") };
    let future = Says { valid: Some(("20900101000000Z", "20910101000000Z")), ..Says::named("future") };
    let clients = [
        ("good", Some(good), true),
        ("none", None, false),
        ("foreign", Some(others.issue("foreign", Says::named("foreign"))?), false),
        ("past", Some(authority.issue("past", past)?), false),
        ("future", Some(authority.issue("future", future)?), false),
        ("of a server", Some(authority.issue("usage", Says { usage: "serverAuth", ..Says::named("usage") })?), false),
        ("revoked", Some(revoked), false),
    ];
    let ca = authority.certificate();
    let flags = ["--cert-file", server.cert(), "--key-file", server.key(), "--client-cert-auth", "--trusted-ca-file"];
    let flags = [&flags[..], &[text(&ca), "--client-crl-file", text(&list)]].concat();
    for program in [Program::under_test()?, Program::upstream()?] {
        let member = Member::start(&program, &dir.path().join(&program.name), &flags)?;
        for (name, pair, admitted) in &clients {
            let grpc = member.admits(&Program::upstream()?, &ca, pair.as_ref())?;
            ensure!(grpc == *admitted, "{}: etcdctl with certificate {name}: {grpc}", program.name);
            let pages = member.page(&ca, pair.as_ref(), "/health")?.is_some_and(|page| page.contains("true"));
            ensure!(pages == *admitted, "{}: curl with certificate {name}: {pages}", program.name);
        }
        let good = clients[0].1.as_ref();
        let out = member.ctl(&Program::under_test()?, &ca, good, &["put", "key", "value"])?;
        ensure!(out.status.success(), "our ctl: {}", String::from_utf8_lossy(&out.stderr));
        let distrusted = member.admits(&Program::under_test()?, &others.certificate(), good)?;
        ensure!(!distrusted, "{}: a server of an authority that the client does not trust", program.name);
    }
    Ok(())
}

fn names() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(&dir.path().join("ours"))?;
    let server = authority.issue("server", Says::named("server"))?;
    let right = authority.issue("right", Says { names: "DNS:*.milvus.local", ..Says::named("a") })?;
    let wrong = authority.issue("wrong", Says { names: "DNS:proxy.elsewhere", ..Says::named("proxy.milvus.local") })?;
    let ca = authority.certificate();
    let flags = ["--cert-file", server.cert(), "--key-file", server.key(), "--client-cert-auth", "--trusted-ca-file"];
    let flags = [&flags[..], &[text(&ca), "--client-cert-allowed-hostname", "proxy.milvus.local"]].concat();
    for program in [Program::under_test()?, Program::upstream()?] {
        let member = Member::start(&program, &dir.path().join(&program.name), &flags)?;
        ensure!(member.admits(&program, &ca, Some(&right))?, "{}: the allowed host name", program.name);
        ensure!(!member.admits(&program, &ca, Some(&wrong))?, "{}: a name that is only the common name", program.name);
    }
    Ok(())
}

fn versions() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(&dir.path().join("ours"))?;
    let server = authority.issue("server", Says::named("server"))?;
    let pair = ["--cert-file", server.cert(), "--key-file", server.key()];
    let program = Program::under_test()?;
    let whole = Member::start(&program, &dir.path().join("whole"), &pair)?;
    let old = ["-cipher", "DEFAULT:@SECLEVEL=0"];
    for (version, spoken) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let said = whole.handshake(&[&[version][..], if spoken { &[][..] } else { &old[..] }].concat())?;
        ensure!(said.contains("ALPN protocol: h2") == spoken, "{version}: {said}");
    }
    drop(whole);
    let suite = "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let bounded = [&pair[..], &["--tls-max-version=TLS1.2", suite]].concat();
    let bounded = Member::start(&program, &dir.path().join("bounded"), &bounded)?;
    let said = bounded.handshake(&["-tls1_3"])?;
    ensure!(!said.contains("ALPN protocol: h2"), "1.3 is switched off: {said}");
    let said = bounded.handshake(&[])?;
    ensure!(said.contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"), "{said}");
    let said = bounded.handshake(&["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"])?;
    ensure!(!said.contains("ALPN protocol: h2"), "another cipher: {said}");
    Ok(())
}

fn changes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (first, second) = (Authority::new(&dir.path().join("first"))?, Authority::new(&dir.path().join("second"))?);
    let [cert, key, ca, list] = ["cert.pem", "key.pem", "ca.pem", "list.pem"].map(|name| dir.path().join(name));
    let place = |from: &Path, to: &Path| -> Result<()> {
        let next = to.with_extension("next");
        std::fs::copy(from, &next)?;
        Ok(std::fs::rename(next, to)?)
    };
    let server = first.issue("server", Says::named("server"))?;
    place(&server.cert, &cert)?;
    place(&server.key, &key)?;
    place(&first.certificate(), &ca)?;
    first.revocation_list(&list)?;
    let flags = ["--cert-file", text(&cert), "--key-file", text(&key), "--client-cert-auth", "--trusted-ca-file"];
    let flags = [&flags[..], &[text(&ca), "--client-crl-file", text(&list)]].concat();
    let program = Program::under_test()?;
    let member = Member::start(&program, &dir.path().join("member"), &flags)?;
    let (old, other) = (first.issue("old", Says::named("old"))?, first.issue("other", Says::named("other"))?);
    let new = second.issue("new", Says::named("new"))?;
    let admits = |trusts: &Authority, pair: &Pair| member.admits(&program, &trusts.certificate(), Some(pair));
    ensure!(admits(&first, &old)? && admits(&first, &other)?, "at first");
    ensure!(!admits(&first, &new)?, "of the second authority, too early");

    first.revoke(&other)?;
    first.revocation_list(&list)?;
    ensure!(admits(&first, &old)? && !admits(&first, &other)?, "one is revoked");

    // Half a change: the certificate without its key. The old pair stays in force.
    let server = second.issue("server", Says::named("server"))?;
    place(&server.cert, &cert)?;
    ensure!(admits(&first, &old)?, "while certificate and key do not fit");
    place(&server.key, &key)?;
    ensure!(!admits(&first, &old)? && admits(&second, &old)?, "the new pair is shown");

    place(&second.certificate(), &ca)?;
    ensure!(admits(&second, &new)? && !admits(&second, &old)?, "the new authority vouches, the old no longer");
    std::fs::write(&ca, "no certificate")?;
    ensure!(admits(&second, &new)?, "what cannot be read changes nothing");
    let log = member.store.log_tail(usize::MAX);
    ensure!(log.contains("does not match the public key"), "the half change was told: {log}");
    Ok(())
}

fn automatic() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = Program::under_test()?;
    let (setup, secure) = setup(&program, dir.path(), &["--auto-tls"])?;
    // As upstream leaves it: a key of a kind that is not used here.
    let fixtures = setup.data.join("fixtures/client");
    let upstream = Authority::new(&dir.path().join("upstream"))?.self_signed("auto", "secp521r1")?;
    std::fs::create_dir_all(&fixtures)?;
    std::fs::copy(&upstream.cert, fixtures.join("cert.pem"))?;
    std::fs::copy(&upstream.key, fixtures.join("key.pem"))?;
    let mut member = Member { store: setup.start()?, secure };
    let served = |member: &Member| -> Result<bool> {
        let mut command = Command::new(&Program::upstream()?.ctl[0]);
        command.args(["--endpoints", &member.secure, "--insecure-transport=false", "--insecure-skip-tls-verify"]);
        command.args(["put", "a", "b"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(bounded(&mut command, CALL_LIMIT)?.status.success())
    };
    ensure!(served(&member)?, "etcdctl without verification");
    let mode = std::fs::metadata(fixtures.join("key.pem"))?.mode() & 0o777;
    ensure!(mode == 0o600, "the key can be read by others: {mode:o}");
    let made = std::fs::read(fixtures.join("cert.pem"))?;
    ensure!(made != std::fs::read(&upstream.cert)?, "upstream's certificate cannot have been used");
    member.store.restart()?;
    ensure!(served(&member)? && made == std::fs::read(fixtures.join("cert.pem"))?, "the same after a restart");
    let clear = member.secure.replace("https", "http");
    let out = Command::new("curl").args(["-sS", "--max-time", "5", &format!("{clear}/version")]).output()?;
    ensure!(!String::from_utf8_lossy(&out.stdout).contains("etcdserver"), "the encrypted door speaks in the clear");
    Ok(())
}

fn unusable() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(&dir.path().join("ours"))?;
    let (server, other) = (authority.issue("server", Says::named("a"))?, authority.issue("other", Says::named("b"))?);
    let prose = dir.path().join("prose.pem");
    std::fs::write(&prose, "no certificate")?;
    let nowhere = dir.path().join("nowhere.pem");
    let ca = authority.certificate();
    for (number, (cert, key, more, words)) in [
        (server.cert(), other.key(), vec![], "does not match the public key"),
        (text(&nowhere), server.key(), vec![], "nowhere.pem"),
        (text(&prose), server.key(), vec![], "prose.pem holds no certificate"),
        (server.cert(), text(&prose), vec![], "prose.pem holds no private key"),
        (server.cert(), server.key(), vec!["--trusted-ca-file", text(&prose)], "prose.pem holds no certificate"),
        (
            server.cert(),
            server.key(),
            vec!["--trusted-ca-file", text(&ca), "--client-crl-file", text(&prose)],
            "prose.pem is no certificate revocation list",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let flags = [&["--cert-file", cert, "--key-file", key], &more[..]].concat();
        let (setup, _) = setup(&Program::under_test()?, &dir.path().join(number.to_string()), &flags)?;
        let (status, log) = setup.run_to_end(Duration::from_secs(20))?;
        ensure!(!status.success() && log.contains(words), "{words}: {status}\n{log}");
        ensure!(!setup.data.exists(), "a store was founded: {words}");
    }
    Ok(())
}

fn silent() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(&dir.path().join("ours"))?;
    let server = authority.issue("server", Says::named("server"))?;
    let flags = ["--cert-file", server.cert(), "--key-file", server.key()];
    let program = Program::under_test()?;
    let member = Member::start(&program, &dir.path().join("member"), &flags)?;
    let ca = authority.certificate();
    ensure!(member.admits(&program, &ca, None)?, "before");
    let before = member.memory_kib()?;

    let secure = member.secure.trim_start_matches("https://").to_owned();
    let mut held = Vec::new();
    for number in 0..2_000 {
        let mut stream = TcpStream::connect(&secure).with_context(|| format!("socket {number}"))?;
        match number % 4 {
            // The beginning of a ClientHello that never comes whole.
            0 => stream.write_all(&[22, 3, 1, 2, 0, 1, 0])?,
            // The beginning of a request, at the other door.
            1 => {
                stream = TcpStream::connect(member.store.endpoint())?;
                stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\nX-Slow: ")?;
            }
            _ => {}
        }
        held.push(stream);
    }
    let begun = Instant::now();
    let out = member.ctl(&program, &ca, None, &["put", "key", "value"])?;
    ensure!(out.status.success(), "others are not served: {}", String::from_utf8_lossy(&out.stderr));
    println!("a put beside {} silent sockets: {:?}", held.len(), begun.elapsed());
    let grown = member.memory_kib()?.saturating_sub(before);
    println!("memory grew by {grown} KiB");
    ensure!(grown < 48 * 1024, "2,000 silent sockets cost {grown} KiB");
    Ok(())
}
