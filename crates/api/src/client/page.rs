//! One page of a member, such as `/metrics`: HTTP over a connection of its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::stream;
use super::{Address, Tls};

/// A page has some hundred kilobytes at most.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// What a member answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The `Date` header, as it came.
    pub date: Option<String>,
    /// The body.
    pub body: String,
    /// The certificate that the member showed, where the connection was encrypted.
    pub certificate: Option<Vec<u8>>,
}

/// Gets a page from a member.
///
/// # Errors
/// The member cannot be reached, is not trusted, or does not answer in time.
pub async fn page(address: &Address, tls: &Tls, path: &str, limit: Duration) -> Result<Page, String> {
    let secure = address.is_secure() || (tls.wanted && !address.is_plain());
    let getting = async {
        let (mut stream, certificate) = stream(address, secure.then(|| tls.for_pages())).await?;
        // 1.0 means: one answer, in one piece, and then the end.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: text/plain\r\n\r\n", address.dialled());
        let broken = |error: std::io::Error| format!("the connection broke: {error}");
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        match stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await {
            // Not everybody says goodbye before closing an encrypted connection.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(broken(error)),
            _ => {}
        }
        let page = read(&answer).ok_or("that was no answer in HTTP")?;
        Ok(Page { certificate, ..page })
    };
    tokio::time::timeout(limit, getting).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

fn read(answer: &[u8]) -> Option<Page> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let date = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("date"));
    let date = date.map(|(_, value)| value.trim().to_owned());
    Some(Page { status, date, body: body.to_owned(), certificate: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let page =
            read(b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 12:00:00 GMT\r\nA: b\r\n\r\nbody\r\n\r\nmore").unwrap();
        assert_eq!((page.status, page.date.as_deref()), (200, Some("Sun, 22 Nov 2026 12:00:00 GMT")));
        assert_eq!(page.body, "body\r\n\r\nmore");
        assert_eq!(read(b"\x15\x03\x01\x00\x02\x02\x16"), None, "an alert of TLS");
    }
}
