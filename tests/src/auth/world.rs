//! A server with authentication on, or a cluster of them, somebody of every kind, and keys on both sides of a permission.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use eyrie_api::{authpb, pb};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::Who;
use super::rows::{self, Row};
use super::wire::{self, Denial, Outcome};
use crate::binaries::Program;
use crate::cluster::Cluster;
use crate::store::{Setup, Store};

/// Seconds that a token lives. Long enough that a used one never ends by itself on a busy machine.
const TOKEN_SECS: u64 = 6;
const PASSWORD: &str = "pw";
/// A lease with a key that `ranged` may not write, and one with a key that it may.
pub const OUTSIDE_LEASE: i64 = 777;
/// See above.
pub const INSIDE_LEASE: i64 = 778;

/// See the module.
pub struct World {
    members: Vec<(Store, Channel)>,
    /// The member that is asked.
    at: usize,
    runtime: Runtime,
    expired: String,
    deleted: String,
    tokens: Vec<(Who, String)>,
    calls: u64,
    /// The alarm that the store is full is raised.
    pub full: bool,
}

impl World {
    /// Starts a server and fills it.
    pub fn new(program: &Program, dir: &Path, flags: &[&str]) -> Result<World> {
        World::of(vec![World::quick(Setup::new(program, dir)?.flags(flags)).start()?])
    }

    /// Founds a cluster of three and fills it.
    pub fn of_three(program: &Program, dir: &Path, flags: &[&str]) -> Result<World> {
        let setups = Cluster::setups(program, dir, 3, flags)?;
        let members = setups.into_iter().map(|setup| World::quick(setup).spawn()).collect::<Result<Vec<_>>>()?;
        World::of(members)
    }

    /// Passwords cost little, and tokens end soon.
    fn quick(setup: Setup) -> Setup {
        setup.flags(&["--bcrypt-cost=4", "--auth-token-ttl", &TOKEN_SECS.to_string()])
    }

    fn of(mut stores: Vec<Store>) -> Result<World> {
        stores.iter_mut().try_for_each(Store::wait_ready)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let reached = |store: Store| -> Result<(Store, Channel)> {
            let endpoint = Endpoint::from_shared(format!("http://{}", store.endpoint()))?;
            let channel = runtime.block_on(async { endpoint.connect_lazy() });
            Ok((store, channel))
        };
        let members = stores.into_iter().map(reached).collect::<Result<_>>()?;
        let (expired, deleted) = Default::default();
        let mut world = World { members, at: 0, runtime, expired, deleted, tokens: Vec::new(), calls: 0, full: false };
        world.fill()?;
        Ok(world)
    }

    /// From now on this member is asked.
    pub fn ask_at(&mut self, member: usize) {
        self.at = member;
    }

    fn store(&self) -> &Store {
        &self.members[self.at].0
    }

    fn channel(&self) -> &Channel {
        &self.members[self.at].1
    }

    fn fill(&mut self) -> Result<()> {
        let s = str::to_owned;
        for name in ["root", "bare", "ranged", "late", "gone"] {
            let user = pb::AuthUserAddRequest { name: s(name), password: s(PASSWORD), ..Default::default() };
            self.must("/etcdserverpb.Auth/UserAdd", user, None)?;
        }
        for name in ["root", "ranger"] {
            self.must("/etcdserverpb.Auth/RoleAdd", pb::AuthRoleAddRequest { name: s(name) }, None)?;
        }
        for (kind, key, end) in [(2, "r", "s"), (0, "q", "r"), (1, "w", "x")] {
            let perm = authpb::Permission { perm_type: kind, key: key.into(), range_end: end.into() };
            let grant = pb::AuthRoleGrantPermissionRequest { name: s("ranger"), perm: Some(perm) };
            self.must("/etcdserverpb.Auth/RoleGrantPermission", grant, None)?;
        }
        for (user, role) in [("root", "root"), ("ranged", "ranger")] {
            let grant = pb::AuthUserGrantRoleRequest { user: s(user), role: s(role) };
            self.must("/etcdserverpb.Auth/UserGrantRole", grant, None)?;
        }
        for id in [OUTSIDE_LEASE, INSIDE_LEASE] {
            self.must("/etcdserverpb.Lease/LeaseGrant", pb::LeaseGrantRequest { id, ttl: 3600 }, None)?;
        }
        for (key, lease) in [
            ("z", OUTSIDE_LEASE),
            ("r1", INSIDE_LEASE),
            ("r2", 0),
            ("q1", 0),
            ("w1", 0),
            ("r/observed/1", 0),
            ("z/observed/1", 0),
        ] {
            let put = pb::PutRequest { key: key.into(), value: "1".into(), lease, ..Default::default() };
            self.must("/etcdserverpb.KV/Put", put, None)?;
        }
        self.must("/etcdserverpb.Auth/AuthEnable", pb::AuthEnableRequest {}, None)?;
        self.expired = self.log_in("late")?;
        self.deleted = self.log_in("gone")?;
        self.log_all_in()?;
        let gone = pb::AuthUserDeleteRequest { name: s("gone") };
        self.must("/etcdserverpb.Auth/UserDelete", gone, Some(Who::Root))?;
        std::thread::sleep(Duration::from_secs(TOKEN_SECS + 2));
        self.log_all_in()
    }

