//! The words in a header block, for an error message: what a server wrote out in full there, mostly the status and its
//! text. What it only pointed at (its table) is left out, so that no table need be kept.

/// HPACK's Huffman code up to 15 bits, which is all of plain English: the symbols of each length, codes ascending.
const CODE: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// All texts that stand in the block; the raw bytes when it cannot be read.
pub(crate) fn words(block: &[u8]) -> String {
    read(block).map_or_else(|| format!("\"{}\"", block.escape_ascii()), |words| words.join(" "))
}

fn read(mut block: &[u8]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    while let Some(&first) = block.first() {
        let (prefix, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = number(&mut block, prefix)?;
        if literal {
            if index == 0 {
                words.push(string(&mut block)?);
            }
            words.push(string(&mut block)?);
        }
    }
    Some(words)
}

/// A number whose first bits share a byte with something else.
fn number(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(byte(block)?) & mask;
    if value < mask {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let next = usize::from(byte(block)?);
        value += (next & 0x7f) << shift;
        if next < 0x80 {
            return Some(value);
        }
    }
    None
}

fn string(block: &mut &[u8]) -> Option<String> {
    let coded = block.first()? & 0x80 != 0;
    let len = number(block, 7)?;
    let (text, rest) = block.split_at_checked(len)?;
    *block = rest;
    if coded { huffman(text) } else { Some(text.escape_ascii().to_string()) }
}

fn huffman(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    let (mut code, mut len) = (0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        code = code << 1 | u32::from(bit);
        len += 1;
        if let Some(symbol) = symbol(code, len) {
            text.push(char::from(symbol));
            (code, len) = (0, 0);
        }
    }
    // What is left over must be padding: less than a byte of ones.
    (len < 8 && code == (1 << len) - 1).then_some(text)
}

fn symbol(code: u32, len: u32) -> Option<u8> {
    let (mut first, mut at) = (0, 0);
    for (length, symbols) in CODE {
        first <<= length - at;
        at = length;
        if length == len {
            return symbols.get(code.checked_sub(first)? as usize).copied();
        }
        first += symbols.len() as u32;
    }
    None
}

fn byte(block: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = block.split_first()?;
    *block = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_standard_are_read() {
        // RFC 7541, C.4.1 and C.6.1.
        assert_eq!(words(b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"), "www.example.com");
        assert_eq!(words(b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b"), "302 private");
    }

    #[test]
    fn plain_text_and_pointers() {
        assert_eq!(words(b"\x88\x00\x0bgrpc-status\x0214"), "grpc-status 14");
    }

    #[test]
    fn what_cannot_be_read_is_shown_raw() {
        assert_eq!(words(b"\x00\xff"), "\"\\x00\\xff\"");
    }
}
