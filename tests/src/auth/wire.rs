//! One call, in either language, and what came of it. Knows no message but the watch response, in which a refusal is no error.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use eyrie_api::pb;
use regex::Regex;
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Bytes;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const LIMIT: Duration = Duration::from_secs(20);
/// Enough of an answer to see what it is.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Ways to be refused for who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Nobody is known to ask.
    UserEmpty,
    /// The token is not good.
    InvalidToken,
    /// The user may not.
    Denied,
    /// Users have changed since the token was made.
    OldRevision,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Refused for who asked; `None` for every other end, good or bad.
    pub denial: Option<Denial>,
    /// The gRPC code; `None` where the language shows none.
    pub code: Option<i32>,
    /// The words of an error.
    pub text: String,
}

impl Outcome {
    fn new(code: Option<i32>, text: &str) -> Self {
        let denial = [
            ("user name is empty", Denial::UserEmpty),
            ("invalid auth token", Denial::InvalidToken),
            ("permission denied", Denial::Denied),
            ("revision of auth store is old", Denial::OldRevision),
        ];
        let denial = denial.into_iter().find(|(words, _)| text.ends_with(words)).map(|(_, denial)| denial);
        Self { denial, code, text: text.to_owned() }
    }

    fn of_status(status: &Status) -> Self {
        Self::new(Some(status.code() as i32), status.message())
    }

    /// A watch is refused inside of a good answer, with the whole error as text.
    fn of_reason(reason: &str) -> Self {
        let (code, text) = reason
            .strip_prefix("rpc error: code = ")
            .and_then(|rest| rest.split_once(" desc = "))
            .unwrap_or(("", reason));
        let code = match code {
            "PermissionDenied" => Some(Code::PermissionDenied as i32),
            "Unauthenticated" => Some(Code::Unauthenticated as i32),
            "InvalidArgument" => Some(Code::InvalidArgument as i32),
            _ => None,
        };
        Self::new(code, text)
    }
}

/// Calls over gRPC and takes the first answer.
pub async fn grpc(
    channel: &Channel,
    path: &'static str,
    message: Vec<u8>,
    token: Option<&str>,
) -> Result<(Outcome, Bytes)> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.context("the channel")?;
    let mut request = Request::new(tokio_stream::once(message));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse()?);
    }
    let calling = async {
        let mut answers = client.streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner();
        answers.next().await.transpose()
    };
    let answered = tokio::time::timeout(LIMIT, calling).await.with_context(|| format!("{path}: no answer"))?;
    Ok(match answered {
        Err(status) => (Outcome::of_status(&status), Bytes::new()),
        Ok(answer) => {
            let answer = answer.unwrap_or_default();
            let outcome = match path {
                "/etcdserverpb.Watch/Watch" => watched(&answer)?,
                _ => Outcome::new(Some(0), ""),
            };
            (outcome, answer)
        }
    })
}

fn watched(answer: &Bytes) -> Result<Outcome> {
    use prost::Message;
    let response = pb::WatchResponse::decode(answer.clone())?;
    Ok(if response.canceled { Outcome::of_reason(&response.cancel_reason) } else { Outcome::new(Some(0), "") })
}

/// Calls through the JSON gateway.
pub fn json(endpoint: &str, route: &str, body: &str, token: Option<&str>) -> Result<Outcome> {
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let token = token.map_or(String::new(), |token| format!("Authorization: {token}\r\n"));
    let length = body.len();
    write!(
        stream,
        "POST {route} HTTP/1.1\r\nHost: {endpoint}\r\n{token}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    let said = loop {
        let read = stream.read(&mut piece).with_context(|| format!("POST {route}: no answer"))?;
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        // A stream goes on after its first result; that one is enough.
        let result = text.find("{\"result\":").is_some_and(|at| text[at..].contains('\n'));
        if read == 0 || result || answer.len() > ANSWER_BYTES_MAX {
            break text.into_owned();
        }
    };
    let find = |pattern: &str| -> Option<String> {
        let found = Regex::new(pattern).expect("a pattern").captures(&said)?;
        Some(found[1].replace("\\\"", "\""))
    };
    if let Some(reason) = find(r#""cancel_reason":"((?:[^"\\]|\\.)*)""#) {
        return Ok(Outcome::of_reason(&reason));
    }
    let status = said.split(' ').nth(1).unwrap_or_default();
    if status == "200" && !said.contains("{\"error\":{") {
        return Ok(Outcome::new(Some(0), ""));
    }
    let code = find(r#""(?:grpc_)?code":(\d+)"#).and_then(|code| code.parse().ok());
    let text = find(r#""message":"((?:[^"\\]|\\.)*)""#).with_context(|| format!("POST {route}: {said}"))?;
    Ok(Outcome::new(code, &text))
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut;
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use prost::bytes::Buf;
        let len = bytes.remaining();
        Ok(Some(bytes.copy_to_bytes(len)))
    }
}
