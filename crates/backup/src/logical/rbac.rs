//! Users, roles and grants.
//!
//! Since 2.4.11 Milvus hands them out as a whole, with hashed passwords. Before, roles and grants are asked for one by one, and
//! nobody gets to see a password: there users are named, and get their roles back once they have been made again.

use std::collections::BTreeSet;

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::meta::{Grant, Named, RbacMeta, UserInfo};

use super::convert;
use super::failure::{Failure, Kind, Result};
use super::milvus::{Milvus, Version};
use super::news::Tell;

/// From here on Milvus hands out everything at once.
const AT_ONCE: Version = Version(2, 4, 11);

/// Everything that Milvus has; what it does not tell is said.
///
/// # Errors
/// Milvus does not answer, or does not let the user see it.
pub(super) async fn read(milvus: &Milvus, tell: &Tell) -> Result<RbacMeta> {
    if milvus.version() >= AT_ONCE {
        let answer = milvus.backup_rbac(pb::BackupRbacRequest {}).await?;
        return Ok(answer.rbac_meta.map(convert::rbac).unwrap_or_default());
    }
    let rbac = one_by_one(milvus).await?;
    let others = rbac.users.iter().filter(|user| user.user != "root").count();
    if others > 0 {
        tell.warn(format!(
            "Milvus {} tells no passwords: {others} users are in the backup with their roles alone",
            milvus.version()
        ));
    }
    Ok(rbac)
}

async fn one_by_one(milvus: &Milvus) -> Result<RbacMeta> {
    let users = milvus.list_cred_users(pb::ListCredUsersRequest {}).await?.usernames;
    let all = pb::SelectRoleRequest { role: None, include_user_info: true };
    let results = milvus.select_role(all).await?.results;
    let databases = milvus.list_databases(pb::ListDatabasesRequest {}).await;
    let databases = match databases {
        Ok(answer) => answer.db_names,
        Err(failure) if failure.kind == Kind::Unsupported => vec![String::new()],
        Err(failure) => return Err(failure),
    };
    let mut rbac = RbacMeta::default();
    for role in results.iter().filter_map(|result| result.role.clone()) {
        for database in &databases {
            let entity = pb::GrantEntity { role: Some(role.clone()), db_name: database.clone(), ..Default::default() };
            let asked = pb::SelectGrantRequest { entity: Some(entity) };
            for found in milvus.select_grant(asked).await?.entities.into_iter().map(convert::grant) {
                if !rbac.grants.contains(&found) {
                    rbac.grants.push(found);
                }
            }
        }
        rbac.roles.push(Named { name: role.name });
    }
    rbac.users = users
        .into_iter()
        .map(|user| {
            let has = |result: &&pb::RoleResult| result.users.iter().any(|other| other.name == user);
            let roles = results.iter().filter(has).filter_map(|result| result.role.clone());
            UserInfo {
                roles: roles.map(|role| Named { name: role.name }).collect(),
                user: user.clone(),
                ..UserInfo::default()
            }
        })
        .collect();
    Ok(rbac)
}

/// Adds what is not there yet, and names what can't be added.
///
/// # Errors
/// Milvus does not answer, or refuses.
pub(super) async fn restore(milvus: &Milvus, wanted: &RbacMeta, tell: &Tell) -> Result<()> {
    let there = match milvus.version() >= AT_ONCE {
        true => {
            let answer = milvus.backup_rbac(pb::BackupRbacRequest {}).await?;
            answer.rbac_meta.map(convert::rbac).unwrap_or_default()
        }
        false => one_by_one(milvus).await?,
    };
    let mut missing = wanted.clone();
    missing.roles.retain(|role| !there.roles.contains(role));
    missing.grants.retain(|grant| !there.grants.iter().any(|other| is_same(grant, other)));
    missing.privilege_groups.retain(|group| !there.privilege_groups.iter().any(|o| o.group_name == group.group_name));
    let known: BTreeSet<&str> = there.users.iter().map(|user| user.user.as_str()).collect();
    let (mut old, new): (Vec<UserInfo>, Vec<UserInfo>) =
        missing.users.into_iter().partition(|user| known.contains(user.user.as_str()));
    let (hashed, lost): (Vec<UserInfo>, Vec<UserInfo>) =
        new.into_iter().partition(|user| !user.password.is_empty() && milvus.version() >= AT_ONCE);
    missing.users = hashed;
    if !lost.is_empty() {
        let names: Vec<&str> = lost.iter().map(|user| user.user.as_str()).collect();
        tell.warn(format!(
            "users without a password that this Milvus takes: {}. Make them with new passwords, then restore once more with \
             --rbac: they get their roles",
            names.join(", ")
        ));
    }
    tell.say(format!(
        "{} users, {} roles and {} grants are added; what is there already stays as it is",
        missing.users.len(),
        missing.roles.len(),
        missing.grants.len()
    ));
    if milvus.version() >= AT_ONCE {
        let rbac_meta = Some(convert::rbac_back(&missing));
        milvus.restore_rbac(pb::RestoreRbacRequest { rbac_meta }).await?;
    } else {
        // It remembers who granted what; asked by nobody, it refuses in words that do not say so.
        if !milvus.has_login() && !missing.grants.is_empty() {
            let what = format!("Milvus {} takes grants from a user alone; nothing was changed", milvus.version());
            let next = "give milvus.user and milvus.password, also where this Milvus asks nobody for them";
            return Err(Failure::new(Kind::Request, what, next));
        }
        for role in &missing.roles {
            let entity = Some(pb::RoleEntity { name: role.name.clone() });
            let made = milvus.create_role(pb::CreateRoleRequest { entity }).await;
            made.map_err(|failure| failure.during(&format!("role {}", role.name)))?;
        }
        for grant in &missing.grants {
            let request = pb::OperatePrivilegeRequest { entity: Some(convert::grant_back(grant)), r#type: 0 };
            let granted = milvus.operate_privilege(request).await;
            granted.map_err(|failure| failure.during(&format!("a grant on {}", grant.object_name)))?;
        }
    }
    // Users that are there keep what they have, and get the roles that they lack.
    for user in &mut old {
        let has = there.users.iter().find(|other| other.user == user.user);
        user.roles.retain(|role| !has.is_some_and(|has| has.roles.contains(role)));
        for role in &user.roles {
            let (username, role_name) = (user.user.clone(), role.name.clone());
            let given: std::result::Result<_, Failure> =
                milvus.operate_user_role(pb::OperateUserRoleRequest { username, role_name, r#type: 0 }).await;
            given.map_err(|failure| failure.during(&format!("role {} of {}", role.name, user.user)))?;
        }
    }
    Ok(())
}

/// Whether both allow the same; who granted it does not matter.
fn is_same(one: &Grant, other: &Grant) -> bool {
    let privilege = |grant: &Grant| grant.grantor.as_ref().and_then(|grantor| grantor.privilege.clone());
    (&one.role, &one.object, &one.object_name, &one.db_name, privilege(one))
        == (&other.role, &other.object, &other.object_name, &other.db_name, privilege(other))
}
