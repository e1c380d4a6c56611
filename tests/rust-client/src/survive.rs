//! Writes, reads, watches and keeps a lease through several endpoints while members come and go, and notes what it was told.
//!
//! One line on stdout for each thing: `put KEY VALUE REVISION`, `got KEY VALUE`, `event REVISION KEY VALUE`, `lease ID`,
//! `failed WHAT`. It ends some time after stdin has, when its watch has heard of the last write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, EventType, PutOptions, WatchOptions};

use crate::Done;

/// Seconds that the lease lives without its keeper.
const TTL: i64 = 5;
/// Between two tries of anything.
const PAUSE: Duration = Duration::from_millis(20);

pub async fn survive(endpoints: Vec<String>) -> Done {
    let options = ConnectOptions::new()
        .with_timeout(Duration::from_secs(3))
        .with_connect_timeout(Duration::from_secs(1))
        .with_keep_alive(Duration::from_secs(1), Duration::from_secs(1));
    let client = Client::connect(&endpoints, Some(options)).await?;
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        told.store(true, Ordering::Relaxed);
    });
    let lease = again(client.clone(), async |client| Ok(client.lease_grant(TTL, None).await?.id())).await;
    println!("lease {lease}");
    let leased = PutOptions::new().with_lease(lease);
    again(client.clone(), async |client| Ok(client.put("s/leased", "here", Some(leased.clone())).await?)).await;
    let watching = tokio::spawn(watch(client.clone()));
    let keeping = tokio::spawn(keep(client.clone(), lease));
    write(client.clone(), &over).await;
    watching.await?;
    keeping.abort();
    Ok(())
}

/// Tries until it is done; only for what may be done twice.
async fn again<T>(mut client: Client, call: impl AsyncFn(&mut Client) -> Result<T, Box<dyn std::error::Error>>) -> T {
    loop {
        match call(&mut client).await {
            Ok(done) => return done,
            Err(error) => println!("failed {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Each key is written once, so that an answer that was lost confuses nothing.
async fn write(mut client: Client, over: &AtomicBool) {
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        n += 1;
        let key = format!("s/{n}");
        match client.put(key.as_str(), n.to_string(), None).await {
            Ok(done) => {
                println!("put {key} {n} {}", done.header().map_or(0, |header| header.revision()));
                match client.get(key.as_str(), None).await {
                    Ok(got) => println!(
                        "got {key} {}",
                        got.kvs().first().and_then(|kv| kv.value_str().ok()).unwrap_or("nothing")
                    ),
                    Err(error) => println!("failed {error}"),
                }
            }
            Err(error) => println!("failed {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    again(client, async |client| Ok(client.put("s/end", "end", None).await?)).await;
}

/// Goes on after the last revision it has heard of, whenever its stream ends.
async fn watch(mut client: Client) {
    let mut next = 1;
    loop {
        let options = WatchOptions::new().with_prefix().with_start_revision(next);
        let mut stream = match client.watch("s/", Some(options)).await {
            Ok(stream) => stream,
            Err(error) => {
                println!("failed {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        loop {
            match stream.message().await {
                Ok(Some(answer)) => {
                    for event in answer.events() {
                        let Some(kv) = event.kv() else { continue };
                        let (key, value) = (kv.key_str().unwrap_or("?"), kv.value_str().unwrap_or("?"));
                        let value = if event.event_type() == EventType::Delete { "deleted" } else { value };
                        println!("event {} {key} {value}", kv.mod_revision());
                        next = kv.mod_revision() + 1;
                        if key == "s/end" {
                            return;
                        }
                    }
                }
                Ok(None) => break println!("failed the watch ended"),
                Err(error) => break println!("failed {error}"),
            }
        }
    }
}

async fn keep(mut client: Client, lease: i64) {
    loop {
        if let Ok((mut keeper, mut answers)) = client.lease_keep_alive(lease).await {
            while keeper.keep_alive().await.is_ok() {
                match tokio::time::timeout(Duration::from_secs(1), answers.message()).await {
                    Ok(Ok(Some(answer))) if answer.ttl() > 0 => {}
                    Ok(Ok(Some(_))) => println!("failed the lease is gone"),
                    _ => break,
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
