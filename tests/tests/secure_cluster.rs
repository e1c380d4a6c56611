//! A cluster that lets no one in: who may be a member, and who may ask what of each of them.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use eyrie_tests::auth::rows;
use eyrie_tests::auth::walk;
use eyrie_tests::auth::world::World;
use eyrie_tests::binaries::Program;
use eyrie_tests::certificates::{Authority, Pair, Says};
use eyrie_tests::cluster::Cluster;
use eyrie_tests::place::wait_until;
use eyrie_tests::store::{Setup, bounded};
use eyrie_tests::verdict::Verdict;

/// An election soon, so that tests are short.
const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// How long one call of a foreign program may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long a member may take to say that it is kept out.
const SAID_LIMIT: Duration = Duration::from_secs(15);

#[test]
fn members_speak_tls_and_keep_strangers_out() -> Verdict {
    Ok(strangers()?)
}

#[test]
fn a_member_joins_and_catches_up_over_tls() -> Verdict {
    Ok(join()?)
}

#[test]
fn certificates_of_members_change_while_they_run() -> Verdict {
    Ok(change()?)
}

#[test]
fn members_make_their_own_certificates() -> Verdict {
    Ok(automatic()?)
}

#[test]
fn every_member_asks_as_strictly() -> Verdict {
    Ok(matrix()?)
}

#[test]
fn upstreams_etcdctl_with_tls_and_users_on_every_member() -> Verdict {
    Ok(etcdctl_everywhere()?)
}

/// CVE-2018-16886: a certificate that was only asked for is no login.
#[test]
fn cve_2018_16886_a_certificate_is_a_login_only_where_it_must_be_shown() -> Verdict {
    Ok(certificate_is_no_login()?)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// The flags of a member that shows `pair` and asks for certificates of `ca`.
fn peer_flags(pair: &Pair, ca: &Path) -> Vec<String> {
    [
        "--peer-cert-file",
        pair.cert(),
        "--peer-key-file",
        pair.key(),
        "--peer-client-cert-auth",
        "--peer-trusted-ca-file",
    ]
    .into_iter()
    .chain([text(ca)])
    .map(str::to_owned)
    .collect()
}

fn with(setup: Setup, flags: &[String]) -> Setup {
    setup.flags(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Three members that show certificates of `authority` with the common name `member`.
fn secured(dir: &Path, authority: &Authority, more: &[&str]) -> Result<Vec<Setup>> {
    let setups = Cluster::over_tls(Cluster::setups(&Program::under_test()?, dir, 3, &QUICK)?);
    let dressed = |setup: Setup| -> Result<Setup> {
        let pair = authority.issue(&format!("of-{}", setup.name), Says::named("member"))?;
        Ok(with(setup, &peer_flags(&pair, &authority.certificate())).flags(more))
    };
    setups.into_iter().map(dressed).collect()
}

/// What the peer port answers to `curl`, if it answers.
fn knock(url: &str, ca: &Path, pair: Option<&Pair>) -> Result<Option<String>> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "5", "--cacert", text(ca)]);
    if let Some(pair) = pair {
        curl.args(["--cert", pair.cert(), "--key", pair.key()]);
    }
    curl.arg(format!("{url}/members")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = bounded(&mut curl, CALL_LIMIT)?;
    Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
}

fn strangers() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (ours, others) = (Authority::new(&dir.path().join("ours"))?, Authority::new(&dir.path().join("others"))?);
    let revoked = ours.issue("revoked", Says::named("member"))?;
    ours.revoke(&revoked)?;
    let list = dir.path().join("list.pem");
    ours.revocation_list(&list)?;
    let setups = secured(dir.path(), &ours, &["--peer-cert-allowed-cn", "member", "--peer-crl-file", text(&list)])?;
    let mut three = Cluster::of(&Program::under_test()?, &setups)?;
    for at in 0..3 {
        three.etcdctl_ok(at, &["put", &format!("by/{at}"), "value"])?;
    }
    three.agree(&[0, 1, 2])?;

    let (url, ca) = (setups[0].peer_url.clone(), ours.certificate());
    let elsewhere = Says { names: "IP:127.0.0.9", ..Says::named("member") };
    for (who, pair, may) in [
        ("a member", Some(ours.issue("good", Says::named("member"))?), true),
        ("nobody", None, false),
        ("one of another authority", Some(others.issue("foreign", Says::named("member"))?), false),
        ("another name", Some(ours.issue("client", Says::named("client"))?), false),
        ("another address", Some(ours.issue("elsewhere", elsewhere)?), false),
        ("one that is revoked", Some(revoked), false),
    ] {
        let answer = knock(&url, &ca, pair.as_ref())?;
        ensure!(answer.is_some_and(|page| page.contains("clientURLs")) == may, "{who} at the peer port");
    }
    ensure!(knock(&url.replace("https", "http"), &ca, None)?.is_none(), "the peer port speaks in the clear");

    // A member of the cluster that comes back as somebody else stays out, and the others go on.
    let away = (three.leader()? + 1) % 3;
    let stays = (away + 1) % 3;
    let foreign = others.issue("member", Says::named("member"))?;
    let client = ours.issue("client2", Says::named("client"))?;
    let plain = setups[away].peer_url.replace("https", "http");
    for (number, (who, flags, words)) in [
        ("another authority", peer_flags(&foreign, &others.certificate()), "certificate"),
        ("another name", peer_flags(&client, &ca), "alert"),
        ("in the clear", vec!["--listen-peer-urls".into(), plain], "certificate"),
    ]
    .into_iter()
    .enumerate()
    {
        three.members[away].kill9()?;
        let mut stranger = setups[away].clone();
        // The last of several flags counts, and a member in the clear has none of those for TLS.
        stranger.flags.truncate(if number == 2 { QUICK.len() } else { usize::MAX });
        let stranger = with(stranger, &flags);
        let _ = std::fs::remove_file(&stranger.log);
        three.members[away] = stranger.spawn()?;
        let key = format!("without/{number}");
        let said =
            wait_until(SAID_LIMIT, || three.members[away].log_tail(usize::MAX).contains("can't talk to a member"));
        ensure!(said, "{who}: {}", three.members[away].log_tail(20));
        three.etcdctl_ok(stays, &["put", &key, "value"])?;
        std::thread::sleep(Duration::from_millis(700));
        let stale = three.etcdctl_ok(away, &["get", &key, "--consistency=s", "--print-value-only"])?;
        ensure!(stale.is_empty(), "{who} is told what members say");
        let log = three.members[away].log_tail(usize::MAX);
        ensure!(log.contains(words), "{who}: {log}");
    }
    ensure!(three.members[stays].log_tail(usize::MAX).contains("rejected connection from a peer"));
    three.members[away].kill9()?;
    three.members[away] = setups[away].start()?;
    three.agree(&[0, 1, 2])?;
    Ok(())
}

