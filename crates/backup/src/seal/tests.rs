//! Envelopes, whole and broken.

use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use sha2::Digest;

use super::{Compress, Identities, Recipients, SealError, Wrap, keygen, open, seal};
use crate::limits::SEAL_HEADER_BYTES_MAX;

struct Key {
    private: Identities,
    public: Recipients,
}

fn key() -> Key {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let public = keygen(&path, "today").unwrap().to_string();
    let private = Identities::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    Key { private, public: Recipients::parse([public.as_str()]).unwrap() }
}

fn pieces(bytes: &[u8], len: usize) -> impl futures::Stream<Item = Result<Bytes, SealError>> + Send + 'static {
    let pieces: Vec<_> = bytes.chunks(len.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures::stream::iter(pieces)
}

async fn sealed(plain: &[u8], to: &Recipients, compress: Compress) -> (Wrap, Vec<u8>) {
    let sealed = seal(pieces(plain, 70_001), to, compress).await.unwrap();
    let (wrap, told) = (sealed.wrap, sealed.plain());
    assert_eq!(told(), None);
    let stored: Vec<Bytes> = sealed.bytes.try_collect().await.unwrap();
    let (len, sha256) = told().unwrap();
    assert_eq!((len, sha256[..].to_vec()), (plain.len() as u64, sha2::Sha256::digest(plain).to_vec()));
    (wrap, stored.concat())
}

async fn opened(stored: &[u8], wrap: Wrap, keys: &Identities, limit: u64) -> Result<Vec<u8>, SealError> {
    let plain = open(pieces(stored, 1_000), wrap, keys, limit).await?;
    Ok(plain.try_collect::<Vec<Bytes>>().await?.concat())
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 1_u64;
    let step = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

#[tokio::test]
async fn every_length_comes_back_in_every_wrap() {
    let key = key();
    for len in [0, 1, 65_535, 65_536, 65_537, 3_000_000] {
        for (to, compress) in [
            (&key.public, Compress::IfItPays),
            (&key.public, Compress::Never),
            (&Recipients::nobody(), Compress::IfItPays),
            (&Recipients::nobody(), Compress::Never),
        ] {
            for plain in [vec![b'x'; len], noise(len)] {
                let (wrap, stored) = sealed(&plain, to, compress).await;
                assert_eq!(wrap.age, !to.is_nobody());
                if len >= 65_535 {
                    assert_eq!(wrap.zstd, compress == Compress::IfItPays && plain[0] == plain[1], "{len}");
                }
                assert!(opened(&stored, wrap, &key.private, len as u64).await.unwrap() == plain, "{len} {wrap:?}");
            }
        }
    }
}

#[tokio::test]
async fn each_recipient_opens_and_nobody_else() {
    let (ops, escrow, stranger) = (key(), key(), key());
    let texts = [ops.public.texts(), escrow.public.texts()].concat();
    let both = Recipients::parse(texts.iter().map(String::as_str)).unwrap();
    let (wrap, stored) = sealed(b"secret", &both, Compress::Never).await;
    assert!(!stored.windows(6).any(|part| part == b"secret"));
    for keys in [&ops.private, &escrow.private] {
        assert_eq!(opened(&stored, wrap, keys, 100).await.unwrap(), b"secret");
    }
    assert_eq!(opened(&stored, wrap, &stranger.private, 100).await.unwrap_err(), SealError::WrongKey { given: 1 });
    assert_eq!(opened(&stored, wrap, &Identities::default(), 100).await.unwrap_err(), SealError::NoKey);
}

#[tokio::test]
async fn every_flipped_byte_and_every_cut_is_noticed() {
    let key = key();
    for compress in [Compress::Never, Compress::IfItPays] {
        let (wrap, stored) = sealed(&vec![b'x'; 2_000], &key.public, compress).await;
        for at in 0..stored.len() {
            let mut bad = stored.clone();
            bad[at] ^= 1;
            assert!(opened(&bad, wrap, &key.private, 10_000).await.is_err(), "flip at {at}");
            assert!(opened(&stored[..at], wrap, &key.private, 10_000).await.is_err(), "cut at {at}");
        }
        let longer = [stored.as_slice(), b"x"].concat();
        assert!(opened(&longer, wrap, &key.private, 10_000).await.is_err());
    }
    // Compressed only: zstd's own checksum.
    let (wrap, stored) = sealed(&vec![b'x'; 2_000], &Recipients::nobody(), Compress::IfItPays).await;
    for at in 1..stored.len() {
        assert!(opened(&stored[..at], wrap, &key.private, 10_000).await.is_err(), "cut at {at}");
    }
}

#[tokio::test]
async fn a_cut_between_blocks_never_passes_for_the_whole() {
    let key = key();
    let (wrap, stored) = sealed(&noise(300_000), &key.public, Compress::Never).await;
    // An age block is 64 KiB and its tag.
    let header = stored.len() - 300_000 - 5 * 16;
    for blocks in 1..=4 {
        let cut = &stored[..header + blocks * (65_536 + 16)];
        let error = opened(cut, wrap, &key.private, u64::MAX).await.unwrap_err();
        assert!(matches!(error, SealError::Damaged(_)), "{error}");
    }
}

#[tokio::test]
async fn bombs_are_bounded() {
    let key = key();
    let (wrap, stored) = sealed(&vec![0; 50 << 20], &key.public, Compress::IfItPays).await;
    assert!(wrap.zstd && stored.len() < 100_000);
    let error = opened(&stored, wrap, &key.private, 1 << 20).await.unwrap_err();
    assert_eq!(error, SealError::TooLong { limit: 1 << 20 });
    // A header that never ends.
    let mut endless = b"age-encryption.org/v1\n".to_vec();
    while endless.len() < 4 * SEAL_HEADER_BYTES_MAX as usize {
        endless.extend_from_slice(b"-> X25519 AAAA\nAAAA\n");
    }
    let error = opened(&endless, Wrap { zstd: false, age: true }, &key.private, 1).await.unwrap_err();
    assert!(matches!(error, SealError::Damaged(_)), "{error}");
    // A window that wants gigabytes: frame header with a window of 2^31.
    let window = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 0x01, 0x00, 0x00];
    assert!(opened(&window, Wrap { zstd: true, age: false }, &key.private, u64::MAX).await.is_err());
}

