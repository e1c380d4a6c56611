//! How clusters are founded: ids as upstream computes them, members that are found by DNS, members that talk over unix sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::place::Place;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

/// An election soon, so that tests are short.
const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// The domain that the name server of the tests knows.
const DOMAIN: &str = "cluster.test";

#[test]
fn ids_of_a_cluster_are_upstreams() -> Verdict {
    Ok(same_ids()?)
}

#[test]
fn members_find_each_other_by_dns() -> Verdict {
    Ok(by_dns()?)
}

#[test]
fn members_talk_over_unix_sockets() -> Verdict {
    Ok(over_unix()?)
}

/// All numbers of a cluster: its own, and its members' by name.
type Ids = (u64, BTreeMap<String, u64>);

fn ids(cluster: &Cluster) -> Result<Ids> {
    let text = cluster.etcdctl_ok(0, &["member", "list", "-w", "json"])?;
    let list: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let members = list["members"].as_array().context("members")?.iter();
    let id = |member: &Value| Some((member["name"].as_str()?.to_owned(), member["ID"].as_u64()?));
    let members = members.map(|member| id(member).with_context(|| text.clone())).collect::<Result<_>>()?;
    Ok((list["header"]["cluster_id"].as_u64().context("a cluster's id")?, members))
}

/// The same flags for both programs, one after the other, on the same ports.
fn same_ids() -> Result<()> {
    let under_test = Program::under_test()?;
    let dir = tempfile::tempdir()?;
    let plain = Cluster::setups(&under_test, dir.path(), 3, &QUICK)?;
    let token: Vec<Setup> = plain.iter().map(|s| s.clone().flags(&["--initial-cluster-token", "another"])).collect();
    let mut several = plain.clone();
    second_addresses(&mut several)?;
    let mut seen = BTreeSet::new();
    for (what, setups) in [("plain", plain), ("with a token", token), ("with several addresses", several)] {
        let mut answers = Vec::new();
        for program in [Program::upstream()?, under_test.clone()] {
            let place = dir.path().join(what).join(program.name);
            std::fs::create_dir_all(&place)?;
            let mut setups = setups.clone();
            for setup in &mut setups {
                setup.program = program.clone();
                setup.data = place.join(&setup.name);
            }
            answers.push(ids(&Cluster::of(&program, &setups)?)?);
        }
        ensure!(answers[0] == answers[1], "{what}: upstream {:x?}, here {:x?}", answers[0], answers[1]);
        ensure!(answers[0].1.len() == 3, "{answers:x?}");
        seen.insert(answers[0].clone());
    }
    ensure!(seen.len() == 3, "the token and the addresses are part of an id: {seen:x?}");
    Ok(())
}

/// A second address for each, told in another order than it is kept in.
fn second_addresses(setups: &mut [Setup]) -> Result<()> {
    for setup in setups.iter_mut() {
        let second = format!("http://127.0.0.1:{}", eyrie_tests::ports::free()?);
        let both = format!("{second},{}", setup.peer_url);
        *setup = setup.clone().flags(&["--listen-peer-urls", &both]);
        setup.peer_url = both;
    }
    let named =
        |setup: &Setup| setup.peer_url.split(',').map(|url| format!("{}={url}", setup.name)).collect::<Vec<_>>();
    let all = setups.iter().flat_map(named).collect::<Vec<_>>().join(",");
    setups.iter_mut().for_each(|setup| setup.initial_cluster.clone_from(&all));
    Ok(())
}

/// Members that know only a domain, in a namespace where a name server of our own answers.
fn by_dns() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let mut setups = Cluster::setups(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    let asked = name_server(&place, setups.iter().map(|setup| setup.peer_port).collect())?;
    let resolv = dir.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.1\n")?;
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost node.{DOMAIN}\n"))?;
    for setup in &mut setups {
        setup.place = place.clone();
        setup.peer_url = format!("http://node.{DOMAIN}:{}", setup.peer_port);
        setup.initial_cluster = String::new();
        *setup = setup.clone().flags(&["--discovery-srv", DOMAIN]);
        setup.wrapper = with_files(&[(&resolv, "/etc/resolv.conf"), (&hosts, "/etc/hosts")]);
    }
    let three = Cluster::of(&Program::under_test()?, &setups)?;
    three.etcdctl_ok(1, &["put", "found", "by name"])?;
    three.members.iter().try_for_each(|member| {
        let value = member.etcdctl_ok(&["get", "found", "--print-value-only"])?;
        ensure!(value.trim() == "by name", "{value}");
        anyhow::Ok(())
    })?;
    let list = three.etcdctl_ok(0, &["member", "list"])?;
    ensure!(setups.iter().all(|setup| list.contains(&setup.peer_url)), "{list}");
    ensure!(asked.load(Ordering::Relaxed) >= 3, "nobody asked the name server");

    // A member whose address no record names must not begin.
    let stray = dir.path().join("stray");
    std::fs::create_dir(&stray)?;
    let mut stray = Setup { place, ..Setup::new(&Program::under_test()?, &stray)? }.flags(&["--discovery-srv", DOMAIN]);
    stray.name = "stray".into();
    stray.peer_url = format!("http://node.{DOMAIN}:{}", stray.peer_port);
    stray.initial_cluster = String::new();
    stray.wrapper = setups[0].wrapper.clone();
    let (status, log) = stray.run_to_end(Duration::from_secs(20))?;
    ensure!(!status.success() && log.contains("but not this member"), "{log}");
    Ok(())
}