fn join() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Authority::new(&dir.path().join("ours"))?;
    let setups = secured(dir.path(), &ours, &[])?;
    let mut cluster = Cluster::of(&Program::under_test()?, &setups)?;
    cluster.etcdctl_ok(0, &["put", "before", "value"])?;
    let pair = ours.issue("of-fresh", Says::named("member"))?;
    let fresh = with(cluster.newcomer(dir.path(), "fresh", &QUICK)?, &peer_flags(&pair, &ours.certificate()));
    let mut fresh = Cluster::over_tls(vec![fresh]).remove(0);
    let added = wait_until(Duration::from_secs(15), || {
        let add = ["member", "add", "fresh", "--peer-urls", &fresh.peer_url];
        cluster.etcdctl(0, &add).is_ok_and(|out| out.status.success())
    });
    ensure!(added, "member add");
    fresh.initial_cluster = format!("{},fresh={}", setups[0].initial_cluster, fresh.peer_url);
    cluster.members.push(fresh.start()?);
    cluster.agree(&[0, 1, 2, 3])?;
    ensure!(cluster.members[3].log_tail(usize::MAX).contains("took over the store as the leader sent it"));
    cluster.etcdctl_ok(3, &["put", "by", "the new one"])?;
    Ok(())
}

fn change() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (first, second) = (Authority::new(&dir.path().join("first"))?, Authority::new(&dir.path().join("second"))?);
    let both = dir.path().join("both.pem");
    std::fs::write(&both, [std::fs::read(first.certificate())?, std::fs::read(second.certificate())?].concat())?;
    let mut setups = Cluster::over_tls(Cluster::setups(&Program::under_test()?, dir.path(), 3, &QUICK)?);
    let ca = dir.path().join("ca.pem");
    let place = |from: &Path, to: &Path| -> Result<()> {
        let next = to.with_extension("next");
        std::fs::copy(from, &next)?;
        Ok(std::fs::rename(next, to)?)
    };
    let pair_of = |name: &str| Pair {
        cert: dir.path().join(format!("{name}.cert.pem")),
        key: dir.path().join(format!("{name}.key.pem")),
    };
    let dress = |authority: &Authority, name: &str| -> Result<()> {
        let (made, pair) = (authority.issue(&format!("of-{name}"), Says::named("member"))?, pair_of(name));
        place(&made.cert, &pair.cert)?;
        place(&made.key, &pair.key)
    };
    place(&first.certificate(), &ca)?;
    for setup in &mut setups {
        dress(&first, &setup.name)?;
        *setup = with(setup.clone(), &peer_flags(&pair_of(&setup.name), &ca));
    }
    let mut three = Cluster::of(&Program::under_test()?, &setups)?;
    three.etcdctl_ok(0, &["put", "a", "first"])?;
    let (old, new) = (first.issue("old", Says::named("member"))?, second.issue("new", Says::named("member"))?);
    let url = setups[1].peer_url.clone();
    ensure!(knock(&url, &first.certificate(), Some(&old))?.is_some(), "at first");
    ensure!(knock(&url, &first.certificate(), Some(&new))?.is_none(), "of the second authority, too early");

    // As one does it by hand: trust both, change one after the other, trust only the new.
    place(&both, &ca)?;
    for setup in &setups {
        dress(&second, &setup.name)?;
    }
    place(&second.certificate(), &ca)?;
    ensure!(knock(&url, &second.certificate(), Some(&old))?.is_none(), "the first authority is still believed");
    ensure!(knock(&url, &second.certificate(), Some(&new))?.is_some(), "the second authority is not believed");
    three.etcdctl_ok(1, &["put", "a", "second"])?;
    // Members find each other anew with what is there now; nobody else was restarted.
    three.members[0].restart()?;
    three.etcdctl_ok(0, &["put", "a", "third"])?;
    three.agree(&[0, 1, 2])?;
    Ok(())
}

