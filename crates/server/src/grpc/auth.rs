//! Service `Auth`: users, roles, permissions, and logging in.
//!
//! Who may ask is decided at the door, and again when a change is applied. Passwords end here: what goes on is their hash.

use eyrie_api::{authpb, pb};
use eyrie_state::{Access, Auth, AuthChange, Author, Command, Permission, Refusal, Revision};
use tonic::{Code, Request, Response, Status};

use crate::errors::ServeError;
use crate::store::Store;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct AuthService {
    pub(crate) store: Store,
}

type Answer<T> = Result<Response<T>, Status>;
type Head = Option<pb::ResponseHeader>;

impl AuthService {
    async fn change(&self, change: AuthChange) -> Result<Head, ServeError> {
        let (revision, _) = self.store.propose_now(Command::Auth(change)).await?;
        Ok(Some(self.store.header(revision)))
    }

    /// Looks at the users as they are now, on all members.
    async fn look<R>(&self, look: impl FnOnce(&Auth, &Author) -> Result<R, Refusal>) -> Result<(Head, R), ServeError> {
        self.store.linearize().await?;
        let (revision, seen) = self.store.read(|state| {
            let author = self.store.author(state)?;
            Ok::<(Revision, R), ServeError>((state.revision(), look(state.auth(), &author)?))
        })?;
        Ok((Some(self.store.header(revision)), seen))
    }

    async fn hash(&self, password: String) -> Result<String, ServeError> {
        self.store.shared().guard.hash(password).await
    }
}

fn root(auth: &Auth, author: &Author) -> Result<(), Refusal> {
    auth.grant(author)?.root()
}

/// Root may, and who is meant.
fn root_or(auth: &Auth, author: &Author, meant: impl FnOnce(&str) -> bool) -> Result<(), Refusal> {
    match (auth.grant(author)?.root(), author) {
        (Err(Refusal::PermissionDenied), Author::User { name, .. }) if meant(name) => Ok(()),
        (decided, _) => decided,
    }
}

