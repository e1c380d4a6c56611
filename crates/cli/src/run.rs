//! A member in this process, from its start to the signal that ends it.

use std::time::Duration;

use eyrie_server::{Config, Server, log};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{memory, notify, open_files};

/// The moments of a run that a person may want to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Clients can be served.
    Ready,
    /// A signal came; open requests end, and everything is made durable.
    Stopping,
    /// All is durable.
    Stopped,
}

/// Runs a member until SIGTERM or SIGINT, then stops it gracefully; a second signal ends the process at once.
///
/// Afterwards the process ends by the signal, as its parent expects, or with 0 if it is the first process of a
/// container.
pub(crate) fn until_signal(config: &Config, tell: impl Fn(Moment)) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("can't start the signal thread: {error}")),
    };
    let (mut term, mut int) = match runtime.block_on(async { signals() }) {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("can't listen for signals: {error}")),
    };
    let config = &Config { give_back_memory: memory::give_back, open_files: open_files::allowed(), ..config.clone() };
    let mut damage: Option<String> = None;
    let (server, ended) = loop {
        let server = match Server::start_after(config, damage.as_deref()) {
            Ok(server) => server,
            Err(error) => return failed(&error.to_string()),
        };
        if damage.is_none() {
            notify::ready();
            tell(Moment::Ready);
        }
        let ended = runtime.block_on(async {
            tokio::select! {
                number = next(&mut term, &mut int) => Ok(number),
                why = server.failed() => Err(why),
            }
        });
        match server.damage().filter(|_| ended.is_err() && damage.is_none()) {
            Some(why) => {
                log::warn!("the member ends to be rebuilt from the others", "error" = &why);
                let _ = server.stop();
                damage = Some(why);
            }
            None => break (server, ended),
        }
    };
    notify::stopping();
    match ended {
        Err(why) => {
            log::fatal!("the member can't go on; acknowledged writes are in its log", "error" = why);
            let _ = server.stop();
            1
        }
        Ok(number) => {
            log::info!("received signal; shutting down", "signal" = name(number));
            tell(Moment::Stopping);
            let stopped = std::thread::spawn(move || server.stop().is_ok());
            let second = runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = next(&mut term, &mut int) => break true,
                        () = tokio::time::sleep(Duration::from_millis(10)) => if stopped.is_finished() { break false },
                    }
                }
            });
            if second {
                log::warn!("received a second signal; stopping at once", "signal" = name(number));
            } else if !stopped.join().unwrap_or(false) {
                return 1;
            } else {
                tell(Moment::Stopped);
            }
            end_by(number)
        }
    }
}

fn signals() -> std::io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

async fn next(term: &mut Signal, int: &mut Signal) -> i32 {
    tokio::select! {
        _ = term.recv() => SIGTERM,
        _ = int.recv() => SIGINT,
    }
}

/// Dies of the signal, so that the parent sees why. The first process of a container can't, and exits.
fn end_by(number: i32) -> i32 {
    if std::process::id() != 1 {
        let _ = signal_hook::low_level::emulate_default_handler(number);
    }
    0
}

fn name(number: i32) -> &'static str {
    if number == SIGINT { "interrupt" } else { "terminated" }
}

fn failed(error: &str) -> i32 {
    log::fatal!("failed to start etcd", "error" = error);
    1
}