fn automatic() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setups = Cluster::over_tls(Cluster::setups(&Program::under_test()?, dir.path(), 3, &QUICK)?);
    let setups: Vec<Setup> = setups.into_iter().map(|setup| setup.flags(&["--peer-auto-tls"])).collect();
    let three = Cluster::of(&Program::under_test()?, &setups)?;
    three.etcdctl_ok(2, &["put", "key", "value"])?;
    three.agree(&[0, 1, 2])?;
    let clear = setups[0].peer_url.replace("https", "http");
    let out = Command::new("curl").args(["-s", "-m", "5", &format!("{clear}/members")]).output()?;
    ensure!(!String::from_utf8_lossy(&out.stdout).contains("clientURLs"), "the peer port speaks in the clear");
    Ok(())
}

/// Rows of every kind of call.
const SLICE: [&str; 19] = [
    "range inside",
    "range outside",
    "range, serializable, outside",
    "put inside",
    "put outside",
    "put on a lease with others' keys",
    "delete outside",
    "nested txn that reads outside",
    "nested txn that writes outside",
    "txn with a previous pair that may not be read",
    "watch inside",
    "watch of all keys",
    "keep a lease with others' keys alive",
    "time of a lease",
    "revoke a lease that is not there",
    "status",
    "list of members",
    "add a user",
    "raise an alarm",
];

fn matrix() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut world = World::of_three(&Program::under_test()?, dir.path(), &QUICK)?;
    let long = std::env::var_os("EYRIE_LONG").is_some();
    let mut cells = 0;
    for full in [false, true] {
        if full {
            world.fill_up()?;
        }
        let rows = if long { rows::all() } else { rows::named(&SLICE) };
        // In the short form a full store is asked through one of them.
        for member in if full && !long { 2..3 } else { 0..3 } {
            world.ask_at(member);
            cells +=
                walk(&mut world, &rows, false).map_err(|wrong| wrong.context(format!("through member {member}")))?;
        }
    }
    println!("{cells} cells");
    ensure!(cells >= 1_000, "only {cells} cells");
    Ok(())
}

/// Upstream's etcdctl at an encrypted door.
fn etcdctl(url: &str, ca: &Path, pair: &Pair, args: &[&str]) -> Result<Output> {
    let mut ctl = Command::new(&Program::upstream()?.ctl[0]);
    ctl.args(["--endpoints", url, "--dial-timeout=3s", "--command-timeout=8s", "--cacert", text(ca)]);
    ctl.args(["--cert", pair.cert(), "--key", pair.key()]).args(args);
    bounded(ctl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), CALL_LIMIT)
}

