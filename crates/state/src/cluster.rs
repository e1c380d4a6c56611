//! Who belongs to the cluster: its members, who left for ever, the version all can speak.
//!
//! Rows are JSON as upstream writes it, since snapshots travel. Whether a change is *safe* (quorum, health) is not
//! decided here; only whether it makes sense.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::answer::Refusal;
use crate::command::Member;
use crate::ids::MemberId;
use crate::limits::LEARNERS_MAX;

/// The applied membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) removed: BTreeSet<MemberId>,
    pub(crate) version: Option<String>,
}

impl Cluster {
    pub(crate) fn may_add(&self, new: &Member) -> Result<(), Refusal> {
        if self.removed.contains(&new.id) {
            return Err(Refusal::MemberNotFound);
        }
        if self.members.contains_key(&new.id) {
            return Err(Refusal::MemberExists);
        }
        self.urls_are_free(new.id, &new.peer_urls)?;
        let learners = self.members.values().filter(|member| member.learner).count();
        if new.learner && learners >= LEARNERS_MAX { Err(Refusal::TooManyLearners) } else { Ok(()) }
    }

    pub(crate) fn may_update(&self, id: MemberId, peer_urls: &[String]) -> Result<(), Refusal> {
        self.member(id)?;
        self.urls_are_free(id, peer_urls)
    }

    pub(crate) fn may_promote(&self, id: MemberId) -> Result<(), Refusal> {
        if self.member(id)?.learner { Ok(()) } else { Err(Refusal::MemberNotLearner) }
    }

    pub(crate) fn member(&self, id: MemberId) -> Result<&Member, Refusal> {
        self.members.get(&id).ok_or(Refusal::MemberNotFound)
    }

    pub(crate) fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    fn urls_are_free(&self, id: MemberId, urls: &[String]) -> Result<(), Refusal> {
        let others = self.members.values().filter(|member| member.id != id);
        let taken = others.flat_map(|member| &member.peer_urls).any(|url| urls.contains(url));
        if taken { Err(Refusal::PeerUrlExists) } else { Ok(()) }
    }
}

/// The key of a member's row: its id in hex, unpadded.
pub fn member_key(id: MemberId) -> String {
    format!("{:x}", id.0)
}

/// Reads a [`member_key`].
pub fn parse_member_key(key: &[u8]) -> Option<MemberId> {
    let text = std::str::from_utf8(key).ok()?;
    u64::from_str_radix(text, 16).ok().map(MemberId)
}

/// A member's row, byte for byte as upstream writes it.
pub fn member_json(member: &Member) -> String {
    let urls = |urls: &[String]| urls.iter().map(|url| json_text(url)).collect::<Vec<_>>().join(",");
    let mut json = format!("{{\"id\":{},\"peerURLs\":[{}]", member.id, urls(&member.peer_urls));
    if member.learner {
        json += ",\"isLearner\":true";
    }
    if !member.name.is_empty() {
        json += &format!(",\"name\":{}", json_text(&member.name));
    }
    if !member.client_urls.is_empty() {
        json += &format!(",\"clientURLs\":[{}]", urls(&member.client_urls));
    }
    json + "}"
}

/// Reads a [`member_json`].
///
/// # Errors
/// Words that say what is wrong.
pub fn parse_member_json(json: &[u8]) -> Result<Member, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let urls = |name: &str| match &value[name] {
        Value::Null => Ok(Vec::new()),
        Value::Array(urls) => {
            let texts = urls.iter().map(|url| url.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().ok_or(format!("{name} holds something that is not text"))
        }
        _ => Err(format!("{name} is not a list")),
    };
    Ok(Member {
        id: MemberId(value["id"].as_u64().ok_or("id is not a number")?),
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        peer_urls: urls("peerURLs")?,
        client_urls: urls("clientURLs")?,
        learner: value["isLearner"].as_bool().unwrap_or_default(),
    })
}

/// Quotes text as Go does: HTML's characters and the two line separators are escaped too.
fn json_text(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_row_has_upstreams_bytes() {
        let mut member = Member {
            id: MemberId(0x8e9e_05c5_2164_694d),
            name: "default".into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec!["http://localhost:2379".into()],
            learner: false,
        };
        let json = concat!(
            r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"#,
            r#""name":"default","clientURLs":["http://localhost:2379"]}"#
        );
        assert_eq!(member_json(&member), json);
        assert_eq!(parse_member_json(json.as_bytes()).as_ref(), Ok(&member));
        (member.name, member.client_urls, member.learner) = (String::new(), vec![], true);
        member.peer_urls = vec!["http://h?a&b".into()];
        let json = r#"{"id":10276657743932975437,"peerURLs":["http://h?a\u0026b"],"isLearner":true}"#;
        assert_eq!(member_json(&member), json);
        assert_eq!(parse_member_json(json.as_bytes()).as_ref(), Ok(&member));
        assert_eq!(member_key(member.id), "8e9e05c52164694d");
        assert_eq!(parse_member_key(b"8e9e05c52164694d"), Some(member.id));
        assert_eq!(member_key(MemberId(10)), "a");
    }
}
