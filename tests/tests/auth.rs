//! Users and roles from outside: the whole matrix, each bypass that upstream once had by its name, and secrets that must not
//! lie about.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use eyrie_api::{authpb, pb};
use eyrie_tests::auth::rows;
use eyrie_tests::auth::wire::Denial;
use eyrie_tests::auth::world::World;
use eyrie_tests::auth::{Who, walk};
use eyrie_tests::binaries::Program;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;

const LIMIT: Duration = Duration::from_secs(60);
/// How many cells the matrix must have at least.
const CELLS_MIN: usize = 1_000;

#[test]
fn nobody_gets_further_than_permitted() -> Verdict {
    let dir = tempfile::tempdir()?;
    let mut world = World::new(&Program::under_test()?, dir.path(), &[])?;
    let cells = walk(&mut world, &rows::all(), false)?;
    println!("{cells} cells");
    assert!(cells >= CELLS_MIN, "only {cells} cells");
    Ok(())
}

#[test]
fn a_full_store_asks_as_strictly() -> Verdict {
    let dir = tempfile::tempdir()?;
    let mut world = World::new(&Program::under_test()?, dir.path(), &[])?;
    world.fill_up()?;
    println!("{} cells", walk(&mut world, &rows::all(), false)?);
    Ok(())
}

/// The expectation is not invented: upstream does the same, but for the holes that it closed later.
#[test]
fn upstream_agrees_with_the_matrix_but_for_its_known_holes() -> Verdict {
    let dir = tempfile::tempdir()?;
    let mut world = World::new(&Program::upstream()?, dir.path(), &[])?;
    println!("{} cells", walk(&mut world, &rows::all(), true)?);
    Ok(())
}

#[test]
fn every_method_of_the_definitions_has_a_row() {
    let text = String::from_utf8_lossy(eyrie_api::DESCRIPTORS).into_owned();
    let rows = rows::all();
    let has = |path: &str| rows.iter().any(|row| row.path == path);
    let services = [
        ("etcdserverpb.KV", "Range Put DeleteRange Txn Compact"),
        ("etcdserverpb.Watch", "Watch"),
        ("etcdserverpb.Lease", "LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases"),
        ("etcdserverpb.Cluster", "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote"),
        ("etcdserverpb.Maintenance", "Alarm Status Defragment Hash HashKV Snapshot MoveLeader Downgrade"),
        (
            "etcdserverpb.Auth",
            "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete UserChangePassword \
             UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission",
        ),
        ("v3lockpb.Lock", "Lock Unlock"),
        ("v3electionpb.Election", "Campaign Proclaim Leader Observe Resign"),
        ("grpc.health.v1.Health", "Check Watch"),
    ];
    for (service, methods) in services {
        for method in methods.split_whitespace() {
            assert!(has(&format!("/{service}/{method}")), "no row asks {service}/{method}");
            assert!(text.contains(method), "{method} is no method any more");
        }
    }
}

/// Walks through some rows of the matrix on a store of their own.
fn holds(names: &[&str]) -> Verdict {
    let dir = tempfile::tempdir()?;
    let mut world = World::new(&Program::under_test()?, dir.path(), &[])?;
    walk(&mut world, &rows::named(names), false)?;
    Ok(())
}

#[test]
fn cve_2023_32082_keys_of_leases_are_shown_to_who_may_read_them() -> Verdict {
    holds(&["others' keys of a lease", "own keys of a lease", "time of a lease"])
}

#[test]
fn cve_2026_33343_nested_transactions_are_asked_at_every_depth() -> Verdict {
    holds(&[
        "nested txn inside",
        "nested txn that reads outside",
        "nested txn that writes outside",
        "nested txn that compares outside",
        "nested txn with a branch outside that does not run",
        "txn nested five deep that writes outside",
    ])
}

#[test]
fn cve_2026_33413_no_call_goes_unasked() -> Verdict {
    holds(&[
        "list of members",
        "list of alarms",
        "raise an alarm",
        "lift an alarm",
        "grant a lease",
        "revoke a lease that is not there",
        "keep a lease with others' keys alive",
        "time of a lease",
        "list of leases",
        "compact",
        "status",
    ])
}

