//! Into the envelope.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use sha2::Digest;
use zstd::stream::write::Encoder;

use super::{Recipients, SealError, Wrap};
use crate::bucket::Sha256;
use crate::limits::{SEAL_BLOCK_BYTES, SEAL_SAMPLE_BYTES, ZSTD_LEVEL};

/// Whether to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// As it is: for what other tools read, and for what does not shrink, such as vectors.
    Never,
    /// If a sample from the beginning shrinks by a tenth.
    IfItPays,
}

/// An envelope that is being written.
pub struct Sealed<E> {
    /// What is done; its ending belongs on the name.
    pub wrap: Wrap,
    /// What is to be stored.
    pub bytes: BoxStream<'static, Result<Bytes, E>>,
    plain: Arc<Mutex<Option<(u64, Sha256)>>>,
}

impl<E> Sealed<E> {
    /// Length and SHA-256 of the plain bytes; known once `bytes` has ended well.
    pub fn plain(&self) -> impl Fn() -> Option<(u64, Sha256)> + Send + 'static {
        let plain = self.plain.clone();
        move || *plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a stream into an envelope for `to`; for nobody, it is at most compressed.
///
/// Reads the beginning of the stream, to see whether compression pays.
///
/// # Errors
/// The stream's own; [`SealError::Failed`].
pub async fn seal<S, E>(plain: S, to: &Recipients, compress: Compress) -> Result<Sealed<E>, E>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: From<SealError> + Send + 'static,
{
    let mut plain = plain.boxed();
    let mut sample = BytesMut::new();
    while sample.len() < SEAL_SAMPLE_BYTES {
        match plain.next().await {
            Some(piece) => sample.extend_from_slice(&piece?),
            None => break,
        }
    }
    let wrap = Wrap { zstd: compress == Compress::IfItPays && pays(&sample), age: !to.is_nobody() };
    let spill = Spill::default();
    let layers = Layers::new(wrap, to, spill.clone())?;
    let told = Arc::new(Mutex::new(None));
    let plain = futures::stream::iter([Ok(sample.freeze())]).chain(plain).boxed();
    let state = State { plain, layers: Some(layers), spill, hash: sha2::Sha256::new(), len: 0, told: told.clone() };
    let bytes = futures::stream::try_unfold(state, State::step).boxed();
    Ok(Sealed { wrap, bytes, plain: told })
}

/// Whether a sample shrinks by a tenth.
fn pays(sample: &[u8]) -> bool {
    let sample = &sample[..sample.len().min(SEAL_SAMPLE_BYTES)];
    zstd::bulk::compress(sample, 1).is_ok_and(|small| small.len() * 10 <= sample.len() * 9)
}

struct State<E> {
    plain: BoxStream<'static, Result<Bytes, E>>,
    /// Gone when the envelope is closed.
    layers: Option<Layers>,
    spill: Spill,
    hash: sha2::Sha256,
    len: u64,
    told: Arc<Mutex<Option<(u64, Sha256)>>>,
}

impl<E: From<SealError> + Send + 'static> State<E> {
    /// The next stored bytes.
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, E> {
        while let Some(mut layers) = self.layers.take() {
            match self.plain.next().await {
                Some(piece) => {
                    let piece = piece?;
                    self.len += piece.len() as u64;
                    let mut hash = std::mem::take(&mut self.hash);
                    // Ciphers are work for a thread that may be busy, not for one that answers calls.
                    let worked = tokio::task::spawn_blocking(move || {
                        hash.update(&piece);
                        layers.write_all(&piece).map(|()| (layers, hash))
                    });
                    let (layers, hash) = done(worked.await)?;
                    (self.layers, self.hash) = (Some(layers), hash);
                }
                None => {
                    done(tokio::task::spawn_blocking(move || layers.finish()).await)?;
                    let sha256 = std::mem::take(&mut self.hash).finalize().into();
                    *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.len, sha256));
                }
            }
            if self.layers.is_none() || self.spill.len() >= SEAL_BLOCK_BYTES {
                break;
            }
        }
        let stored = self.spill.take();
        Ok((!stored.is_empty()).then_some((stored, self)))
    }
}

fn done<T, E: From<SealError>>(worked: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T, E> {
    let failed = |why: String| E::from(SealError::Failed(why));
    worked.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

/// What the layers have written and nobody has taken yet.
#[derive(Clone, Default)]
struct Spill(Arc<Mutex<Vec<u8>>>);

impl Spill {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Write for Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// zstd over age over the spill; any of the two may be missing.
enum Layers {
    Plain(Outer),
    Zstd(Box<Encoder<'static, Outer>>),
}

enum Outer {
    Open(Spill),
    Age(Box<StreamWriter<Spill>>),
}

impl Layers {
    fn new(wrap: Wrap, to: &Recipients, spill: Spill) -> Result<Self, SealError> {
        let failed = |error: io::Error| SealError::Failed(error.to_string());
        let outer = match wrap.age {
            true => Outer::Age(Box::new(to.encryptor()?.wrap_output(spill).map_err(failed)?)),
            false => Outer::Open(spill),
        };
        if !wrap.zstd {
            return Ok(Self::Plain(outer));
        }
        let mut encoder = Encoder::new(outer, ZSTD_LEVEL).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        Ok(Self::Zstd(Box::new(encoder)))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(outer) => outer.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        let outer = match self {
            Self::Plain(outer) => outer,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        match outer {
            Outer::Open(_) => Ok(()),
            Outer::Age(writer) => writer.finish().map(|_| ()),
        }
    }
}

impl Write for Outer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(spill) => spill.write(bytes),
            Self::Age(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Open(spill) => spill.flush(),
            Self::Age(writer) => writer.flush(),
        }
    }
}
