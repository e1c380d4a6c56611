//! A client's half of one HTTP/2 connection that speaks one gRPC method, made to cost almost nothing.
//!
//! Client and server share the machine's cores, so what the load generator spends is taken from the server. Hence:
//! one method per connection, its header block written once in full (which fills the server's HPACK table, as real
//! clients do) and afterwards as seven index bytes; no header is ever decoded; a message is handed out as a slice of
//! the read buffer. No sockets here: bytes in, bytes out.
//!
//! ```text
//! start(tag, message) ─→ HEADERS, DATA ─→ out()      input() ─→ accept() ─→ Happening::{Message, Done, Failed}
//! ```
//!
//! It must never know what a message means, nor what time it is.

use std::collections::VecDeque;

use anyhow::{Result, bail};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a receiver may send on a connection before the first window update.
const WINDOW_DEFAULT: i64 = 65_535;
/// What we let the server send, per connection and per stream, before we say more.
const RECEIVE_WINDOW: u32 = 16 << 20;
/// Largest frame we take: the protocol's default, which every server keeps to.
const FRAME_BYTES_MAX: usize = 16_384;
/// Length of a frame's head.
const HEAD: usize = 9;
/// Length of a gRPC message's head: a flag and four bytes of length.
const GRPC_HEAD: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const SETTING_HEADER_TABLE_SIZE: u16 = 1;
const SETTING_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTING_INITIAL_WINDOW_SIZE: u16 = 4;

/// What came out of the server's bytes. `tag` is what the caller gave to [`Connection::start`].
pub(crate) enum Happening<'a> {
    /// One message of a call: its protobuf bytes.
    Message(&'a [u8]),
    /// The call ended well: at least one message, then trailers. (An error of gRPC has no message in a unary call.)
    Done {
        /// Whose.
        tag: u64,
    },
    /// A call ended badly: what the server sent instead of an answer.
    Failed(String),
}

/// One call that is under way, or that ended while an earlier one still runs.
struct Call {
    tag: u64,
    ended: bool,
    answered: bool,
    /// The half of a message that has come so far.
    partial: Vec<u8>,
    /// Bytes received for which the server has not got its window back.
    owed: u32,
    /// What we may still send.
    window: i64,
}

/// The client's half of a connection.
pub(crate) struct Connection {
    out: Vec<u8>,
    input: Vec<u8>,
    /// The full header block, until it has been sent once.
    first_headers: Option<Vec<u8>>,
    settled: bool,
    next_stream: u32,
    /// Calls by age: stream `oldest_stream + 2 * i` is `calls[i]`.
    calls: VecDeque<Call>,
    oldest_stream: u32,
    in_flight: u32,
    streams_max: u32,
    window: i64,
    stream_window: i64,
    owed: u32,
    going_away: bool,
}

