//! A damaged member's place is given to a newcomer, where those that stay are a quorum without it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eyrie_api::peer as wire;
use eyrie_disk::datadir::DataDir;
use eyrie_raft::{MembershipChange, VoteChange};
use eyrie_state::{AlarmKind, Command, Member, MemberId};
use tonic::Code;

use crate::errors::ServeError;
use crate::founding::added_member_id;
use crate::store::Store;
use crate::{log_error, log_info, log_warn};

/// Voters without which nobody is replaced by itself: of two, the one that stays could not agree to it.
const VOTERS_MIN: usize = 3;
/// How often a member looks whether it is to be rebuilt, or may vote.
const LOOK: Duration = Duration::from_millis(500);
/// How long a member that was refused waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long the answer of the leader is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Store {
    /// Removes a damaged member and adds a learner in its place; asked of the leader, and safe to ask again.
    ///
    /// # Errors
    /// It can't be done now: too few would be left to agree, or others are damaged too.
    pub(crate) async fn replace_member(
        &self,
        request: &wire::ReplaceRequest,
    ) -> Result<(MemberId, Vec<Member>), ServeError> {
        self.still_leading().await?;
        let id = MemberId(request.member);
        let members = self.all_members();
        let heir = members.iter().find(|member| member.id != id && member.peer_urls == request.peer_urls);
        if let Some(heir) = heir {
            // Asked again after its answer was lost.
            let (fresh, heir) = (heir.learner && heir.client_urls.is_empty(), heir.id);
            return if fresh { Ok((heir, members)) } else { Err(refused("another member has its peer URLs")) };
        }
        match members.iter().find(|member| member.id == id) {
            Some(own) if own.learner && own.client_urls.is_empty() => return Ok((id, members)),
            Some(own) if own.learner => {
                return Err(refused("it is a learner: remove it, add it again and start it with an empty --data-dir"));
            }
            Some(_) => {
                self.may_replace(&members, id)?;
                if request.only_ask {
                    return Ok((id, members));
                }
                if self.shared().peers.connected_for(id.0).is_some() {
                    return Err(ServeError::other(
                        Code::Unavailable,
                        "a process with its id still talks to the leader",
                    ));
                }
                self.take_out(id, &request.why).await?;
            }
            // It was taken out, and then the leader changed.
            None if self.read(|state| state.removed_members().any(|removed| removed == id)) => {}
            None => return Err(refused("the cluster does not know it")),
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let heir = Member {
            id: added_member_id(&request.peer_urls, seconds),
            name: String::new(),
            peer_urls: request.peer_urls.clone(),
            client_urls: vec![],
            learner: true,
        };
        let change = MembershipChange { member: heir.id.0, vote: VoteChange::Learner };
        self.itself().propose_change(Command::MemberAdd(heir.clone()), change).await?;
        let (was, is) = (format!("{:x}", id.0), format!("{:x}", heir.id.0));
        log_warn!("gave a damaged member's place to a newcomer", "member-id-was" = &was, "member-id" = &is);
        self.metrics().server.members_replaced.inc();
        Ok((heir.id, self.all_members()))
    }

    /// Those that stay are well, and a quorum of all there are now.
    fn may_replace(&self, members: &[Member], id: MemberId) -> Result<(), ServeError> {
        let voters = members.iter().filter(|member| !member.learner);
        let count = voters.clone().count();
        if count < VOTERS_MIN {
            return Err(refused("with less than three voters the others could not agree without it"));
        }
        let others: Vec<Member> = voters.filter(|member| member.id != id).cloned().collect();
        if self.connected_voters(&others) < count / 2 + 1 {
            return Err(refused("the others are no quorum without it, or have not been connected for long"));
        }
        if members.iter().filter(|member| member.learner).count() >= self.learners_max() {
            return Err(refused("there are as many learners already as may be: promote or remove one first"));
        }
        let also = self.read(|state| {
            let damaged = state.alarms().filter(|alarm| alarm.kind == AlarmKind::Corrupt);
            damaged.map(|alarm| alarm.member).find(|member| *member != id)
        });
        match also {
            Some(also) => Err(refused(&format!("member {:x} is damaged too (alarm CORRUPT)", also.0))),
            None => Ok(()),
        }
    }

    /// The alarm names it until it is out; after that its data is nobody's.
    async fn take_out(&self, id: MemberId, why: &str) -> Result<(), ServeError> {
        let member = format!("{:x}", id.0);
        log_error!(
            "a member's data is damaged: alarm CORRUPT is raised for it until it is out of the cluster, and it is rebuilt from \
             the others. Look at its disk",
            "alarm" = "CORRUPT",
            "member-id" = &member,
            "error" = why
        );
        let itself = self.itself();
        itself.propose_now(Command::AlarmActivate { member: id, kind: AlarmKind::Corrupt }).await?;
        let change = MembershipChange { member: id.0, vote: VoteChange::Gone };
        itself.propose_change(Command::MemberRemove { id }, change).await?;
        itself.propose_now(Command::AlarmDeactivate { member: id, kind: AlarmKind::Corrupt }).await?;
        Ok(())
    }

    /// Looks after this member's own data for as long as it runs: a member that the alarm CORRUPT names asks to be rebuilt
    /// from the others, and one that was rebuilt asks to vote.
    pub(crate) async fn keep_whole(&self, self_repair: bool) {
        let dir = self.shared().data_dir.clone();
        let own = self.identity().member;
        let mut rejoining = DataDir::is_rejoining(&dir);
        let mut asked: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            if rejoining && !self.is_learner() {
                match DataDir::rejoined(&dir) {
                    Ok(()) => log_info!("this member is rebuilt from the others, and votes again"),
                    Err(error) => {
                        let error = error.to_string();
                        log_warn!("can't note that this member is rebuilt; it is tried again", "error" = &error);
                        continue;
                    }
                }
                rejoining = false;
            } else if rejoining && self.standing().leader != 0 {
                // Refused until it has caught up.
                let _ = self.itself().promote_anywhere(own).await;
            }
            let damaged = |alarm: &eyrie_state::Alarm| alarm.member == own && alarm.kind == AlarmKind::Corrupt;
            let is_named = self.read(|state| state.alarms().any(|alarm| damaged(&alarm)));
            let may_ask = asked.is_none_or(|asked| asked.elapsed() > ASK_AGAIN);
            if !self_repair || !is_named || !may_ask || DataDir::set_aside_before(&dir).is_some() {
                continue;
            }
            asked = Some(Instant::now());
            match self.ask_whether_replaceable().await {
                Ok(()) => {
                    let why = "its tables are damaged, or differ from those of the other members (alarm CORRUPT)";
                    self.shared().ending.end_to_rebuild(why.into());
                    return;
                }
                Err(error) => {
                    let error = error.to_string();
                    log_warn!(
                        "this member's data is damaged, and it can't be rebuilt from the others now",
                        "error" = &error
                    );
                }
            }
        }
    }

    async fn ask_whether_replaceable(&self) -> Result<(), ServeError> {
        let own = self.identity().member;
        let peer_urls = self.read(|state| state.member(own).map(|member| member.peer_urls.clone()));
        let request = wire::ReplaceRequest {
            cluster: self.identity().cluster.0,
            member: own.0,
            only_ask: true,
            why: String::new(),
            peer_urls: peer_urls.unwrap_or_default(),
        };
        let leader = self.standing().leader;
        if leader == own.0 {
            return self.replace_member(&request).await.map(drop);
        }
        let Some(mut client) = self.client_of(leader) else { return Err(ServeError::NoLeader) };
        match tokio::time::timeout(ANSWER_MAX, client.replace(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(ServeError::other(status.code(), status.message())),
            Err(_) => Err(ServeError::Timeout),
        }
    }
}

fn refused(why: &str) -> ServeError {
    ServeError::other(Code::FailedPrecondition, why)
}