    /// Gets a token.
    pub fn log_in(&self, name: &str) -> Result<String> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: PASSWORD.to_owned() };
        let path = "/etcdserverpb.Auth/Authenticate";
        let (outcome, answer) =
            self.runtime.block_on(wire::grpc(self.channel(), path, request.encode_to_vec(), None))?;
        ensure!(outcome.code == Some(0), "{name} can't log in: {outcome:?}");
        Ok(pb::AuthenticateResponse::decode(answer)?.token)
    }

    /// Fresh tokens for all who can have one.
    pub fn log_all_in(&mut self) -> Result<()> {
        self.tokens = [(Who::Bare, "bare"), (Who::Ranged, "ranged"), (Who::Root, "root")]
            .into_iter()
            .map(|(who, name)| Ok((who, self.log_in(name)?)))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn token(&self, who: Who) -> Option<String> {
        match who {
            Who::NoToken => None,
            Who::BadToken => Some("abcdefghijklmnop.1".into()),
            Who::Expired => Some(self.expired.clone()),
            Who::Deleted => Some(self.deleted.clone()),
            _ => self.tokens.iter().find(|(of, _)| *of == who).map(|(_, token)| token.clone()),
        }
    }

    /// A call that must succeed.
    pub fn must(&self, path: &'static str, message: impl Message, who: Option<Who>) -> Result<()> {
        let token = who.and_then(|who| self.token(who));
        let call = wire::grpc(self.channel(), path, message.encode_to_vec(), token.as_deref());
        let (outcome, _) = self.runtime.block_on(call)?;
        ensure!(outcome.code == Some(0), "{path}: {outcome:?}");
        Ok(())
    }

    /// One call with this token.
    pub fn call(&self, path: &'static str, message: impl Message, token: Option<&str>) -> Result<Outcome> {
        Ok(self.runtime.block_on(wire::grpc(self.channel(), path, message.encode_to_vec(), token))?.0)
    }

    /// One cell of the matrix.
    pub fn ask(&mut self, row: &Row, who: Who, json: bool) -> Result<Outcome> {
        let mut outcome = self.ask_once(row, who, json)?;
        let known = matches!(who, Who::Bare | Who::Ranged | Who::Root);
        if known && outcome.denial == Some(Denial::InvalidToken) {
            // On a slow machine a good token may have ended since its last use.
            self.log_all_in()?;
            outcome = self.ask_once(row, who, json)?;
        }
        if row.switches_off && outcome.denial.is_none() {
            self.must("/etcdserverpb.Auth/AuthEnable", pb::AuthEnableRequest {}, None)?;
            self.log_all_in()?;
        }
        Ok(outcome)
    }

    fn ask_once(&mut self, row: &Row, who: Who, json: bool) -> Result<Outcome> {
        self.calls += 1;
        // Some requests can be served once only; names and ids are new each time.
        let number = self.calls;
        if row.takes_a_lease {
            self.new_lease(number)?;
        }
        let asked = (row.make)(number);
        let token = self.token(who);
        if json {
            return wire::json(&self.store().endpoint(), row.route, &asked.json, token.as_deref());
        }
        let call = wire::grpc(self.channel(), row.path, asked.message, token.as_deref());
        Ok(self.runtime.block_on(call)?.0)
    }

    /// A lease with a key outside, for a call that would end it.
    fn new_lease(&mut self, number: u64) -> Result<()> {
        let id = rows::lease_of(number);
        let root = self.token(Who::Root).context("root's token")?;
        let grant = pb::LeaseGrantRequest { id, ttl: 3600 };
        let put = pb::PutRequest { key: format!("z{number}").into(), lease: id, ..Default::default() };
        let granted = self.call("/etcdserverpb.Lease/LeaseGrant", grant, Some(&root))?;
        let put = self.call("/etcdserverpb.KV/Put", put, Some(&root))?;
        for outcome in [granted, put] {
            match outcome.denial {
                Some(Denial::InvalidToken) => {
                    self.log_all_in()?;
                    return self.new_lease(number + (1 << 32));
                }
                Some(_) => bail!("root may not: {outcome:?}"),
                None => {}
            }
        }
        Ok(())
    }

    /// Raises the alarm that the store is full, as the store itself would.
    pub fn fill_up(&mut self) -> Result<()> {
        self.log_all_in()?;
        let full = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: 1,
            alarm: pb::AlarmType::Nospace.into(),
        };
        self.must("/etcdserverpb.Maintenance/Alarm", full, Some(Who::Root))?;
        let put = pb::PutRequest { key: "r1".into(), value: "more".into(), ..Default::default() };
        let root = self.token(Who::Root);
        let outcome = self.call("/etcdserverpb.KV/Put", put, root.as_deref())?;
        ensure!(outcome.text.contains("space exceeded"), "the store is not full: {outcome:?}");
        self.full = true;
        Ok(())
    }
}