#[test]
fn cve_2026_44283_previous_pairs_and_leases_inside_transactions_are_asked() -> Verdict {
    holds(&[
        "txn with a previous pair that may not be read",
        "txn on a lease with others' keys",
        "nested txn with a previous pair that may not be read",
        "nested txn on a lease with others' keys",
    ])
}

#[test]
fn cve_2026_73499_a_watch_to_the_end_needs_all_keys_to_the_end() -> Verdict {
    holds(&["watch to the end of all keys", "watch of all keys", "watch inside"])
}

#[test]
fn a_full_store_does_not_let_tenants_switch_authentication_off() -> Verdict {
    let dir = tempfile::tempdir()?;
    let mut world = World::new(&Program::under_test()?, dir.path(), &[])?;
    world.fill_up()?;
    let rows =
        rows::named(&["switch authentication off", "add a user", "grant a role", "put outside", "lift an alarm"]);
    walk(&mut world, &rows, false)?;
    Ok(())
}

/// CVE-2021-28235, and GHSA on passwords in the log: what is secret is nowhere but in the hands of its owner.
#[test]
fn secrets_are_in_no_file_and_no_log() -> Verdict {
    Ok(secrets()?)
}

fn secrets() -> Result<()> {
    const FIRST: &str = "canary-password-4f1c";
    const SECOND: &str = "canary-password-9b2e";
    const WRONG: &str = "canary-password-77aa";
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::under_test()?, dir.path())?.flags(&["--bcrypt-cost=4", "--log-level=debug"]);
    let mut store = setup.start()?;
    store.etcdctl_ok(&["user", "add", &format!("root:{FIRST}")])?;
    store.etcdctl_ok(&["auth", "enable"])?;
    let root = format!("root:{FIRST}");
    store.etcdctl_ok(&["put", "visible-key", "visible-value", "--user", &root])?;
    ensure!(!store.etcdctl(&["get", "k", "--user", &format!("root:{WRONG}")])?.status.success());
    ensure!(
        http(&store, "/v3/auth/user/add", &format!(r#"{{"name":"bo","password":"{SECOND}"}}"#), None)?
            .contains("user name is empty")
    );
    let said = http(&store, "/v3/auth/authenticate", &format!(r#"{{"name":"root","password":"{FIRST}"}}"#), None)?;
    let token =
        said.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).context(said.clone())?.to_owned();
    let letters = token.split('.').next().context("a token")?.to_owned();
    let add = format!(r#"{{"name":"bo","password":"{SECOND}"}}"#);
    ensure!(!http(&store, "/v3/auth/user/add", &add, Some(&token))?.contains("error"));
    let change = format!(r#"{{"name":"bo","password":"{FIRST}"}}"#);
    ensure!(!http(&store, "/v3/auth/user/changepw", &change, Some(&token))?.contains("error"));
    let snapshot = dir.path().join("saved.db");
    store.etcdctl_ok(&["snapshot", "save", text(&snapshot)?, "--user", &root])?;
    let pages = ["/metrics", "/debug/requests", "/debug/vars", "/health", "/config/local/log"];
    let pages: String = pages.iter().map(|page| get(&store, page)).collect::<Result<_>>()?;
    store.kill9()?;
    let mut visible = false;
    let mut files = vec![("pages".to_owned(), pages.into_bytes())];
    read_all(dir.path(), &mut files)?;
    for (name, bytes) in &files {
        visible |= contains(bytes, "visible-value");
        for secret in [FIRST, SECOND, WRONG, &letters] {
            assert!(!contains(bytes, secret), "{secret} stands in {name}");
        }
    }
    assert!(visible, "the search finds nothing at all");
    assert!(files.len() > 4, "{} files", files.len());
    Ok(())
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

fn read_all(dir: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, files)?;
        } else {
            files.push((path.display().to_string(), std::fs::read(&path)?));
        }
    }
    Ok(())
}

#[test]
fn users_and_roles_travel_to_upstream_and_back() -> Verdict {
    let (ours, upstream) = (Program::under_test()?, Program::upstream()?);
    travels(&upstream, &ours)?;
    travels(&ours, &upstream)?;
    Ok(())
}

fn travels(from: &Program, to: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(from, dir.path())?.flags(&["--bcrypt-cost=4"]).start()?;
    for line in [
        "user add root:rootpw",
        "user add bo:bopw",
        "user add guest --no-password",
        "role add r",
        "role grant-permission r readwrite a b",
        "role grant-permission r read m --from-key",
        "user grant-role bo r",
        "put a1 kept",
        "put z kept",
        "put l kept",
        "auth enable",
    ] {
        store.etcdctl_ok(&line.split(' ').collect::<Vec<_>>())?;
    }
    let facts = |store: &Store| -> Result<String> {
        let mut all = String::new();
        for line in
            ["auth status", "user list", "role list", "role get r", "user get bo", "user get root", "get --from-key a"]
        {
            let words: Vec<_> = line.split(' ').chain(["--user", "root:rootpw"]).collect();
            all += &store.etcdctl_ok(&words)?;
        }
        for line in ["get a1", "get z", "get l", "put a1 kept", "put m kept", "get a --from-key"] {
            let words: Vec<_> = line.split(' ').chain(["--user", "bo:bopw"]).collect();
            let out = store.etcdctl(&words)?;
            let denied = String::from_utf8_lossy(&out.stderr).contains("permission denied");
            all += &format!("{line}: {} {denied}\n", out.status.success());
        }
        all += &format!("{}\n", store.etcdctl(&["get", "a1"])?.status.success());
        all += &format!("{}\n", store.etcdctl(&["get", "a1", "--user", "bo:wrong"])?.status.success());
        Ok(all)
    };
    let before = facts(&store)?;
    ensure!(before.contains("get l: false true") && before.contains("get z: true false"), "{before}");
    let saved = dir.path().join("saved.db");
    store.etcdctl_ok(&["snapshot", "save", text(&saved)?, "--user", "root:rootpw"])?;
    let setup = Setup { data: dir.path().join("moved"), ..Setup::new(to, dir.path())? };
    let mut restore = Command::new(&to.utl[0]);
    restore.args(&to.utl[1..]).args(["snapshot", "restore", text(&saved)?, "--data-dir", text(&setup.data)?]);
    restore.args(["--initial-cluster", "default=http://localhost:2380"]);
    restore.args(["--initial-advertise-peer-urls", "http://localhost:2380"]);
    let restored = bounded(restore.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), LIMIT)?;
    ensure!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let moved = setup.flags(&["--bcrypt-cost=4"]).start()?;
    let after = facts(&moved)?;
    ensure!(before == after, "from {} to {}:\n{before}\nbecame\n{after}", from.name, to.name);
    for line in ["user add new:pw", "user delete bo", "auth disable"] {
        let words: Vec<_> = line.split(' ').chain(["--user", "root:rootpw"]).collect();
        moved.etcdctl_ok(&words)?;
    }
    moved.etcdctl_ok(&["get", "z"])?;
    Ok(())
}

#[test]
fn signed_tokens_outlive_a_restart_but_no_change_of_users() -> Verdict {
    Ok(signed_tokens()?)
}

fn signed_tokens() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key = dir.path().join("key.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", text(&key)?]);
    ensure!(bounded(openssl.stdout(Stdio::piped()).stderr(Stdio::piped()), LIMIT)?.status.success(), "openssl");
    let jwt = format!("--auth-token=jwt,sign-method=ES256,priv-key={},ttl=1h", text(&key)?);
    let mut store = Setup::new(&Program::under_test()?, dir.path())?.flags(&["--bcrypt-cost=4", &jwt]).start()?;
    for line in [
        "user add root:pw",
        "user add bo:pw",
        "role add r",
        "role grant-permission r readwrite k",
        "user grant-role bo r",
        "auth enable",
    ] {
        store.etcdctl_ok(&line.split(' ').collect::<Vec<_>>())?;
    }
    let log_in = |store: &Store, name: &str| -> Result<String> {
        let said = http(store, "/v3/auth/authenticate", &format!(r#"{{"name":"{name}","password":"pw"}}"#), None)?;
        Ok(said.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).context(said.clone())?.to_owned())
    };
    let (bo, put) = (log_in(&store, "bo")?, r#"{"key":"aw==","value":"dg=="}"#);
    ensure!(bo.split('.').count() == 3, "{bo}");
    ensure!(http(&store, "/v3/kv/put", put, Some(&bo))?.contains("\"revision\""));
    ensure!(http(&store, "/v3/kv/put", put, Some(&format!("Bearer {bo}")))?.contains("\"revision\""));
    ensure!(http(&store, "/v3/kv/put", r#"{"key":"eg=="}"#, Some(&bo))?.contains("permission denied"));
    store.restart()?;
    ensure!(http(&store, "/v3/kv/put", put, Some(&bo))?.contains("\"revision\""), "a token ended with a restart");
    store.etcdctl_ok(&["role", "add", "another", "--user", "root:pw"])?;
    let old = http(&store, "/v3/kv/put", put, Some(&bo))?;
    ensure!(old.contains("revision of auth store is old") && old.contains("\"code\":3"), "{old}");
    let old = http(&store, "/v3/kv/range", r#"{"key":"aw=="}"#, Some(&bo))?;
    ensure!(old.contains("revision of auth store is old"), "{old}");
    ensure!(http(&store, "/v3/kv/put", put, Some(&log_in(&store, "bo")?))?.contains("\"revision\""));
    store.etcdctl_ok(&["put", "k", "v", "--user", "bo:pw"])?;
    Ok(())
}

/// A stream that was opened with rights keeps what it has, as upstream's does; it gets nothing new without them.
#[test]
fn an_open_stream_gets_no_new_watcher_after_its_right_is_gone() -> Verdict {
    Ok(rights_that_go()?)
}

fn rights_that_go() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let world = World::new(&Program::under_test()?, dir.path(), &[])?;
    let ranged = world.log_in("ranged")?;
    let create = |key: &str| pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })),
    };
    let watch = "/etcdserverpb.Watch/Watch";
    ensure!(world.call(watch, create("r1"), Some(&ranged))?.denial.is_none());
    let revoke = pb::AuthUserRevokeRoleRequest { name: "ranged".into(), role: "ranger".into() };
    world.must("/etcdserverpb.Auth/UserRevokeRole", revoke, Some(Who::Root))?;
    ensure!(world.call(watch, create("r1"), Some(&ranged))?.denial == Some(Denial::Denied));
    let password =
        pb::AuthUserChangePasswordRequest { name: "ranged".into(), password: "new".into(), ..Default::default() };
    world.must("/etcdserverpb.Auth/UserChangePassword", password, Some(Who::Root))?;
    ensure!(world.call(watch, create("r1"), Some(&ranged))?.denial == Some(Denial::InvalidToken));
    let perm = authpb::Permission { perm_type: 0, key: "a".into(), range_end: "".into() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "ranger".into(), perm: Some(perm) };
    ensure!(
        world.call("/etcdserverpb.Auth/RoleGrantPermission", grant, Some(&ranged))?.denial
            == Some(Denial::InvalidToken)
    );
    Ok(())
}

fn http(store: &Store, route: &str, body: &str, token: Option<&str>) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "20", "-X", "POST", "-d", body, &format!("http://{}{route}", store.endpoint())]);
    if let Some(token) = token {
        curl.args(["-H", &format!("Authorization: {token}")]);
    }
    said(&mut curl)
}

fn get(store: &Store, page: &str) -> Result<String> {
    said(Command::new("curl").args(["-s", "-m", "20", &format!("http://{}{page}", store.endpoint())]))
}

fn said(command: &mut Command) -> Result<String> {
    let out = bounded(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), LIMIT)?;
    if !out.status.success() {
        bail!("{command:?}: {}", out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a plain path")
}
