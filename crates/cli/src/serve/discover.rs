//! `--discovery-srv`: the members at the first start, from the SRV records of a domain.
//!
//! ```text
//! _etcd-server-ssl._tcp.DOMAIN  ─▶ https://TARGET:PORT ┐
//! _etcd-server._tcp.DOMAIN      ─▶ http://TARGET:PORT  ┴▶ as if they stood in --initial-cluster
//! ```
//! A resolver of its own, as small as the question: SRV records are nothing that the system's resolver answers.

use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How long one server is waited for, and how often each is asked.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// See above.
const ROUNDS: usize = 2;
/// Larger answers come over TCP.
const UDP_BYTES_MAX: usize = 4096;
/// A cluster has a few members; more records are no list of members.
const RECORDS_MAX: usize = 64;
/// Pointers followed in one name: more is a circle.
const POINTERS_MAX: usize = 32;
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

/// The members that the records of `domain` name; `service` is `--discovery-srv-name`. The one whose URL means the same
/// address as one of `advertised` gets `name`; the others are numbered.
///
/// # Errors
/// Why nobody was found, in words that name the records.
pub(super) fn members(
    domain: &str,
    service: &str,
    name: &str,
    advertised: &[String],
) -> Result<Vec<(String, String)>, String> {
    let servers = servers_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let (mut members, mut failures) = (Vec::new(), Vec::new());
    let suffix = if service.is_empty() { String::new() } else { format!("-{service}") };
    for (scheme, kind) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let record = format!("_{kind}{suffix}._tcp.{domain}");
        match lookup(&servers, &record) {
            Ok(targets) => {
                for target in targets {
                    let url = format!("{scheme}://{}:{}", target.host, target.port);
                    let own = advertised.iter().any(|advertised| *advertised == url || same_place(advertised, &url));
                    // What is advertised goes into the member's id, so it is taken as it was typed.
                    let typed = advertised.iter().find(|advertised| same_place(advertised, &url));
                    let member = if own { name.to_owned() } else { members.len().to_string() };
                    members.push((member, typed.filter(|_| own).cloned().unwrap_or(url)));
                }
            }
            Err(why) => failures.push(format!("{record}: {why}")),
        }
    }
    if members.is_empty() {
        return Err(format!("error querying DNS SRV records for --discovery-srv {domain}: {}", failures.join("; ")));
    }
    if !members.iter().any(|(member, _)| member == name) {
        let all: Vec<&str> = members.iter().map(|(_, url)| url.as_str()).collect();
        return Err(format!(
            "the SRV records of {domain} name {}, but not this member: --initial-advertise-peer-urls={} must be one of them",
            all.join(", "),
            advertised.join(",")
        ));
    }
    Ok(members)
}

/// Both URLs have the same scheme, and lead to the same address.
fn same_place(one: &str, other: &str) -> bool {
    let resolve = |url: &str| -> Option<(String, Vec<SocketAddr>)> {
        let (scheme, place) = url.split_once("://")?;
        let mut found: Vec<_> = place.to_socket_addrs().ok()?.collect();
        found.sort();
        Some((scheme.to_owned(), found))
    };
    match (resolve(one), resolve(other)) {
        (Some((a, one)), Some((b, other))) => a == b && one.iter().any(|address| other.contains(address)),
        _ => false,
    }
}

/// The name servers of a `resolv.conf`.
fn servers_of(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok();
    let found: Vec<_> =
        text.lines().filter_map(|line| address(line.trim())).map(|ip| SocketAddr::new(ip, 53)).collect();
    if found.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], 53))] } else { found }
}

fn lookup(servers: &[SocketAddr], name: &str) -> Result<Vec<Target>, String> {
    let mut why = "no name server is known".to_owned();
    for _ in 0..ROUNDS {
        for server in servers {
            match ask(*server, name) {
                Ok(targets) if targets.is_empty() => return Err("no such record".into()),
                Ok(targets) => return Ok(targets),
                Err(error) => why = format!("{server}: {error}"),
            }
        }
    }
    Err(why)
}

fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<Target>> {
    let id = std::hash::RandomState::new().build_hasher().finish() as u16;
    let question = question(id, name)?;
    let local: SocketAddr =
        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    // Only this server's answers are heard.
    socket.connect(server)?;
    socket.send(&question)?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    let len = socket.recv(&mut answer)?;
    answer.truncate(len);
    if answer.get(2).is_some_and(|flags| flags & 0x02 != 0) {
        answer = ask_by_tcp(server, &question)?;
    }
    read(&answer, id, &question).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&(question.len() as u16).to_be_bytes())?;
    stream.write_all(question)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The bytes of a question for the SRV records of a name.
fn question(id: u16, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Recursion is desired; one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len));
        let len = len.ok_or_else(|| io::Error::other(format!("{name:?} is no name of a domain")))?;
        bytes.push(len);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(TYPE_SRV.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    Ok(bytes)
}

