//! Changes of users and roles.

use super::*;

const ENABLE: u8 = 1;
const DISABLE: u8 = 2;
const USER_ADD: u8 = 3;
const USER_DELETE: u8 = 4;
const USER_PASSWORD: u8 = 5;
const USER_GRANT: u8 = 6;
const USER_REVOKE: u8 = 7;
const ROLE_ADD: u8 = 8;
const ROLE_DELETE: u8 = 9;
const ROLE_GRANT: u8 = 10;
const ROLE_REVOKE: u8 = 11;
const TOKEN: u8 = 12;

impl Writer {
    pub(super) fn auth_change(&mut self, change: &AuthChange) {
        match change {
            AuthChange::Enable => self.byte(ENABLE),
            AuthChange::Disable => self.byte(DISABLE),
            AuthChange::UserAdd { name, password_hash, no_password } => {
                self.kind(USER_ADD).text(name);
                self.byte(u8::from(*no_password));
                self.text(password_hash);
            }
            AuthChange::UserDelete { name } => self.kind(USER_DELETE).text(name),
            AuthChange::UserPassword { name, password_hash } => self.kind(USER_PASSWORD).two(name, password_hash),
            AuthChange::UserGrant { user, role } => self.kind(USER_GRANT).two(user, role),
            AuthChange::UserRevoke { user, role } => self.kind(USER_REVOKE).two(user, role),
            AuthChange::RoleAdd { name } => self.kind(ROLE_ADD).text(name),
            AuthChange::RoleDelete { name } => self.kind(ROLE_DELETE).text(name),
            AuthChange::RoleGrant { role, permission } => {
                self.kind(ROLE_GRANT).text(role);
                self.byte(permission.access as u8);
                self.bytes(&permission.key);
                self.bytes(&permission.range_end);
            }
            AuthChange::RoleRevoke { role, key, range_end } => {
                self.kind(ROLE_REVOKE).text(role);
                self.bytes(key);
                self.bytes(range_end);
            }
            AuthChange::Token { user, revision, fingerprint, issued_millis } => {
                self.kind(TOKEN).text(user);
                self.number(revision.0);
                self.out.extend_from_slice(fingerprint);
                self.number(*issued_millis);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn two(&mut self, first: &str, second: &str) {
        self.text(first);
        self.text(second);
    }
}

impl Reader {
    pub(super) fn auth_change(&mut self) -> Result<AuthChange, DecodeError> {
        Ok(match self.byte()? {
            ENABLE => AuthChange::Enable,
            DISABLE => AuthChange::Disable,
            USER_ADD => {
                let name = self.text()?;
                let [no_password, ..] = self.flags(1)?;
                AuthChange::UserAdd { name, no_password, password_hash: self.text()? }
            }
            USER_DELETE => AuthChange::UserDelete { name: self.text()? },
            USER_PASSWORD => AuthChange::UserPassword { name: self.text()?, password_hash: self.text()? },
            USER_GRANT => AuthChange::UserGrant { user: self.text()?, role: self.text()? },
            USER_REVOKE => AuthChange::UserRevoke { user: self.text()?, role: self.text()? },
            ROLE_ADD => AuthChange::RoleAdd { name: self.text()? },
            ROLE_DELETE => AuthChange::RoleDelete { name: self.text()? },
            ROLE_GRANT => {
                let role = self.text()?;
                let access = Access::of_number(self.byte()?.into()).ok_or(self.wrong("an unknown access"))?;
                AuthChange::RoleGrant {
                    role,
                    permission: Permission { access, key: self.bytes()?, range_end: self.bytes()? },
                }
            }
            ROLE_REVOKE => AuthChange::RoleRevoke { role: self.text()?, key: self.bytes()?, range_end: self.bytes()? },
            TOKEN => {
                let user = self.text()?;
                let revision = AuthRevision(self.number()?);
                let mut fingerprint = [0; 32];
                for byte in &mut fingerprint {
                    *byte = self.byte()?;
                }
                AuthChange::Token { user, revision, fingerprint, issued_millis: self.number()? }
            }
            _ => return Err(self.wrong("a change of users or roles that this release does not know")),
        })
    }
}
