//! Milvus's garbage collection, held off while logs are copied.
//!
//! It is asked to pause for a while, again and again; nobody asks it to go on, since another backup may need the pause
//! still. A Milvus that can't be asked is a warning: the run then notices when a log vanishes, and lists anew.

use super::config::Settings;
use super::news::Tell;
use crate::limits::GC_PAUSE;

/// What a Milvus says, 2.3 among them, that can't pause.
const NOT_THERE: &str = "there is no such page";

/// Renews the pause until it is dropped.
pub(super) struct Pause(Option<tokio::task::JoinHandle<()>>);

impl Pause {
    /// Pauses now, and goes on renewing.
    pub(super) async fn begin(settings: &Settings, tell: &Tell) -> Pause {
        if !settings.pause_gc {
            return Pause(None);
        }
        let url = format!(
            "{}/management/datacoord/garbage_collection/pause?pause_seconds={}",
            settings.milvus.management,
            GC_PAUSE.as_secs()
        );
        let client = super::http::client(settings.milvus.ca.as_ref(), GC_PAUSE / 30);
        let asked = match &client {
            Ok(client) => ask(client, &url).await,
            Err(why) => Err(why.clone()),
        };
        let (Ok(client), Ok(())) = (client, &asked) else {
            let why = asked.err().unwrap_or_default();
            if why == NOT_THERE {
                tell.say("this Milvus has no pause of its garbage collection; the backup notices if a log vanishes");
                return Pause(None);
            }
            tell.warn(format!(
                "Milvus's garbage collection could not be paused ({why}); the backup goes on and notices if a log vanishes. \
                 Check backup.gcPause.address (v2: milvus.management.endpoint)"
            ));
            return Pause(None);
        };
        let tell = tell.clone();
        Pause(Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(GC_PAUSE / 3).await;
                if let Err(why) = ask(&client, &url).await {
                    tell.warn(format!("the pause of Milvus's garbage collection could not be renewed: {why}"));
                }
            }
        })))
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<(), String> {
    let answer = client.get(url).send().await.map_err(|error| error.without_url().to_string())?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        reqwest::StatusCode::NOT_FOUND => Err(NOT_THERE.into()),
        status => Err(format!("it answered {status}")),
    }
}
