//! Who founds the restored cluster: names, peer URLs, and the ids that follow from them as etcd computes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

use eyrie_server::founding;
use eyrie_state::{ClusterId, Member, MemberId};

/// A cluster to be, and which of its members we are.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) cluster: ClusterId,
    pub(crate) me: MemberId,
    /// By id.
    pub(crate) members: Vec<Member>,
}

impl Bootstrap {
    /// Reads and checks the four flags; the error is upstream's.
    pub(crate) fn new(name: &str, cluster: &str, advertised: &str, token: &str) -> Result<Self, String> {
        let advertised: Vec<&str> = advertised.split(',').collect();
        let advertised = parse_urls(&advertised)?;
        let by_name = parse_cluster(cluster)?;
        let Some(mine) = by_name.get(name) else {
            return Err(format!("couldn't find local name {name:?} in the initial cluster configuration"));
        };
        same_urls(name, mine, &advertised)?;
        let all: Vec<&String> = by_name.values().flatten().collect();
        if all.iter().collect::<BTreeSet<_>>().len() != all.len() {
            return Err(format!("initial cluster {} has duplicate url", cluster_text(&by_name)));
        }
        let pairs: Vec<(String, String)> =
            by_name.iter().flat_map(|(name, urls)| urls.iter().map(move |url| (name.clone(), url.clone()))).collect();
        let mut members = founding::founders(&pairs, token);
        members.sort_by_key(|member| member.id);
        let cluster = founding::cluster_id(members.iter().map(|member| member.id));
        Ok(Self { cluster, me: founding::founding_member_id(mine, token), members })
    }
}

/// All members of `--initial-cluster`, with their peer URLs; the error is upstream's.
pub(super) fn all_named(cluster: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    Ok(parse_cluster(cluster)?.into_iter().collect())
}

/// `name=url,name=url`: sorted URLs of each name.
pub(crate) fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        by_name.entry(name.to_owned()).or_default().push(url);
    }
    by_name.into_iter().map(|(name, urls)| Ok((name, parse_urls(&urls)?))).collect()
}

/// Checks and sorts URLs as upstream does.
fn parse_urls(texts: &[&str]) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    for text in texts {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        if !["http", "https", "unix", "unixs"].contains(&scheme) {
            return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
        }
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if host.starts_with('[') && !host.contains(']') {
            return Err(format!("parse {text:?}: missing ']' in host"));
        }
        if !is_host_port(host) {
            return Err(format!("URL address does not have the form \"host:port\": {text}"));
        }
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        urls.push(format!("{scheme}://{host}"));
    }
    urls.sort();
    Ok(urls)
}

fn is_host_port(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").is_some(),
        None => text.matches(':').count() == 1,
    }
}

/// The advertised URLs must be those of the cluster's list, by text or by address.
fn same_urls(name: &str, listed: &[String], advertised: &[String]) -> Result<(), String> {
    let addresses = |urls: &[String]| -> Vec<String> {
        let mut resolved: Vec<String> = urls.iter().map(|url| resolve(url)).collect();
        resolved.sort();
        resolved
    };
    if listed == advertised || (listed.len() == advertised.len() && addresses(listed) == addresses(advertised)) {
        return Ok(());
    }
    let cause = if listed.len() == advertised.len() {
        let pair = advertised.iter().zip(listed).find(|(a, b)| resolve(a) != resolve(b));
        pair.map_or_else(String::new, |(a, b)| {
            format!("{:?}(resolved from {a:?}) != {:?}(resolved from {b:?})", resolve(a), resolve(b))
        })
    } else {
        format!("len({}) != len({})", go_list(advertised), go_list(listed))
    };
    let missing: Vec<String> =
        listed.iter().filter(|url| !advertised.contains(url)).map(|url| format!("{name}={url}")).collect();
    if !missing.is_empty() {
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({cause})",
            missing.join(","),
            advertised.join(",")
        ));
    }
    let missing: Vec<&str> = advertised.iter().filter(|url| !listed.contains(url)).map(String::as_str).collect();
    let mine: Vec<String> = advertised.iter().map(|url| format!("{name}={url}")).collect();
    Err(format!(
        "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
        missing.join(","),
        mine.join(",")
    ))
}

/// The URL with its host as an address; unchanged when there is none, or when it is `localhost`.
fn resolve(url: &str) -> String {
    let Some((scheme, host)) = url.split_once("://") else { return url.to_owned() };
    if host.starts_with("localhost:") {
        return url.to_owned();
    }
    match host.to_socket_addrs().ok().and_then(|mut found| found.next()) {
        Some(address) => format!("{scheme}://{address}"),
        None => url.to_owned(),
    }
}

fn go_list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "))
}

fn cluster_text(by_name: &BTreeMap<String, Vec<String>>) -> String {
    let pairs = by_name.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_upstream() {
        let url = "http://localhost:2380";
        let one = Bootstrap::new("default", &format!("default={url}"), url, "etcd-cluster").unwrap();
        assert_eq!((one.me.0, one.cluster.0), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
        let two = "default=http://localhost:2380,default=http://127.0.0.1:2381";
        let two =
            Bootstrap::new("default", two, "http://localhost:2380,http://127.0.0.1:2381", "etcd-cluster").unwrap();
        assert_eq!((two.me.0, two.cluster.0), (0xf475_9bd4_30c3_4fe2, 0xc3cf_aa14_f0cf_70f3));
    }

    #[test]
    fn wrong_clusters_are_refused_in_upstreams_words() {
        let refuse = |cluster: &str, advertised: &str| Bootstrap::new("default", cluster, advertised, "t").unwrap_err();
        let here = "http://localhost:2380";
        assert_eq!(refuse("default", here), "URL scheme must be http, https, unix, or unixs: ");
        assert_eq!(refuse("", here), "couldn't find local name \"default\" in the initial cluster configuration");
        assert_eq!(refuse("a=b=c", here), "URL scheme must be http, https, unix, or unixs: b=c");
        assert_eq!(
            refuse("default=http://localhost", here),
            "URL address does not have the form \"host:port\": http://localhost"
        );
        assert_eq!(
            refuse("default=http://localhost:1/abc", here),
            "URL must not contain a path: http://localhost:1/abc"
        );
        assert_eq!(
            refuse("default=http://localhost:2380", "http://1.1.1.1:1"),
            "--initial-cluster has default=http://localhost:2380 but missing from \
             --initial-advertise-peer-urls=http://1.1.1.1:1 (\"http://1.1.1.1:1\"(resolved from \"http://1.1.1.1:1\") != \
             \"http://localhost:2380\"(resolved from \"http://localhost:2380\"))"
        );
        assert_eq!(
            refuse("default=http://localhost:2380,b=http://localhost:2380", here),
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url"
        );
    }
}