impl Connection {
    /// A connection for one method (`/etcdserverpb.KV/Put`); its first bytes wait in [`Connection::out`].
    pub(crate) fn new(path: &str, authority: &str) -> Self {
        let mut out = PREFACE.to_vec();
        let mut settings = Vec::new();
        settings.extend_from_slice(&[0, 2, 0, 0, 0, 0]); // no pushes
        settings.extend_from_slice(&SETTING_INITIAL_WINDOW_SIZE.to_be_bytes());
        settings.extend_from_slice(&RECEIVE_WINDOW.to_be_bytes());
        frame(&mut out, SETTINGS, 0, 0, &settings);
        let more = RECEIVE_WINDOW - WINDOW_DEFAULT as u32;
        frame(&mut out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Self {
            out,
            input: Vec::new(),
            first_headers: Some(first_headers(path, authority)),
            settled: false,
            next_stream: 1,
            calls: VecDeque::new(),
            oldest_stream: 1,
            in_flight: 0,
            streams_max: u32::MAX,
            window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            owed: 0,
            going_away: false,
        }
    }

    /// The server has sent its settings: calls may start.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// How many calls are under way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether a call with a message of this length may start now.
    pub(crate) fn may_start(&self, message_len: usize) -> bool {
        let len = (message_len + GRPC_HEAD) as i64;
        self.settled
            && !self.going_away
            && self.in_flight < self.streams_max
            && len <= self.window
            && len <= self.stream_window
    }

    /// Starts a call; with `last`, the request ends with this message. Returns the stream, for [`Connection::send`].
    ///
    /// # Panics
    /// Unless [`Connection::may_start`].
    pub(crate) fn start(&mut self, tag: u64, message: &[u8], last: bool) -> u32 {
        assert!(self.may_start(message.len()), "a call started without room");
        let stream = self.next_stream;
        self.next_stream += 2;
        match self.first_headers.take() {
            Some(block) => frame(&mut self.out, HEADERS, END_HEADERS, stream, &block),
            None => frame(&mut self.out, HEADERS, END_HEADERS, stream, LATER_HEADERS),
        }
        self.calls.push_back(Call {
            tag,
            ended: false,
            answered: false,
            partial: Vec::new(),
            owed: 0,
            window: self.stream_window,
        });
        self.in_flight += 1;
        self.send(stream, message, last);
        stream
    }

    /// Sends one more message on a call.
    ///
    /// # Panics
    /// When the call has ended or the windows have no room: callers send little on long calls.
    pub(crate) fn send(&mut self, stream: u32, message: &[u8], last: bool) {
        let len = message.len() + GRPC_HEAD;
        assert!(len <= FRAME_BYTES_MAX, "a request of {len} bytes does not fit one frame");
        let call = &mut self.calls[((stream - self.oldest_stream) / 2) as usize];
        call.window -= len as i64;
        self.window -= len as i64;
        assert!(call.window >= 0 && self.window >= 0, "sent more than the server's window allows");
        head(&mut self.out, len, DATA, if last { END_STREAM } else { 0 }, stream);
        self.out.push(0);
        self.out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.out.extend_from_slice(message);
    }

    /// What waits to be written to the socket; the caller drains what it wrote.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes bytes read from the socket and tells what happened.
    ///
    /// # Errors
    /// When the server breaks the protocol or closes the connection with an error.
    pub(crate) fn accept(&mut self, bytes: &[u8], on: &mut impl FnMut(Happening<'_>)) -> Result<()> {
        if self.input.is_empty() {
            let used = self.frames(bytes, on)?;
            self.input.extend_from_slice(&bytes[used..]);
        } else {
            self.input.extend_from_slice(bytes);
            let input = std::mem::take(&mut self.input);
            let used = self.frames(&input, on)?;
            self.input = input;
            self.input.drain(..used);
        }
        Ok(())
    }

    /// Handles all whole frames; returns how many bytes they were.
    fn frames(&mut self, bytes: &[u8], on: &mut impl FnMut(Happening<'_>)) -> Result<usize> {
        let mut used = 0;
        while bytes.len() - used >= HEAD {
            let rest = &bytes[used..];
            let len = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
            if len > FRAME_BYTES_MAX {
                bail!("the server sent a frame of {len} bytes, more than the {FRAME_BYTES_MAX} we allow");
            }
            if rest.len() < HEAD + len {
                break;
            }
            let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]) & 0x7fff_ffff;
            self.frame(rest[3], rest[4], stream, &rest[HEAD..HEAD + len], on)?;
            used += HEAD + len;
        }
        Ok(used)
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        on: &mut impl FnMut(Happening<'_>),
    ) -> Result<()> {
        match kind {
            DATA => self.on_data(flags, stream, payload, on)?,
            HEADERS if flags & END_STREAM != 0 => self.on_trailers(stream, payload, on),
            RST_STREAM => self.end(stream, Some(format!("stream reset, code {}", number(payload)?)), on),
            SETTINGS if flags & ACK == 0 => self.on_settings(payload)?,
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            GOAWAY => {
                self.going_away = true;
                let code = number(payload.get(4..).unwrap_or_default())?;
                if code != 0 {
                    let words = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                    bail!("the server closed the connection (GOAWAY), code {code}: {words}");
                }
            }
            WINDOW_UPDATE => {
                let more = i64::from(number(payload)? & 0x7fff_ffff);
                if stream == 0 {
                    self.window += more;
                } else if let Some(call) = self.call(stream) {
                    call.window += more;
                }
            }
            PUSH_PROMISE => bail!("the server pushed, which we forbade"),
            // Headers that begin an answer, continuations, acknowledgements, priorities, unknown kinds.
            _ => {}
        }
        Ok(())
    }

    fn call(&mut self, stream: u32) -> Option<&mut Call> {
        let place = stream.checked_sub(self.oldest_stream)? / 2;
        self.calls.get_mut(place as usize).filter(|call| !call.ended)
    }

    fn on_data(&mut self, flags: u8, stream: u32, payload: &[u8], on: &mut impl FnMut(Happening<'_>)) -> Result<()> {
        let len = payload.len() as u32;
        self.owed += len;
        if self.owed > RECEIVE_WINDOW / 2 {
            frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.owed.to_be_bytes());
            self.owed = 0;
        }
        let body = match flags & PADDED {
            0 => payload,
            _ => match payload.split_first() {
                Some((&pad, rest)) if usize::from(pad) <= rest.len() => &rest[..rest.len() - usize::from(pad)],
                _ => bail!("the server sent a frame whose padding is longer than the frame"),
            },
        };
        let Some(call) = self.call(stream) else { return Ok(()) };
        call.owed += len;
        let give_back = if call.owed > RECEIVE_WINDOW / 2 { std::mem::take(&mut call.owed) } else { 0 };
        call.messages(body, on);
        if give_back > 0 {
            frame(&mut self.out, WINDOW_UPDATE, 0, stream, &give_back.to_be_bytes());
        }
        if flags & END_STREAM != 0 {
            self.end(stream, Some("the answer ended without trailers".to_string()), on);
        }
        Ok(())
    }

    fn on_trailers(&mut self, stream: u32, block: &[u8], on: &mut impl FnMut(Happening<'_>)) {
        let why = match self.call(stream) {
            Some(call) if call.answered => None,
            _ => Some(format!("an error instead of an answer: {}", super::words::words(block))),
        };
        self.end(stream, why, on);
    }

    fn end(&mut self, stream: u32, why: Option<String>, on: &mut impl FnMut(Happening<'_>)) {
        let Some(call) = self.call(stream) else { return };
        call.ended = true;
        let tag = call.tag;
        self.in_flight -= 1;
        while self.calls.front().is_some_and(|call| call.ended) {
            self.calls.pop_front();
            self.oldest_stream += 2;
        }
        on(match why {
            None => Happening::Done { tag },
            Some(why) => Happening::Failed(why),
        });
    }

    fn on_settings(&mut self, payload: &[u8]) -> Result<()> {
        for setting in payload.chunks_exact(6) {
            let value = number(&setting[2..])?;
            match u16::from_be_bytes([setting[0], setting[1]]) {
                SETTING_HEADER_TABLE_SIZE if value < 4096 => {
                    bail!("the server keeps a header table of {value} bytes; this client needs the default 4096")
                }
                SETTING_MAX_CONCURRENT_STREAMS => self.streams_max = value,
                SETTING_INITIAL_WINDOW_SIZE => {
                    let grown = i64::from(value) - self.stream_window;
                    self.stream_window += grown;
                    self.calls.iter_mut().for_each(|call| call.window += grown);
                }
                _ => {}
            }
        }
        self.settled = true;
        frame(&mut self.out, SETTINGS, ACK, 0, &[]);
        Ok(())
    }
}

impl Call {
    /// Cuts the stream of bytes into messages.
    fn messages(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Happening<'_>)) {
        loop {
            if self.partial.is_empty() {
                let Some(len) = whole(bytes) else { break };
                on(Happening::Message(&bytes[GRPC_HEAD..len]));
                self.answered = true;
                bytes = &bytes[len..];
            } else {
                self.partial.extend_from_slice(bytes);
                bytes = &[];
                let Some(len) = whole(&self.partial) else { return };
                on(Happening::Message(&self.partial[GRPC_HEAD..len]));
                self.answered = true;
                self.partial.drain(..len);
            }
            if bytes.is_empty() && self.partial.is_empty() {
                return;
            }
        }
        self.partial.extend_from_slice(bytes);
    }
}

/// The length of the first message with its head, when all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..GRPC_HEAD)?;
    let len = GRPC_HEAD + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    (bytes.len() >= len).then_some(len)
}

/// The header block of a connection's first call: it puts five fields into the server's table.
fn first_headers(path: &str, authority: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
    block.push(0x44); // :path, from now on at 66
    text(&mut block, path);
    block.push(0x41); // :authority, 65
    text(&mut block, authority);
    block.push(0x5f); // content-type, 64
    text(&mut block, "application/grpc");
    block.push(0x40); // te, 63
    text(&mut block, "te");
    text(&mut block, "trailers");
    block.push(0x7a); // user-agent, 62
    text(&mut block, "eyrie-bench");
    block
}

/// The same fields by their places in the table.
const LATER_HEADERS: &[u8] = &[0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];

/// A header text, without Huffman coding.
fn text(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "a header text that needs a longer length");
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    head(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

fn head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    let stream = stream.to_be_bytes();
    out.extend_from_slice(&[
        (len >> 16) as u8,
        (len >> 8) as u8,
        len as u8,
        kind,
        flags,
        stream[0],
        stream[1],
        stream[2],
        stream[3],
    ]);
}

fn number(bytes: &[u8]) -> Result<u32> {
    match bytes {
        [a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => bail!("the server sent a frame that is too short"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/etcdserverpb.KV/Put";

    fn connected() -> Connection {
        let mut connection = Connection::new(PATH, "localhost");
        let mut settings = Vec::new();
        frame(&mut settings, SETTINGS, 0, 0, &[]);
        connection.accept(&settings, &mut |_| panic!("nothing happens")).unwrap();
        connection.out().clear();
        connection
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Feeds the bytes in pieces of every size; each way of cutting must tell the same story.
    fn story(calls: u64, bytes: &[u8]) -> Vec<String> {
        let mut first: Option<Vec<String>> = None;
        for size in 1..=bytes.len() {
            let mut connection = connected();
            for tag in 0..calls {
                connection.start(tag, b"x", true);
            }
            let mut lines = Vec::new();
            for piece in bytes.chunks(size) {
                connection
                    .accept(piece, &mut |happening| {
                        lines.push(match happening {
                            Happening::Message(body) => format!("message {}", body.escape_ascii()),
                            Happening::Done { tag } => format!("done {tag}"),
                            Happening::Failed(why) => format!("failed {why}"),
                        });
                    })
                    .unwrap();
            }
            match &first {
                Some(first) => assert_eq!(*first, lines, "cut into pieces of {size}"),
                None => first = Some(lines),
            }
        }
        first.unwrap_or_default()
    }

    #[test]
    fn answers_out_of_order_and_cut_anywhere() {
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS, 3, &[0x88]);
        frame(&mut bytes, DATA, 0, 3, &message(b"two"));
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 3, b"t");
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x88]);
        let split = message(b"one");
        frame(&mut bytes, DATA, 0, 1, &split[..6]);
        frame(&mut bytes, DATA, 0, 1, &split[6..]);
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, b"t");
        assert_eq!(story(2, &bytes), ["message two", "done 1", "message one", "done 0"]);
    }

    #[test]
    fn several_messages_in_one_frame() {
        let mut both = message(b"a");
        both.extend_from_slice(&message(b"bc"));
        let mut bytes = Vec::new();
        frame(&mut bytes, DATA, 0, 1, &both);
        assert_eq!(story(1, &bytes), ["message a", "message bc"]);
    }

    #[test]
    fn trailers_without_an_answer_are_a_failure_with_their_bytes() {
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, b"grpc-status 14");
        let story = story(1, &bytes);
        assert_eq!(story.len(), 1);
        assert!(story[0].starts_with("failed") && story[0].contains("grpc-status 14"), "{}", story[0]);
    }

    #[test]
    fn the_connection_window_stops_new_calls_until_it_is_refilled() {
        let mut connection = connected();
        let big = vec![7; 16_000];
        let mut started = 0;
        while connection.may_start(big.len()) {
            connection.start(started, &big, true);
            started += 1;
        }
        assert_eq!(started, 4, "65,535 bytes hold four messages of 16,005");
        let mut update = Vec::new();
        frame(&mut update, WINDOW_UPDATE, 0, 0, &20_000_u32.to_be_bytes());
        connection.accept(&update, &mut |_| {}).unwrap();
        assert!(connection.may_start(big.len()));
    }

    #[test]
    fn later_calls_send_seven_header_bytes() {
        let mut connection = connected();
        connection.start(0, b"", true);
        connection.out().clear();
        connection.start(1, b"", true);
        assert_eq!(connection.out().len(), HEAD + LATER_HEADERS.len() + HEAD + GRPC_HEAD);
    }

    #[test]
    fn a_ping_is_echoed() {
        let mut connection = connected();
        let mut ping = Vec::new();
        frame(&mut ping, PING, 0, 0, b"12345678");
        connection.accept(&ping, &mut |_| {}).unwrap();
        assert_eq!(&connection.out()[..], [0, 0, 8, PING, ACK, 0, 0, 0, 0, 49, 50, 51, 52, 53, 54, 55, 56]);
    }
}