/// Users that certificates and passwords can be of.
const USERS: [&str; 7] = [
    "user add root:rootpw",
    "user add cert-user --no-password",
    "role add ranger",
    "role grant-permission ranger readwrite r s",
    "user grant-role cert-user ranger",
    "user grant-role root root",
    "auth enable",
];

fn etcdctl_everywhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Authority::new(&dir.path().join("ours"))?;
    let ca = ours.certificate();
    let server = ours.issue("server", Says::named("server"))?;
    let mut secure = Vec::new();
    let mut setups = Vec::new();
    for setup in secured(dir.path(), &ours, &[])? {
        let (setup, url) = setup.secure_door(&server, &ca, &["--client-cert-auth"])?;
        setups.push(setup);
        secure.push(url);
    }
    let three = Cluster::of(&Program::under_test()?, &setups)?;
    let unknown = ours.issue("unknown", Says::named("somebody"))?;
    let user = ours.issue("user", Says::named("cert-user"))?;
    let root = ours.issue("root", Says::named("root"))?;
    let run = |at: usize, pair: &Pair, line: &str| -> Result<(bool, String)> {
        let out = etcdctl(&secure[at], &ca, pair, &line.split(' ').collect::<Vec<_>>())?;
        Ok((
            out.status.success(),
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
        ))
    };
    for (at, line) in USERS.iter().enumerate() {
        let (done, said) = run(at % 3, &unknown, line)?;
        ensure!(done, "{line}: {said}");
    }
    for at in 0..3 {
        for (pair, line, words) in [
            (&unknown, "--user root:rootpw put z 1", "OK"),
            (&unknown, "--user root:rootpw get z --print-value-only", "1"),
            (&unknown, "--user root:wrong get z", "authentication failed, invalid user ID or password"),
            // A name that no user has may nothing, whatever authority vouches for it.
            (&unknown, "get z", "permission denied"),
            (&user, "put r1 1", "OK"),
            (&user, "get z", "permission denied"),
            (&user, "user list", "permission denied"),
            (&root, "user list", "cert-user"),
            (&root, "member list", "started"),
            // A password is asked for where one is given, whatever the certificate says.
            (&root, "--user cert-user:x get r1", "authentication failed"),
        ] {
            let (_, said) = run(at, pair, line)?;
            ensure!(said.contains(words), "member {at}: {line}: {said}");
        }
        let (locked, said) = run(at, &user, "lock r/lock echo held")?;
        ensure!(locked && said.contains("held"), "member {at}: a lock by certificate: {said}");
    }
    // Also by the members' doors in the clear nobody is anybody without a password.
    for at in 0..3 {
        let refused = three.etcdctl(at, &["get", "r1"])?;
        ensure!(String::from_utf8_lossy(&refused.stderr).contains("user name is empty"), "{refused:?}");
    }
    Ok(())
}

fn certificate_is_no_login() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Authority::new(&dir.path().join("ours"))?;
    let ca = ours.certificate();
    let (server, root) = (ours.issue("server", Says::named("server"))?, ours.issue("root", Says::named("root"))?);
    for (required, words) in [(true, "root"), (false, "user name is empty")] {
        let place = dir.path().join(format!("{required}"));
        std::fs::create_dir_all(&place)?;
        let flag = format!("--client-cert-auth={required}");
        let (setup, secure) = Setup::new(&Program::under_test()?, &place)?.secure_door(&server, &ca, &[&flag])?;
        let store = setup.start()?;
        for line in USERS {
            store.etcdctl_ok(&line.split(' ').collect::<Vec<_>>())?;
        }
        let out = etcdctl(&secure, &ca, &root, &["user", "list"])?;
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(out.status.success() == required && said.contains(words), "required: {required}: {said}");
        // The gateway answers for who brings a token; the certificate of its caller is nobody's login.
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "10", "--cacert", text(&ca), "--cert", root.cert(), "--key", root.key()]);
        curl.args(["-X", "POST", "-d", "{}", &format!("{secure}/v3/auth/user/list")]);
        let out = bounded(curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), CALL_LIMIT)?;
        let said = String::from_utf8_lossy(&out.stdout);
        ensure!(said.contains("user name is empty"), "required: {required}: the gateway: {said}");
    }
    Ok(())
}
