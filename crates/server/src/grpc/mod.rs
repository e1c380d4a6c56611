//! The gRPC services: each turns a message into a question to the [`crate::store::Store`] and the answer back.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod short;

pub(crate) use auth::AuthService;
pub(crate) use cluster::ClusterService;
pub(crate) use kv::KvService;
pub(crate) use lease::LeaseService;
pub(crate) use maintenance::MaintenanceService;
pub(crate) use short::{Call, EdgeBody, Short};
