//! Speaks to the store at `argv[1]` with the published crate `etcd-client`, and ends with 0 when every answer was right.
//! With several endpoints it goes on while members of the cluster die: see `survive`.

mod survive;

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions, LeaseGrantOptions, LockOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};

type Done = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Done {
    let mut endpoints: Vec<String> = std::env::args().skip(1).collect();
    if endpoints.len() > 1 {
        return survive::survive(endpoints).await;
    }
    let endpoint = endpoints.pop().ok_or("usage: rust-client HOST:PORT...")?;
    let options = ConnectOptions::new().with_timeout(Duration::from_secs(10)).with_keep_alive_while_idle(true);
    let mut client = Client::connect([endpoint], Some(options)).await?;
    keys(&mut client).await?;
    transaction(&mut client).await?;
    watch(&mut client).await?;
    lease(&mut client).await?;
    lock(&mut client).await?;
    election(&mut client).await?;
    upkeep(&mut client).await?;
    println!("all answers right");
    Ok(())
}

async fn keys(client: &mut Client) -> Done {
    for i in 0..10 {
        client.put(format!("rs/{i}"), format!("{}", 9 - i), None).await?;
    }
    let before = client.put("rs/3", "again", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(before.prev_key().map(|kv| kv.value().to_vec()), Some(b"6".to_vec()));
    let sorted = GetOptions::new().with_prefix().with_sort(SortTarget::Value, SortOrder::Descend).with_limit(2);
    let got = client.get("rs/", Some(sorted)).await?;
    assert_eq!((got.count(), got.more()), (10, true));
    assert_eq!(got.kvs()[0].value(), b"again");
    assert_eq!(got.kvs()[0].version(), 2);
    let old = GetOptions::new().with_revision(before.header().ok_or("no header")?.revision() - 1);
    assert_eq!(client.get("rs/3", Some(old)).await?.kvs()[0].value(), b"6");
    let gone = client.delete("rs/", Some(DeleteOptions::new().with_prefix())).await?;
    assert_eq!(gone.deleted(), 10);
    match client.put("", "x", None).await {
        Err(Error::GRpcStatus(status)) => assert_eq!(status.message(), "etcdserver: key is not provided"),
        other => return Err(format!("an empty key was taken: {other:?}").into()),
    }
    Ok(())
}

async fn transaction(client: &mut Client) -> Done {
    client.put("rs/txn", "old", None).await?;
    let swap = Txn::new()
        .when([Compare::value("rs/txn", CompareOp::Equal, "old")])
        .and_then([TxnOp::put("rs/txn", "new", None), TxnOp::get("rs/txn", None)])
        .or_else([TxnOp::get("rs/txn", None)]);
    let first = client.txn(swap.clone()).await?;
    assert!(first.succeeded());
    assert_eq!(first.op_responses().len(), 2);
    assert!(!client.txn(swap).await?.succeeded());
    Ok(())
}

async fn watch(client: &mut Client) -> Done {
    let start = client.put("rs/watch", "0", None).await?.header().ok_or("no header")?.revision();
    let options = WatchOptions::new().with_start_revision(start).with_prev_key();
    let mut stream = client.watch("rs/watch", Some(options)).await?;
    client.put("rs/watch", "1", None).await?;
    client.delete("rs/watch", None).await?;
    let mut heard = Vec::new();
    let mut id = 0;
    while heard.len() < 3 {
        let answer = tokio::time::timeout(Duration::from_secs(10), stream.message()).await??.ok_or("the watch ended")?;
        id = answer.watch_id();
        for event in answer.events() {
            heard.push((event.event_type(), event.prev_kv().map(|kv| kv.value().to_vec())));
        }
    }
    assert_eq!(
        heard,
        [(EventType::Put, None), (EventType::Put, Some(b"0".to_vec())), (EventType::Delete, Some(b"1".to_vec()))]
    );
    stream.cancel(id).await?;
    Ok(())
}

async fn lease(client: &mut Client) -> Done {
    let lease = client.lease_grant(2, Some(LeaseGrantOptions::new().with_id(4242))).await?;
    assert_eq!((lease.id(), lease.ttl()), (4242, 2));
    client.put("rs/leased", "x", Some(PutOptions::new().with_lease(4242))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(4242).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        assert_eq!(answers.message().await?.ok_or("the stream ended")?.ttl(), 2);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(client.get("rs/leased", None).await?.kvs().len(), 1, "kept alive for 3 s");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(client.get("rs/leased", None).await?.kvs().len(), 0, "expired");
    Ok(())
}

async fn lock(client: &mut Client) -> Done {
    let lease = client.lease_grant(30, None).await?.id();
    let held = client.lock("rs/lock", Some(LockOptions::new().with_lease(lease))).await?;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("rs/lock", None).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "two holders of one lock");
    client.unlock(held.key()).await?;
    let next = tokio::time::timeout(Duration::from_secs(10), waiting).await???;
    client.unlock(next.key()).await?;
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn election(client: &mut Client) -> Done {
    let lease = client.lease_grant(30, None).await?.id();
    let won = client.campaign("rs/office", "one", lease).await?;
    let leader = won.leader().ok_or("no leader key")?.clone();
    assert_eq!(client.leader("rs/office").await?.kv().ok_or("no leader")?.value(), b"one");
    let options = etcd_client::ResignOptions::new().with_leader(leader);
    client.resign(Some(options)).await?;
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn upkeep(client: &mut Client) -> Done {
    let status = client.status().await?;
    assert!(status.version().starts_with("3.5."), "{}", status.version());
    assert_eq!(client.member_list().await?.members().len(), 1);
    let now = client.get("rs/txn", None).await?.header().ok_or("no header")?.revision();
    client.compact(now, None).await?;
    client.defragment().await?;
    let mut blobs = client.snapshot().await?;
    let mut size = 0;
    while let Some(blob) = blobs.message().await? {
        size += blob.blob().len();
    }
    assert_eq!(size % 512, 32, "a snapshot ends with its sha256");
    Ok(())
}