#[tonic::async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn auth_enable(&self, _: Request<pb::AuthEnableRequest>) -> Answer<pb::AuthEnableResponse> {
        Ok(Response::new(pb::AuthEnableResponse { header: self.change(AuthChange::Enable).await? }))
    }

    async fn auth_disable(&self, _: Request<pb::AuthDisableRequest>) -> Answer<pb::AuthDisableResponse> {
        Ok(Response::new(pb::AuthDisableResponse { header: self.change(AuthChange::Disable).await? }))
    }

    async fn auth_status(&self, _: Request<pb::AuthStatusRequest>) -> Answer<pb::AuthStatusResponse> {
        let look = |auth: &Auth, author: &Author| {
            root(auth, author)?;
            Ok((auth.enabled(), auth.revision().0))
        };
        let (header, (enabled, auth_revision)) = self.look(look).await?;
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn authenticate(&self, request: Request<pb::AuthenticateRequest>) -> Answer<pb::AuthenticateResponse> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.store.shared().guard.log_in(&self.store, &name, &password).await?;
        let header = Some(self.store.header(self.store.revision()));
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn user_add(&self, request: Request<pb::AuthUserAddRequest>) -> Answer<pb::AuthUserAddResponse> {
        let pb::AuthUserAddRequest { name, password, options, .. } = request.into_inner();
        if name.is_empty() {
            return Err(ServeError::from(Refusal::UserEmpty).into());
        }
        let no_password = options.is_some_and(|options| options.no_password);
        let password_hash = if no_password { String::new() } else { self.hash(password).await? };
        let header = self.change(AuthChange::UserAdd { name, password_hash, no_password }).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(&self, request: Request<pb::AuthUserGetRequest>) -> Answer<pb::AuthUserGetResponse> {
        let name = request.into_inner().name;
        let look = |auth: &Auth, author: &Author| {
            root_or(auth, author, |asking| asking == name)?;
            let user = auth.user(&name).ok_or(Refusal::UserNotFound)?;
            Ok(user.roles.iter().cloned().collect())
        };
        let (header, roles) = self.look(look).await?;
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(&self, _: Request<pb::AuthUserListRequest>) -> Answer<pb::AuthUserListResponse> {
        let look = |auth: &Auth, author: &Author| {
            root(auth, author)?;
            Ok(auth.users().map(|user| user.name.clone()).collect())
        };
        let (header, users) = self.look(look).await?;
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(&self, request: Request<pb::AuthUserDeleteRequest>) -> Answer<pb::AuthUserDeleteResponse> {
        let change = AuthChange::UserDelete { name: request.into_inner().name };
        Ok(Response::new(pb::AuthUserDeleteResponse { header: self.change(change).await? }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Answer<pb::AuthUserChangePasswordResponse> {
        let pb::AuthUserChangePasswordRequest { name, password, .. } = request.into_inner();
        let password_hash = self.hash(password).await?;
        let header = self.change(AuthChange::UserPassword { name, password_hash }).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Answer<pb::AuthUserGrantRoleResponse> {
        let pb::AuthUserGrantRoleRequest { user, role } = request.into_inner();
        let header = self.change(AuthChange::UserGrant { user, role }).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Answer<pb::AuthUserRevokeRoleResponse> {
        let pb::AuthUserRevokeRoleRequest { name, role } = request.into_inner();
        let header = self.change(AuthChange::UserRevoke { user: name, role }).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(&self, request: Request<pb::AuthRoleAddRequest>) -> Answer<pb::AuthRoleAddResponse> {
        let change = AuthChange::RoleAdd { name: request.into_inner().name };
        Ok(Response::new(pb::AuthRoleAddResponse { header: self.change(change).await? }))
    }

    async fn role_get(&self, request: Request<pb::AuthRoleGetRequest>) -> Answer<pb::AuthRoleGetResponse> {
        let name = request.into_inner().role;
        let look = |auth: &Auth, author: &Author| {
            root_or(auth, author, |asking| auth.user(asking).is_some_and(|user| user.roles.contains(&name)))?;
            let role = auth.role(&name).ok_or(Refusal::RoleNotFound)?;
            Ok(role.permissions.iter().map(permission_message).collect())
        };
        let (header, perm) = self.look(look).await?;
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(&self, _: Request<pb::AuthRoleListRequest>) -> Answer<pb::AuthRoleListResponse> {
        let look = |auth: &Auth, author: &Author| {
            root(auth, author)?;
            Ok(auth.roles().map(|role| role.name.clone()).collect())
        };
        let (header, roles) = self.look(look).await?;
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(&self, request: Request<pb::AuthRoleDeleteRequest>) -> Answer<pb::AuthRoleDeleteResponse> {
        let change = AuthChange::RoleDelete { name: request.into_inner().role };
        Ok(Response::new(pb::AuthRoleDeleteResponse { header: self.change(change).await? }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Answer<pb::AuthRoleGrantPermissionResponse> {
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.into_inner();
        let not_given = || ServeError::other(Code::InvalidArgument, "etcdserver: permission not given");
        let perm = perm.ok_or_else(not_given)?;
        let access =
            Access::of_number(perm.perm_type.into()).ok_or(ServeError::from(Refusal::InvalidAuthManagement))?;
        let permission = Permission { access, key: perm.key, range_end: perm.range_end };
        let header = self.change(AuthChange::RoleGrant { role: name, permission }).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Answer<pb::AuthRoleRevokePermissionResponse> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.into_inner();
        let header = self.change(AuthChange::RoleRevoke { role, key, range_end }).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }
}

fn permission_message(permission: &Permission) -> authpb::Permission {
    let Permission { access, key, range_end } = permission;
    authpb::Permission { perm_type: *access as i32, key: key.clone(), range_end: range_end.clone() }
}
