//! What another member says: a message of the agreement.

use eyrie_raft::Message;

use super::Target;

pub(super) const TARGET: Target = Target { name: "peer", what: "messages between members", corpus, reseal: None, run };

fn run(input: &[u8]) -> bool {
    let Ok(message) = Message::decode(input) else { return false };
    let bytes = message.encode().expect("what was decoded is encoded");
    let again = Message::decode(&bytes).expect("what was encoded is decoded");
    let facts = |message: &Message| (message.from(), message.to(), message.weight(), message.snapshot());
    assert_eq!(facts(&again), facts(&message), "a message changes on its way");
    true
}

/// Type, to, from, term; then what the type has: log term, index, entries, commit, snapshot.
fn corpus() -> Vec<Vec<u8>> {
    let head = |kind: u8| vec![0x08, kind, 0x10, 1, 0x18, 2, 0x20, 5];
    let entry = [0x08, 0, 0x10, 5, 0x18, 10, 0x22, 3, b'a', b'b', b'c'];
    let mut append = [head(3), vec![0x28, 4, 0x30, 9, 0x3a, entry.len() as u8]].concat();
    append.extend(entry);
    append.extend([0x40, 9]);
    // data, then metadata: members 1 and 2, index 9, term 4
    let snapshot = [0x12, 10, 0x0a, 4, 0x0a, 2, 1, 2, 0x10, 9, 0x18, 4];
    let offer = [head(7), vec![0x4a, snapshot.len() as u8], snapshot.to_vec()].concat();
    let heartbeat = [head(8), vec![0x40, 9]].concat();
    vec![append, offer, heartbeat]
}
