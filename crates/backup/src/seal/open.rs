//! Out of the envelope, which may be anybody's work: every length is bounded, and nothing is believed before it is checked.

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use age::{DecryptError, Decryptor};
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use zstd::stream::raw::DParameter;

use super::{Identities, SealError, Wrap};
use crate::limits::{SEAL_BLOCK_BYTES, SEAL_BLOCKS_AHEAD, SEAL_HEADER_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};

/// Opens an envelope; the answer is its plain bytes, at most `limit` of them.
///
/// With a wrong or missing key this fails before any byte comes out. A stream that ends with an error was damaged, cut off
/// or too long: nothing of it may be used.
///
/// # Errors
/// [`SealError`], and the stream's own.
pub async fn open<S, E>(
    stored: S,
    wrap: Wrap,
    keys: &Identities,
    limit: u64,
) -> Result<BoxStream<'static, Result<Bytes, E>>, E>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: From<SealError> + Send + 'static,
{
    if wrap.age && keys.is_empty() {
        return Err(SealError::NoKey.into());
    }
    let (feed, fed) = mpsc::channel(SEAL_BLOCKS_AHEAD);
    let (give, given) = mpsc::channel(SEAL_BLOCKS_AHEAD);
    let (say, said) = oneshot::channel();
    tokio::spawn(async move {
        let mut stored = stored.boxed();
        while let Some(piece) = stored.next().await {
            let failed = piece.is_err();
            if feed.send(piece).await.is_err() || failed {
                return;
            }
        }
    });
    let keys = keys.clone();
    tokio::task::spawn_blocking(move || unwrap(fed, wrap, &keys, limit, say, &give));
    match said.await {
        Ok(Ok(())) => Ok(ReceiverStream::new(given).boxed()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(SealError::Failed("the thread that opens it ended".into()).into()),
    }
}

/// The whole way in one thread: says first whether the key fits, then gives the blocks.
fn unwrap<E: From<SealError> + Send + 'static>(
    fed: mpsc::Receiver<Result<Bytes, E>>,
    wrap: Wrap,
    keys: &Identities,
    limit: u64,
    say: oneshot::Sender<Result<(), E>>,
    give: &mpsc::Sender<Result<Bytes, E>>,
) {
    let failed = Arc::new(Mutex::new(None));
    let header_left = Arc::new(AtomicU64::new(SEAL_HEADER_BYTES_MAX));
    let fed = Fed { fed, piece: Bytes::new(), failed: failed.clone(), header_left: header_left.clone() };
    // The stream's own failure explains more than what became of it in here.
    let cause = |error: SealError| {
        failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| E::from(error))
    };
    let plain = match layers(fed, wrap, keys, &header_left) {
        Ok(plain) => plain,
        Err(error) => {
            let _ = say.send(Err(cause(error)));
            return;
        }
    };
    if say.send(Ok(())).is_err() {
        return;
    }
    if let Err(error) = pour(plain, limit, give) {
        let _ = give.blocking_send(Err(cause(error)));
    }
}

/// The plain bytes as a reader. The key is checked here.
fn layers<E: Send + 'static>(
    fed: Fed<E>,
    wrap: Wrap,
    keys: &Identities,
    header_left: &AtomicU64,
) -> Result<Box<dyn Read>, SealError> {
    let outer: Box<dyn Read> = match wrap.age {
        true => {
            let opened = Decryptor::new_buffered(BufReader::new(fed)).and_then(|sealed| sealed.decrypt(keys.each()));
            Box::new(opened.map_err(|error| of_age(&error, keys.len()))?)
        }
        false => Box::new(fed),
    };
    header_left.store(u64::MAX, Ordering::Relaxed);
    if !wrap.zstd {
        return Ok(outer);
    }
    let mut decoder = zstd::stream::read::Decoder::new(outer).map_err(|error| SealError::Failed(error.to_string()))?;
    let bounded = decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX));
    bounded.map_err(|error| SealError::Failed(error.to_string()))?;
    Ok(Box::new(decoder))
}

/// Gives all blocks; ends early, without an error, when nobody takes them any more.
fn pour<E>(mut plain: impl Read, limit: u64, give: &mpsc::Sender<Result<Bytes, E>>) -> Result<(), SealError> {
    let mut total = 0;
    loop {
        let mut block = BytesMut::zeroed(SEAL_BLOCK_BYTES);
        let mut filled = 0;
        let mut ended = false;
        while filled < block.len() && !ended {
            match plain.read(&mut block[filled..]) {
                Ok(0) => ended = true,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SealError::Damaged(error.to_string())),
            }
        }
        block.truncate(filled);
        total += filled as u64;
        if total > limit {
            return Err(SealError::TooLong { limit });
        }
        if filled > 0 && give.blocking_send(Ok(block.freeze())).is_err() {
            return Ok(());
        }
        if ended {
            return Ok(());
        }
    }
}

fn of_age(error: &DecryptError, given: usize) -> SealError {
    match error {
        DecryptError::NoMatchingKeys => SealError::WrongKey { given },
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            SealError::Damaged("it ends within its header".into())
        }
        error => SealError::Damaged(error.to_string()),
    }
}

/// The stored stream as a reader.
struct Fed<E> {
    fed: mpsc::Receiver<Result<Bytes, E>>,
    piece: Bytes,
    failed: Arc<Mutex<Option<E>>>,
    /// Bytes that may come before the header is read: a header without an end must not fill the memory.
    header_left: Arc<AtomicU64>,
}

impl<E> Read for Fed<E> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.fed.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Err(io::Error::other("the stored bytes can't be read"));
                }
            }
        }
        let left = self.header_left.load(Ordering::Relaxed);
        let len = into.len().min(self.piece.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return Err(io::Error::other("its header is too long"));
        }
        if left != u64::MAX {
            self.header_left.store(left - len as u64, Ordering::Relaxed);
        }
        self.piece.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}