#[tokio::test]
async fn the_sources_own_failure_is_told() {
    let key = key();
    let lost = SealError::Failed("the bucket is gone".into());
    let broken = pieces(&noise(200_000), 50_000).chain(futures::stream::iter([Err(lost.clone())]));
    let sealed_broken = seal(broken, &key.public, Compress::Never).await.unwrap();
    let told = sealed_broken.plain();
    let result: Result<Vec<_>, _> = sealed_broken.bytes.try_collect().await;
    assert_eq!(result.unwrap_err(), lost);
    assert_eq!(told(), None);
    let (wrap, stored) = sealed(&noise(200_000), &key.public, Compress::Never).await;
    let broken = pieces(&stored[..100_000], 50_000).chain(futures::stream::iter([Err(lost.clone())]));
    let plain = open(broken, wrap, &key.private, u64::MAX).await.unwrap();
    let result: Result<Vec<_>, _> = plain.try_collect().await;
    assert_eq!(result.unwrap_err(), lost);
}

#[tokio::test]
async fn the_plain_age_crate_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let public = keygen(&path, "today").unwrap().to_string();
    let (_, stored) = sealed(b"hello", &Recipients::parse([public.as_str()]).unwrap(), Compress::Never).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let identity: age::x25519::Identity = text.lines().last().unwrap().parse().unwrap();
    assert_eq!(age::decrypt(&identity, &stored).unwrap(), b"hello");
}

#[test]
fn a_key_file_is_the_owners_and_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let public = keygen(&path, "2026-11-22").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(&public.to_string()) && text.contains("2026-11-22"));
    let error = keygen(&path, "later").unwrap_err().to_string();
    assert!(error.contains("never overwritten"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let keys = Identities::parse(&text).unwrap();
    assert_eq!(keys.recipients()[0].to_string(), public.to_string());
    assert!(!format!("{keys:?}").contains("SECRET"));
    // The wrong file in the wrong place, without its content in the message.
    let secret = text.lines().last().unwrap();
    let error = Recipients::parse([secret]).unwrap_err().to_string();
    assert!(error.contains("private key") && !error.contains(secret), "{error}");
    assert!(Recipients::parse([format!("file:{}", path.display()).as_str()]).is_err());
    assert!(Identities::parse(&format!("{secret}x")).is_err_and(|error| !error.to_string().contains(secret)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn anything_that_claims_to_be_an_envelope_ends(junk in proptest::collection::vec(any::<u8>(), 0..2_000), form in 0..4) {
        let wrap = Wrap { zstd: form & 1 == 1, age: form & 2 == 2 };
        let key = key();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(opened(&junk, wrap, &key.private, 10_000));
        prop_assert!(answer.is_err() || !wrap.age);
    }
}
