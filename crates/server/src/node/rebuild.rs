//! A member whose log or tables are damaged: it never votes with them, and is rebuilt from the others where they allow it.
//!
//! ```text
//! damage ─▶ ask the leader: it removes this member and adds a learner in its place ─▶ set the data aside ─▶ join ─▶ vote
//! ```
//! What a damaged log had promised can't be known any more, so nobody goes on under its id: the newcomer has promised
//! nothing, and the quorum that stays knows all that was acknowledged. Where that can't be (a member alone, two members,
//! too few that are well), the damage is told as ever, and nothing is touched.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eyrie_api::peer as wire;
use eyrie_disk::datadir::{DataDir, Identity};
use eyrie_disk::wal::WalError;
use eyrie_raft::{LogStart, Membership};
use eyrie_state::{Halt, Member, MemberId, TableFault};

use super::Fatal;
use super::found::{lay, row};
use crate::config::Config;
use crate::peer::{ask_to_replace, from_wire};
use crate::tls::PeerTls;
use crate::{log_info, log_warn};

/// How long the others are asked: an election, also one that begins with this member's end, is over by then.
const ASK_TIME: Duration = Duration::from_secs(20);
/// The pause between two rounds of asking.
const ASK_PAUSE: Duration = Duration::from_millis(250);

impl Fatal {
    /// What is on this member's disk is not what was written there, and only copies of it elsewhere help.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Wal(error) => matches!(error, WalError::Damaged { .. } | WalError::Missing { .. }),
            Self::Tables(fault) | Self::Halt(Halt::Tables(fault)) => matches!(fault, TableFault::Damaged { .. }),
            Self::Apart(_) => true,
            Self::Dir(_) | Self::Halt(_) | Self::Raft(_) | Self::Other(_) => false,
        }
    }
}

/// Leaves the cluster under the old id, and makes the directory that of a newcomer in its place. A start follows.
///
/// # Errors
/// Why not, in words that end a sentence about the damage. Nothing was touched then.
pub(super) fn rejoin(config: &Config, tls: Option<&PeerTls>, why: &str) -> Result<(), String> {
    let dir = DataDir::open(&config.data_dir, config.wal_dir.as_deref()).map_err(|error| error.to_string())?;
    if let Some(before) = DataDir::set_aside_before(dir.path()) {
        return Err(format!(
            "it was rebuilt once already, and a disk that damages data again should be looked at first; remove {} when that is \
             done, and start again",
            before.display()
        ));
    }
    let old = dir.identity().clone();
    let replaced = replaced_by(config, tls, &old, why)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let successor = Identity { member: MemberId(replaced.member), ..old.clone() };
    let aside = dir.set_aside(successor.clone(), now).map_err(|error| error.to_string())?;
    let (was, is) = (format!("{:x}", old.member.0), format!("{:x}", successor.member.0));
    let aside = aside.display().to_string();
    log_warn!(
        "the damaged data was set aside; this member is rebuilt from the others, under a new id. Look at the disk; when the \
         data is not needed any more, remove the folder",
        "damaged-data" = &aside,
        "member-id-was" = &was,
        "member-id" = &is,
        "error" = why
    );
    begin(config, successor, &members(replaced)).map_err(|error| error.to_string())
}

/// Goes on with a [`rejoin`] whose process ended.
///
/// # Errors
/// [`Fatal`]: it can be tried again.
pub(super) fn resume(config: &Config, tls: Option<&PeerTls>, identity: Identity) -> Result<(), Fatal> {
    let why = "its rebuilding was interrupted";
    let replaced = replaced_by(config, tls, &identity, why).map_err(|why_not| {
        Fatal::Other(format!(
            "{} is to be rebuilt from the other members, but {why_not}. Start this member again when they are there",
            config.data_dir.display()
        ))
    })?;
    log_info!("goes on with rebuilding this member from the others");
    begin(config, Identity { member: MemberId(replaced.member), ..identity }, &members(replaced))
}

fn begin(config: &Config, identity: Identity, members: &[Member]) -> Result<(), Fatal> {
    // All that the cluster holds comes from its leader; the rows only tell where to find it.
    let start = LogStart { index: 0, term: 0, membership: Membership::default() };
    lay(config, identity, members.iter().map(row).collect(), &start).map(drop)
}

fn members(answer: wire::ReplaceResponse) -> Vec<Member> {
    answer.members.into_iter().map(from_wire).collect()
}

/// Asks all that are named until the one that leads has an answer.
fn replaced_by(
    config: &Config,
    tls: Option<&PeerTls>,
    identity: &Identity,
    why: &str,
) -> Result<wire::ReplaceResponse, String> {
    let own = |(name, _): &&(String, String)| *name == config.name;
    let others = config.initial_cluster.iter().filter(|named| !own(named)).map(|(_, url)| url.clone());
    let urls: Vec<String> = others.collect();
    if urls.is_empty() {
        return Err("--initial-cluster names nobody else".into());
    }
    let mut peer_urls: Vec<String> = config.initial_cluster.iter().filter(own).map(|(_, url)| url.clone()).collect();
    peer_urls.sort_unstable();
    let request = wire::ReplaceRequest {
        cluster: identity.cluster.0,
        member: identity.member.0,
        only_ask: false,
        why: why.to_owned(),
        peer_urls,
    };
    let end = Instant::now() + ASK_TIME;
    loop {
        let (answers, refusals) = ask_to_replace(tls, &urls, &request);
        if let Some(answer) = answers.into_iter().next() {
            return Ok(answer);
        }
        if Instant::now() > end {
            return Err(format!(
                "the other members do not make room for a newcomer in its place: {}",
                refusals.join("; ")
            ));
        }
        std::thread::sleep(ASK_PAUSE);
    }
}
