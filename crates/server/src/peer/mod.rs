//! The other members: whom this one talks to, and what waits to be said to each.
//!
//! ```text
//! raft thread ─▶ Link (a bounded queue) ─▶ one stream to that member      its own stream ─▶ service ─▶ inbox ─▶ raft thread
//!                                           snapshots travel on calls of their own
//! ```
//! Each member dials every other, so between two there are two streams, one for each direction. Every call begins with who
//! speaks to whom in which cluster; whoever is not meant refuses, in words for a person who has mixed up two clusters.
//! A peer that does not listen costs at most `limits::PEER_QUEUE_BYTES_MAX`; what does not fit is dropped, and raft sends it again.

mod arrivals;
mod dial;
mod join;
mod link;
mod listen;
mod pages;
mod service;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use eyrie_api::peer::Hello;
use eyrie_api::peer::peer_client::PeerClient;
use eyrie_raft::Message;
use eyrie_state::Member;
use parking_lot::{Mutex, RwLock};
use tonic::transport::Channel;

pub(crate) use self::dial::removed_words;
pub(crate) use self::join::{ask_members, ask_to_replace, founded_already, joined_as};
pub(crate) use self::link::Link;
pub(crate) use self::listen::{PeerThread, serve};
pub(crate) use self::service::{from_wire, vote, vote_number};
pub(crate) use self::snapshot::membership;
use crate::node::{Identity, Shared};
use crate::tls::PeerTls;
use crate::version::VERSION;

/// The version of what members say to each other. Members of different versions refuse each other.
pub(crate) const PROTOCOL: u32 = 1;
/// The words by which a member that left hears of it; tools look for them in the log.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// All links of this member.
pub(crate) struct Peers {
    identity: Identity,
    instance: u64,
    /// How members are dialled whose URL says https.
    tls: Option<PeerTls>,
    links: RwLock<BTreeMap<u64, Arc<Link>>>,
    removed: RwLock<BTreeSet<u64>>,
    /// Where links run, once the member serves its peers.
    runs_on: OnceLock<(tokio::runtime::Handle, Arc<Shared>)>,
    /// What runs of the links now, by member.
    running: Mutex<BTreeMap<u64, tokio::task::JoinHandle<()>>>,
}

impl Peers {
    /// No links yet. `instance` is a number of this process's own.
    pub(crate) fn new(identity: Identity, instance: u64, tls: Option<PeerTls>) -> Self {
        Self {
            identity,
            instance,
            tls,
            links: RwLock::default(),
            removed: RwLock::default(),
            runs_on: OnceLock::new(),
            running: Mutex::default(),
        }
    }

    /// How members talk over TLS, where this one was told.
    pub(crate) fn tls(&self) -> Option<PeerTls> {
        self.tls.clone()
    }

    /// The host names in the members' peer URLs.
    fn hosts(&self) -> Vec<String> {
        let urls = self.links().into_iter().flat_map(|link| link.urls());
        urls.filter_map(|url| url.split_once("://").map(|(_, place)| dial::host_of(place).to_owned())).collect()
    }

    /// From now on links to these members exist and no others.
    pub(crate) fn follow(&self, members: &[Member], removed: impl IntoIterator<Item = u64>) {
        *self.removed.write() = removed.into_iter().collect();
        let others: Vec<&Member> = members.iter().filter(|member| member.id != self.identity.member).collect();
        let mut links = self.links.write();
        links.retain(|id, link| {
            let stays = others.iter().any(|member| member.id.0 == *id);
            if !stays {
                link.close();
            }
            stays
        });
        for member in others {
            match links.get(&member.id.0) {
                Some(link) => link.now_at(&member.peer_urls),
                None => {
                    links.insert(member.id.0, Arc::new(Link::new(member.id.0, member.peer_urls.clone())));
                }
            }
        }
        drop(links);
        self.start_links();
    }

    /// Links run on this runtime from now on, those of later too.
    pub(crate) fn run_on(&self, runtime: tokio::runtime::Handle, shared: Arc<Shared>) {
        let _ = self.runs_on.set((runtime, shared));
        self.start_links();
    }

    fn start_links(&self) {
        let Some((runtime, shared)) = self.runs_on.get() else { return };
        let links = self.links.read();
        let mut running = self.running.lock();
        running.retain(|id, task| links.contains_key(id) && !task.is_finished());
        for (id, link) in &*links {
            running.entry(*id).or_insert_with(|| runtime.spawn(dial::keep_talking(shared.clone(), link.clone())));
        }
    }

    /// The link to a member.
    pub(crate) fn link(&self, member: u64) -> Option<Arc<Link>> {
        self.links.read().get(&member).cloned()
    }

    /// Whether this member was removed for ever.
    pub(crate) fn is_removed(&self, member: u64) -> bool {
        self.removed.read().contains(&member)
    }

    /// Puts messages on their way. Returns to whom something was lost at once.
    pub(crate) fn send(&self, messages: Vec<Message>) -> Vec<u64> {
        let mut lost = Vec::new();
        let links = self.links.read();
        for message in messages {
            let to = message.to();
            let Some(link) = links.get(&to) else { continue };
            let sent = if message.is_snapshot() { self.send_snapshot(link, message) } else { link.say(&message) };
            if !sent && !lost.contains(&to) {
                lost.push(to);
            }
        }
        lost
    }

    fn send_snapshot(&self, link: &Arc<Link>, message: Message) -> bool {
        let Some((runtime, shared)) = self.runs_on.get() else { return false };
        runtime.spawn(snapshot::send(shared.clone(), link.clone(), message));
        true
    }

    /// What begins every call to `to`.
    pub(crate) fn hello(&self, to: u64) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.identity.cluster.0,
            from: self.identity.member.0,
            to,
            version: VERSION.into(),
            instance: self.instance,
        }
    }

    /// For how long each of these members has been connected; this member always was.
    pub(crate) fn connected_for(&self, member: u64) -> Option<Duration> {
        if member == self.identity.member.0 {
            return Some(Duration::MAX);
        }
        self.link(member)?.connected_for()
    }

    /// All links.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }
}

/// A client for single calls to a member.
pub(crate) fn client(shared: &Shared, member: u64) -> Option<PeerClient<Channel>> {
    let link = shared.peers.link(member)?;
    let (runtime, _) = shared.peers.runs_on.get()?;
    // What the channel runs in the background, it runs there.
    let _entered = runtime.enter();
    Some(PeerClient::new(dial::channel(shared.peers.tls(), &link)))
}
