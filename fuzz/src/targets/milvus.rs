//! Keys and values of Milvus, as they come out of somebody's etcd.

use eyrie_milvus::transform::{Options, Queue, Transform};
use eyrie_milvus::{Catalog, Key, Layout, ObjectRoot, QueueKind, References, Roots, Value};

use super::Target;

pub(super) const TARGET: Target =
    Target { name: "milvus", what: "a key of Milvus and its value", corpus, reseal: None, run };

/// A byte with the length of the key, the key, the value.
fn run(input: &[u8]) -> bool {
    let Some((length, rest)) = input.split_first() else { return false };
    let Some((raw, value)) = rest.split_at_checked(usize::from(*length)) else { return false };
    let roots = Roots::new("m");
    let Ok(key) = Key::parse(&roots, raw) else { return false };
    assert_eq!(key.print(&roots).as_bytes(), raw, "a key that is read is printed back");
    let decoded = Value::decode(&key, value);
    let pairs = [(raw, value)];
    let catalog = Catalog::read(&roots, pairs);
    let objects_at = ObjectRoot::bucket("files");
    let mut references = References::of(roots.clone(), objects_at.clone(), pairs);
    for object in references.iter() {
        assert!(!object.path.split('/').any(|part| part == ".."), "a way out of the bucket: {}", object.path);
    }
    for layout in Layout::detect(pairs.into_iter()) {
        let _ = layout.check();
        let options = Options {
            to_root: Some("n".into()),
            objects: Some((objects_at.clone(), ObjectRoot::folder("/f"))),
            ..Options::new(Queue::Lost(QueueKind::Pulsar))
        };
        let _ = Transform::new(&layout, &catalog, options).run(pairs);
    }
    references.delete(raw);
    assert_eq!(references, References::new(roots, objects_at), "what was named is forgotten");
    decoded.is_ok()
}

fn corpus() -> Vec<Vec<u8>> {
    let pairs: [(&str, &[u8]); 6] = [
        ("m/meta/datacoord-meta/binlog/1/2/3/100", &[0x08, 100, 0x12, 6, 0x08, 9, 0x28, 40, 0x30, 7]),
        // A segment of a collection with rows, a position and a text index.
        (
            "m/meta/datacoord-meta/s/1/2/3",
            b"\x08\x03\x10\x01\x18\x02\x22\x02ch\x28\x09\x30\x04\x52\x0e\x0a\x02ch\x12\x08\x01\x00\x00\x00\x00\x00\x00\x00\xd2\x01\x0a\x08\x65\x12\x06\x08\x65\x1a\x02t0",
        ),
        ("m/meta/segment-index/1/2/3/4", b"\x08\x01\x10\x02\x18\x03\x28\x05\x30\x04\x40\x01\x48\x03\x5a\x04HNSW"),
        ("m/meta/root-coord/database/collection-info/1/9", b"\x08\x09\x12\x03\x0a\x01c\x5a\x06\x0a\x01p\x12\x01\x05"),
        ("m/meta/snapshots/root-coord/fields/9/100_ts77", b"\xe2\x9b\xbc"),
        ("m/meta/session/rootcoord", br#"{"Version":"2.3.5"}"#),
    ];
    pairs.map(|(key, value)| [&[key.len() as u8], key.as_bytes(), value].concat()).to_vec()
}
