//! Who looks at the leases' clock: proposes the end of those whose time is up, and writes down what long ones have left.

use std::time::Duration;

use eyrie_state::Command;

use crate::limits::{LEASE_CHECKPOINT_INTERVAL, LEASE_TICK, LEASES_PER_CHECKPOINT_MAX, LEASES_REVOKED_PER_TICK_MAX};
use crate::log_warn;
use crate::store::Store;

/// Revocations under way at once (etcd's figure).
const REVOCATIONS_AT_ONCE: usize = 16;

/// Proposes the end of every lease whose time is up, for as long as this member leads.
pub(crate) async fn expiry_loop(store: Store) {
    let mut tick = tokio::time::interval(LEASE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Asked for even when not leading, so that the lessor's clock sees every tick.
        let expired = store.lessor().expired(LEASES_REVOKED_PER_TICK_MAX);
        if !store.standing().is_leader {
            continue;
        }
        for some in expired.chunks(REVOCATIONS_AT_ONCE) {
            let mut waiting = Vec::with_capacity(some.len());
            for id in some {
                let (store, id) = (store.clone(), *id);
                waiting.push(tokio::task::spawn_local(async move {
                    (id, store.propose_here(Command::LeaseRevoke { id }).await)
                }));
            }
            for revoked in waiting {
                match revoked.await {
                    Ok((_, Ok(_))) => store.metrics().server.lease_expired.inc(),
                    Ok((id, Err(error))) => {
                        let (id, error) = (format!("{:016x}", id.0), error.to_string());
                        log_warn!(
                            "failed to revoke an expired lease; it is tried again",
                            "lease-id" = &id,
                            "error" = &error
                        );
                    }
                    Err(_) => return,
                }
            }
        }
    }
}

/// Writes down the remaining time of long leases, so that a restart does not begin them anew.
pub(crate) async fn checkpoint_loop(store: Store) {
    let mut tick = tokio::time::interval(LEASE_CHECKPOINT_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        checkpoint(&store, LEASE_CHECKPOINT_INTERVAL).await;
    }
}

async fn checkpoint(store: &Store, long: Duration) {
    if !store.standing().is_leader {
        return;
    }
    for remaining in store.lessor().long_remaining(long).chunks(LEASES_PER_CHECKPOINT_MAX) {
        let command = Command::LeaseCheckpoint { remaining: remaining.to_vec() };
        if let Err(error) = store.propose_here(command).await {
            let error = error.to_string();
            log_warn!("failed to checkpoint leases; it is tried again", "error" = &error);
            return;
        }
    }
}
