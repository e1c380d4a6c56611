//! Changes of users and roles, as committed.

use super::{Auth, AuthChange, Permission, ROOT, Role, User};
use crate::answer::{Answer, Refusal};
use crate::ids::{AuthRevision, LogIndex};
use crate::record::{AUTH_ENABLED, AUTH_REVISION};
use crate::tables::{Bucket, Tables};
use crate::write::Write;

type Outcome = Result<Answer, Refusal>;

impl Auth {
    fn known_user(&self, name: &str) -> Result<User, Refusal> {
        self.users.get(name).cloned().ok_or(Refusal::UserNotFound)
    }

    fn known_role(&self, name: &str) -> Result<Role, Refusal> {
        self.roles.get(name).cloned().ok_or(Refusal::RoleNotFound)
    }
}

/// Nothing is refused after the first row is written.
impl<T: Tables> Write<'_, T> {
    pub(crate) fn auth_change(&mut self, index: LogIndex, change: AuthChange) -> Outcome {
        match change {
            AuthChange::Enable => self.auth_enable(),
            AuthChange::Disable => Ok(self.auth_disable()),
            AuthChange::UserAdd { name, password_hash, no_password } => {
                self.user_add(User { name, password_hash, no_password, ..User::default() })
            }
            AuthChange::UserDelete { name } => self.user_delete(&name),
            AuthChange::UserPassword { name, password_hash } => self.user_password(&name, password_hash),
            AuthChange::UserGrant { user, role } => self.user_grant(&user, role),
            AuthChange::UserRevoke { user, role } => self.user_revoke(&user, &role),
            AuthChange::RoleAdd { name } => self.role_add(name),
            AuthChange::RoleDelete { name } => self.role_delete(&name),
            AuthChange::RoleGrant { role, permission } => self.role_grant(&role, permission),
            AuthChange::RoleRevoke { role, key, range_end } => self.role_revoke(&role, &key, &range_end),
            AuthChange::Token { user, revision, fingerprint, issued_millis } => {
                self.may_log_in(&user, revision)?;
                Ok(Answer::Token { index, user, fingerprint, issued_millis })
            }
        }
    }

    /// Asked again, it is so already. The revision stays, as upstream has it.
    fn auth_enable(&mut self) -> Outcome {
        let auth = &self.state.auth;
        if auth.enabled {
            return Ok(Answer::Auth);
        }
        let root = auth.users.get(ROOT).ok_or(Refusal::RootUserMissing)?;
        if !root.roles.contains(ROOT) {
            return Err(Refusal::RootRoleMissing);
        }
        self.state.auth.enabled = true;
        self.put_row(Bucket::Auth, AUTH_ENABLED, vec![1]);
        Ok(Answer::Auth)
    }

    fn auth_disable(&mut self) -> Answer {
        if !self.state.auth.enabled {
            return Answer::Auth;
        }
        self.state.auth.enabled = false;
        self.put_row(Bucket::Auth, AUTH_ENABLED, vec![0]);
        self.auth_changed()
    }

    fn user_add(&mut self, user: User) -> Outcome {
        if user.name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.state.auth.users.contains_key(&user.name) {
            return Err(Refusal::UserExists);
        }
        Ok(self.keep_user(user))
    }

    fn user_delete(&mut self, name: &str) -> Outcome {
        if self.state.auth.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.state.auth.known_user(name)?;
        self.state.auth.users.remove(name);
        self.delete_row(Bucket::AuthUsers, name.as_bytes());
        Ok(self.auth_changed())
    }

    /// A user that has no password keeps none.
    fn user_password(&mut self, name: &str, password_hash: String) -> Outcome {
        let user = self.state.auth.known_user(name)?;
        let password_hash = if user.no_password { String::new() } else { password_hash };
        Ok(self.keep_user(User { password_hash, ..user }))
    }

    /// The role `root` may be granted without existing.
    fn user_grant(&mut self, user: &str, role: String) -> Outcome {
        let mut user = self.state.auth.known_user(user)?;
        if role != ROOT {
            self.state.auth.known_role(&role)?;
        }
        Ok(if user.roles.insert(role) { self.keep_user(user) } else { Answer::Auth })
    }

    fn user_revoke(&mut self, user: &str, role: &str) -> Outcome {
        if self.state.auth.enabled && user == ROOT && role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut user = self.state.auth.known_user(user)?;
        if user.roles.remove(role) { Ok(self.keep_user(user)) } else { Err(Refusal::RoleNotGranted) }
    }

    fn role_add(&mut self, name: String) -> Outcome {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.state.auth.roles.contains_key(&name) {
            return Err(Refusal::RoleExists);
        }
        Ok(self.keep_role(Role { name, ..Role::default() }))
    }

    fn role_delete(&mut self, name: &str) -> Outcome {
        if self.state.auth.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.state.auth.known_role(name)?;
        self.state.auth.roles.remove(name);
        self.delete_row(Bucket::AuthRoles, name.as_bytes());
        let having: Vec<User> = self.state.auth.users().filter(|user| user.roles.contains(name)).cloned().collect();
        for mut user in having {
            user.roles.remove(name);
            self.write_user(user);
        }
        Ok(self.auth_changed())
    }

    /// A permission on the same key and end is replaced, so that granting less takes away.
    fn role_grant(&mut self, role: &str, permission: Permission) -> Outcome {
        if !permission.is_sound() {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut role = self.state.auth.known_role(role)?;
        let same = |old: &&mut Permission| old.key == permission.key && old.range_end == permission.range_end;
        match role.permissions.iter_mut().find(same) {
            Some(old) => old.access = permission.access,
            None => {
                role.permissions.push(permission);
                role.permissions.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        Ok(self.keep_role(role))
    }

    fn role_revoke(&mut self, role: &str, key: &[u8], range_end: &[u8]) -> Outcome {
        let mut role = self.state.auth.known_role(role)?;
        let before = role.permissions.len();
        role.permissions.retain(|old| old.key != key || old.range_end != range_end);
        if role.permissions.len() == before { Err(Refusal::PermissionNotGranted) } else { Ok(self.keep_role(role)) }
    }

    /// The password was checked before; if anything about users has changed since, it is to be checked again.
    fn may_log_in(&self, user: &str, revision: AuthRevision) -> Result<(), Refusal> {
        let auth = &self.state.auth;
        if !auth.enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        if revision != auth.revision {
            return Err(Refusal::AuthOldRevision);
        }
        if auth.users.get(user).is_none_or(|user| user.no_password) {
            return Err(Refusal::AuthFailed);
        }
        Ok(())
    }

    fn keep_user(&mut self, user: User) -> Answer {
        self.write_user(user);
        self.auth_changed()
    }

    fn write_user(&mut self, user: User) {
        self.put_row(Bucket::AuthUsers, user.name.as_bytes(), user.encode());
        self.state.auth.users.insert(user.name.clone(), user);
    }

    fn keep_role(&mut self, role: Role) -> Answer {
        self.put_row(Bucket::AuthRoles, role.name.as_bytes(), role.encode());
        self.state.auth.roles.insert(role.name.clone(), role);
        self.auth_changed()
    }

    fn auth_changed(&mut self) -> Answer {
        let auth = &mut self.state.auth;
        auth.revision.0 += 1;
        auth.derive_rights();
        let revision = auth.revision.0.to_be_bytes().to_vec();
        self.put_row(Bucket::Auth, AUTH_REVISION, revision);
        Answer::Auth
    }
}
