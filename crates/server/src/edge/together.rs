//! Small answers leave together.
//!
//! The HTTP/2 library copies small answers into one buffer and writes that once; a larger one it writes by itself, head and
//! body in one gathering write, before it takes the next. What counts as small it decides when a connection begins: 256 bytes
//! where the socket can gather, 1,024 where it can't. A key with a value of 256 bytes is larger than the first: each answer
//! would cost a system call here and wake its client once. So this socket says that it can't gather until it has been written
//! to, and can from then on: answers up to 1,024 bytes are copied, which costs less than a system call, and larger ones still
//! leave in one piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// See the module.
pub(super) struct Together<I> {
    io: I,
    written: bool,
}

impl<I> Together<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, written: false }
    }
}

impl<I: Read + Unpin> Read for Together<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for Together<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.written && self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A socket that counts how often it is written to.
    struct Counted<I>(I, Arc<AtomicUsize>);

    impl<I: Read + Unpin> Read for Counted<I> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl<I: Write + Unpin> Write for Counted<I> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// Forty requests at once, each answered with so many bytes; returns how many writes carried what was answered.
    async fn writes_for(answer: usize) -> usize {
        const REQUESTS: u8 = 40;
        let (client, server) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let io = Together::new(Counted(TokioIo::new(server), writes.clone()));
        let service = service_fn(move |_: Request<hyper::body::Incoming>| async move {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![7; answer]))))
        });
        let serving = tokio::spawn(async move {
            let _ =
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        });
        let mut client = client;
        // SETTINGS with a window that holds all answers, and as many for the connection.
        let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        said.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
        client.write_all(&said).await.unwrap();
        while writes.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let before = writes.load(Ordering::Relaxed);
        let mut said = Vec::new();
        for request in 0..REQUESTS {
            // HEADERS that end stream and head: GET, http, path /, authority a.
            said.extend([0, 0, 6, 1, 5, 0, 0, 0, request * 2 + 1, 0x82, 0x86, 0x84, 0x41, 1, b'a']);
        }
        client.write_all(&said).await.unwrap();
        let (mut heard, mut buffer) = (0, vec![0; 1 << 16]);
        while heard < answer * usize::from(REQUESTS) {
            heard += client.read(&mut buffer).await.unwrap();
        }
        serving.abort();
        writes.load(Ordering::Relaxed) - before
    }

    #[tokio::test]
    async fn answers_of_a_few_hundred_bytes_share_a_write_and_large_ones_have_one_each() {
        let small = writes_for(330).await;
        assert!(small <= 5, "{small} writes for 40 answers of 330 bytes");
        let large = writes_for(4_000).await;
        assert!((40..=45).contains(&large), "{large} writes for 40 answers of 4,000 bytes");
    }
}