/// Reads an answer to `question`; a name that does not exist has no records.
fn read(answer: &[u8], id: u16, question: &[u8]) -> Result<Vec<Target>, String> {
    let word = |at: usize| -> Result<u16, String> {
        let bytes = answer.get(at..at + 2).ok_or("the answer is cut off")?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let flags = word(2)?;
    if word(0)? != id || flags & 0x8000 == 0 || word(4)? != 1 {
        return Err("this is no answer to the question".into());
    }
    match flags & 0x000f {
        0 => {}
        3 => return Ok(vec![]),
        2 => return Err("the name server failed".into()),
        code => return Err(format!("the name server refused (code {code})")),
    }
    let asked = answer.get(12..question.len()).ok_or("the answer is cut off")?;
    if !asked.eq_ignore_ascii_case(&question[12..]) {
        return Err("this is an answer to another question".into());
    }
    let (mut at, mut targets) = (question.len(), Vec::new());
    for _ in 0..word(6)?.min(RECORDS_MAX as u16) {
        at = name(answer, at)?.1;
        let (kind, len) = (word(at)?, usize::from(word(at + 8)?));
        let data = at + 10;
        if kind == TYPE_SRV {
            let (host, _) = name(answer, data + 6)?;
            targets.push(Target { host, port: word(data + 4)? });
        }
        at = data + len;
    }
    Ok(targets)
}

/// A name, and where what follows it begins.
fn name(bytes: &[u8], start: usize) -> Result<(String, usize), String> {
    let (mut at, mut after, mut labels, mut pointers) = (start, None, Vec::new(), 0);
    loop {
        let len = *bytes.get(at).ok_or("a name is cut off")?;
        match len {
            0 => return Ok((labels.join("."), after.unwrap_or(at + 1))),
            0xc0.. => {
                let low = *bytes.get(at + 1).ok_or("a name is cut off")?;
                after.get_or_insert(at + 2);
                pointers += 1;
                if pointers > POINTERS_MAX {
                    return Err("a name runs in a circle".into());
                }
                at = usize::from(len & 0x3f) << 8 | usize::from(low);
            }
            1..=63 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(len)).ok_or("a name is cut off")?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + usize::from(len);
            }
            _ => return Err("a name makes no sense".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "_etcd-server._tcp.example.test";

    /// An answer with these targets, in the domain of the question by a pointer.
    fn answer(question: &[u8], hosts: &[(&str, u16)]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&0x8180_u16.to_be_bytes());
        bytes[6..8].copy_from_slice(&(hosts.len() as u16).to_be_bytes());
        // `example.test` stands behind the two labels of the service.
        let domain = 12 + "_etcd-server".len() + 1 + "_tcp".len() + 1;
        for (host, port) in hosts {
            let mut target = vec![host.len() as u8];
            target.extend(host.as_bytes());
            target.extend((0xc000 | domain as u16).to_be_bytes());
            bytes.extend([0xc0, 12]);
            bytes.extend(
                [TYPE_SRV, CLASS_IN, 0, 60, 6 + target.len() as u16, 0, 0, *port].iter().flat_map(|w| w.to_be_bytes()),
            );
            bytes.extend(target);
        }
        bytes
    }

    #[test]
    fn records_are_asked_for_and_read() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let mut asked = [0; 512];
            let (len, from) = server.recv_from(&mut asked).unwrap();
            server.send_to(&answer(&asked[..len], &[("a", 2380), ("b", 2381)]), from).unwrap();
        });
        let target = |host: &str, port| Target { host: format!("{host}.example.test"), port };
        assert_eq!(lookup(&[address], RECORD), Ok(vec![target("a", 2380), target("b", 2381)]));
        serving.join().unwrap();
    }

    #[test]
    fn whatever_comes_is_an_answer_or_refused() {
        let asked = question(7, RECORD).unwrap();
        let whole = answer(&asked, &[("a", 1), ("b", 2)]);
        assert_eq!(read(&whole, 7, &asked).unwrap().len(), 2);
        assert!(read(&whole, 8, &asked).is_err(), "of another question");
        for len in 0..whole.len() {
            assert!(read(&whole[..len], 7, &asked).is_err(), "cut at {len}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut broken = whole.clone();
                broken[at] ^= 1 << bit;
                let _ = read(&broken, 7, &asked);
            }
        }
        let mut circle = whole.clone();
        let at = asked.len();
        circle[at..at + 2].copy_from_slice(&(0xc000 | at as u16).to_be_bytes());
        assert_eq!(read(&circle, 7, &asked).unwrap_err(), "a name runs in a circle");
        assert!(question(1, "a..b").is_err() && question(1, &"x".repeat(64)).is_err());
    }

    #[test]
    fn servers_are_those_of_the_system() {
        let text = "# comment\nsearch x\nnameserver 10.0.0.1\n nameserver fe80::1 \nnameserver nonsense\n";
        let found: Vec<String> = servers_of(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fe80::1]:53"]);
        assert_eq!(servers_of("")[0].to_string(), "127.0.0.1:53");
    }
}
