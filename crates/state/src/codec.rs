//! The bytes of a [`Command`] in the log. The numbers here are frozen; `docs/format/command.md` is the law.
//!
//! ```text
//! version (1) │ author, if there is one │ kind (1) │ fields of that kind …
//! ```
//! Numbers are seven-bit groups, lowest first; keys, values and texts have their length before them. Reading copies
//! nothing: keys and values are slices of the input. This page must never know what a command does.

use bytes::Bytes;

use crate::auth::{Access, AuthChange, Author, Permission};
use crate::command::{
    AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Member, Op, Proposal, Put, Range,
    SortOrder, SortTarget, Txn,
};
use crate::ids::{AuthRevision, LeaseId, MemberId, Revision};

mod auth;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::DecodeError;
use read::Reader;
use write::Writer;

/// The first byte of every command.
pub const VERSION: u8 = 1;

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const LEASE_GRANT: u8 = 5;
const LEASE_REVOKE: u8 = 6;
const LEASE_CHECKPOINT: u8 = 7;
const ALARM_ACTIVATE: u8 = 8;
const ALARM_DEACTIVATE: u8 = 9;
const MEMBER_PUBLISH: u8 = 10;
const MEMBER_UPDATE: u8 = 11;
const MEMBER_ADD: u8 = 12;
const MEMBER_REMOVE: u8 = 13;
const MEMBER_PROMOTE: u8 = 14;
const CLUSTER_VERSION: u8 = 15;
const BY_THE_STORE: u8 = 16;
const BY_A_USER: u8 = 17;
const AUTH: u8 = 18;

impl Proposal {
    /// Writes the command and who asks for it, as the log keeps them.
    pub fn encode(&self) -> Vec<u8> {
        self.command.encode_by(&self.author)
    }

    /// Reads what [`Proposal::encode`] wrote. Keys and values are slices of `bytes`; copy what is kept for long.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else. Never panics, and never takes more memory than the input is worth.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.byte()? {
            VERSION => {}
            _ => return Err(r.wrong("a version of the command format that this release does not know")),
        }
        let (author, kind) = match r.byte()? {
            BY_THE_STORE => (Author::Store, r.byte()?),
            BY_A_USER => {
                let name = r.text()?.into();
                (Author::User { name, revision: AuthRevision(r.number()?) }, r.byte()?)
            }
            kind => (Author::Nobody, kind),
        };
        let command = Command::read(kind, &mut r)?;
        r.end()?;
        Ok(Self { author, command })
    }
}

impl Command {
    /// Writes the command as the log keeps it when nobody says who asks.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_by(&Author::Nobody)
    }

    /// Writes the command as the log keeps it when this author asks.
    pub fn encode_by(&self, author: &Author) -> Vec<u8> {
        let mut w = Writer::with_capacity(match self {
            Command::Put(put) => put.key.len() + put.value.len() + 64,
            _ => 64,
        });
        w.byte(VERSION);
        match author {
            Author::Nobody => {}
            Author::Store => w.byte(BY_THE_STORE),
            Author::User { name, revision } => {
                w.kind(BY_A_USER).bytes(name.as_bytes());
                w.number(revision.0);
            }
        }
        self.write(&mut w);
        w.out
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// As for [`Proposal::decode`]; and an author is none of a bare command's fields.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        match Proposal::decode(bytes)? {
            Proposal { author: Author::Nobody, command } => Ok(command),
            _ => Err(DecodeError { at: 1, what: "an author, where a bare command was expected" }),
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Command::Put(put) => w.kind(PUT).put(put),
            Command::DeleteRange(delete) => w.kind(DELETE_RANGE).delete(delete),
            Command::Txn(txn) => w.kind(TXN).txn(txn),
            Command::Compact { revision } => w.kind(COMPACT).signed(revision.0),
            Command::LeaseGrant { id, ttl_secs } => {
                w.kind(LEASE_GRANT).signed(id.0);
                w.signed(*ttl_secs);
            }
            Command::LeaseRevoke { id } => w.kind(LEASE_REVOKE).signed(id.0),
            Command::LeaseCheckpoint { remaining } => {
                w.kind(LEASE_CHECKPOINT).number(remaining.len() as u64);
                for (id, secs) in remaining {
                    w.signed(id.0);
                    w.signed(*secs);
                }
            }
            Command::AlarmActivate { member, kind } => w.kind(ALARM_ACTIVATE).alarm(*member, *kind),
            Command::AlarmDeactivate { member, kind } => w.kind(ALARM_DEACTIVATE).alarm(*member, *kind),
            Command::MemberPublish { id, name, client_urls } => {
                w.kind(MEMBER_PUBLISH).number(id.0);
                w.bytes(name.as_bytes());
                w.texts(client_urls);
            }
            Command::MemberUpdate { id, peer_urls } => {
                w.kind(MEMBER_UPDATE).number(id.0);
                w.texts(peer_urls);
            }
            Command::MemberAdd(member) => w.kind(MEMBER_ADD).member(member),
            Command::MemberRemove { id } => w.kind(MEMBER_REMOVE).number(id.0),
            Command::MemberPromote { id } => w.kind(MEMBER_PROMOTE).number(id.0),
            Command::ClusterVersion(version) => w.kind(CLUSTER_VERSION).bytes(version.as_bytes()),
            Command::Auth(change) => w.kind(AUTH).auth_change(change),
        }
    }

    fn read(kind: u8, r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match kind {
            PUT => Command::Put(r.put()?),
            DELETE_RANGE => Command::DeleteRange(r.delete()?),
            TXN => Command::Txn(r.txn()?),
            COMPACT => Command::Compact { revision: Revision(r.signed()?) },
            LEASE_GRANT => Command::LeaseGrant { id: LeaseId(r.signed()?), ttl_secs: r.signed()? },
            LEASE_REVOKE => Command::LeaseRevoke { id: LeaseId(r.signed()?) },
            LEASE_CHECKPOINT => {
                Command::LeaseCheckpoint { remaining: r.list(2, |r| Ok((LeaseId(r.signed()?), r.signed()?)))? }
            }
            ALARM_ACTIVATE => Command::AlarmActivate { member: r.member_id()?, kind: r.alarm()? },
            ALARM_DEACTIVATE => Command::AlarmDeactivate { member: r.member_id()?, kind: r.alarm()? },
            MEMBER_PUBLISH => Command::MemberPublish { id: r.member_id()?, name: r.text()?, client_urls: r.texts()? },
            MEMBER_UPDATE => Command::MemberUpdate { id: r.member_id()?, peer_urls: r.texts()? },
            MEMBER_ADD => Command::MemberAdd(r.member()?),
            MEMBER_REMOVE => Command::MemberRemove { id: r.member_id()? },
            MEMBER_PROMOTE => Command::MemberPromote { id: r.member_id()? },
            CLUSTER_VERSION => Command::ClusterVersion(r.text()?),
            AUTH => Command::Auth(r.auth_change()?),
            _ => return Err(r.wrong("a kind of command that this release does not know")),
        })
    }
}
