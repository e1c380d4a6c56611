//! Interrupts: the two signals by which a person or a supervisor asks a command to end.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when SIGINT or SIGTERM arrives. Signals that arrive before the first poll count too.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    async move {
        match (interrupt, terminate) {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            // No handler could be set: the signals keep their default meaning and end the process.
            _ => std::future::pending().await,
        }
    }
}