/// Runs a program that sees other files in some places.
fn with_files(files: &[(&Path, &str)]) -> Vec<std::ffi::OsString> {
    let mounts = files.iter().map(|(file, over)| format!("mount --bind '{}' '{over}' && ", file.display()));
    let script = format!("{}exec \"$@\"", mounts.collect::<String>());
    ["unshare", "-m", "sh", "-c", &script, "sh"].into_iter().map(Into::into).collect()
}

/// Answers for the SRV records of [`DOMAIN`] from inside of `place`: `node.DOMAIN` at each of these ports. Counts questions.
fn name_server(place: &Place, ports: Vec<u16>) -> Result<Arc<AtomicUsize>> {
    let place = place.clone();
    // A thread that has gone to another namespace stays there.
    let socket = std::thread::spawn(move || {
        place.enter()?;
        Ok::<_, anyhow::Error>(UdpSocket::bind("127.0.0.1:53")?)
    });
    let socket = socket.join().map_err(|_| anyhow::anyhow!("the name server panicked"))??;
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&answer(&question[..len], &ports), from);
        }
    });
    Ok(count)
}

/// The answer to a question: SRV records for the service in the clear, `no such name` for all else.
fn answer(question: &[u8], ports: &[u16]) -> Vec<u8> {
    let name = |dotted: &str| {
        let labels = dotted.split('.').flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat());
        labels.chain([0]).collect::<Vec<u8>>()
    };
    let known = name(&format!("_etcd-server._tcp.{DOMAIN}"));
    let end = 12 + question.get(12..).and_then(|rest| rest.iter().position(|byte| *byte == 0)).unwrap_or(0) + 5;
    let mut answer = question[..end.min(question.len())].to_vec();
    let right = answer.get(12..12 + known.len()) == Some(&known[..]);
    // An answer, recursion available; no error or no such name. One question, no other sections.
    answer[2..4].copy_from_slice(&[0x81, if right { 0x80 } else { 0x83 }]);
    answer[4..12].copy_from_slice(&[0, 1, 0, if right { ports.len() as u8 } else { 0 }, 0, 0, 0, 0]);
    for port in ports.iter().filter(|_| right) {
        let target = name(&format!("node.{DOMAIN}"));
        // The name of the question, SRV, IN, a minute; priority, weight, port.
        answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 6 + target.len() as u8, 0, 0, 0, 0]);
        answer.extend(port.to_be_bytes());
        answer.extend(target);
    }
    answer
}

fn over_unix() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut setups = Cluster::setups(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    for setup in &mut setups {
        setup.peer_url = format!("unix://{}/{}.sock", dir.path().display(), setup.name);
        let listen = setup.peer_url.clone();
        *setup = setup.clone().flags(&["--listen-peer-urls", &listen]);
    }
    let all = setups.iter().map(|setup| format!("{}={}", setup.name, setup.peer_url)).collect::<Vec<_>>().join(",");
    setups.iter_mut().for_each(|setup| setup.initial_cluster.clone_from(&all));
    let mut three = Cluster::of(&Program::under_test()?, &setups)?;
    for at in 0..3 {
        three.etcdctl_ok(at, &["put", &format!("by/{at}"), "value"])?;
    }
    three.agree(&[0, 1, 2])?;
    // A socket that a killed member left behind is in nobody's way.
    let leader = three.leader()?;
    three.members[leader].restart()?;
    three.agree(&[0, 1, 2])?;
    let deaf = |setup: &Setup| TcpStream::connect(("127.0.0.1", setup.peer_port)).is_err();
    ensure!(setups.iter().all(deaf), "a member listens for others at a port");
    Ok(())
}
