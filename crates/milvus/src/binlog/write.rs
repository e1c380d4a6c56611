//! Logs, written: some rows of one that is there, in the same form.
//!
//! What describes the column is taken over byte by byte, so that whoever read the old log reads the new one: only the rows
//! and their numbers differ. Values stand there plain and uncompressed: vectors do not shrink, and no codec is needed.

use super::parquet::{Inflate, Parquet, Physical, Values};
use super::thrift::{self, Writer};
use super::{BadLog, Descriptor, EventKind, HEADER_LEN, Log, MAGIC, MAGIC_LEN, POST_HEADERS_LEN, TIMES_LEN};

/// A page's values, about.
const PAGE_LEN: usize = 1 << 20;
/// Parquet's mark at both ends.
const MARK: &[u8] = b"PAR1";
/// Thrift's kinds that are copied.
const I32: u8 = 5;
const LIST: u8 = 9;

/// A log with the rows of another whose places are wanted, as one piece; none: no row is.
///
/// # Errors
/// The other can't be read whole, or holds what can't be written: nulls.
pub fn only(bytes: &[u8], keep: &dyn Fn(usize) -> bool, inflate: Inflate<'_>) -> Result<Option<Vec<u8>>, BadLog> {
    let log = Log::read(bytes)?;
    let first = log.events.first().ok_or(BadLog("there are no rows"))?;
    let shape = Shape::of(&Parquet::read(first.payload)?)?;
    let values = log.values(inflate)?.only(keep);
    if values.is_empty() {
        return Ok(None);
    }
    let descriptor_len = u32::from_le_bytes([bytes[13], bytes[14], bytes[15], bytes[16]]) as usize;
    let (head, event) = bytes.split_at(MAGIC_LEN + descriptor_len);
    let from = log.events.iter().map(|event| event.from).min().unwrap_or_default();
    let to = log.events.iter().map(|event| event.to).max().unwrap_or_default();
    let mut out = head.to_vec();
    put_event(&mut out, &event[..8], first.kind, from, to, &parquet(&shape, &values)?)?;
    Ok(Some(out))
}

/// A log with these values.
///
/// # Errors
/// The values are not of this kind, or more than a log holds.
pub fn log(at: &Descriptor, kind: EventKind, physical: Physical, values: &Values) -> Result<Vec<u8>, BadLog> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    let len = HEADER_LEN + super::DESCRIPTOR_LEN + POST_HEADERS_LEN + 4;
    put_header(&mut out, &[0; 8], 0, len)?;
    for id in [at.collection, at.partition, at.segment, at.field] {
        out.extend(id.to_le_bytes());
    }
    out.extend(at.from.to_le_bytes());
    out.extend(at.to.to_le_bytes());
    out.extend(at.data_type.to_le_bytes());
    out.extend([16; POST_HEADERS_LEN]);
    // No extras.
    out.extend(0u32.to_le_bytes());
    put_event(&mut out, &[0; 8], kind, at.from, at.to, &parquet(&Shape::plain(physical), values)?)?;
    Ok(out)
}

/// How a column is described.
struct Shape {
    physical: Physical,
    optional: bool,
    name: Vec<u8>,
    /// Fields of the description that say nothing of rows: number, kind, value.
    fields: Vec<(i16, u8, Vec<u8>)>,
}

impl Shape {
    fn of(parquet: &Parquet<'_>) -> Result<Shape, BadLog> {
        let physical = parquet.physical.ok_or(BadLog("the column is of a kind that is not read here"))?;
        let (description, _) = thrift::read(parquet.description)?;
        let name = description.list(2).get(1).and_then(|leaf| leaf.bytes(4)).unwrap_or_default().to_vec();
        let fields = thrift::fields(parquet.description)?.into_iter();
        // 3 and 4 are the rows; 1, 2, 5, 6, 7: version, schema, notes, author, order.
        let fields = fields.filter(|(id, ..)| matches!(id, 1 | 2 | 5 | 6 | 7));
        Ok(Shape {
            physical,
            optional: parquet.optional,
            name,
            fields: fields.map(|(id, kind, value)| (id, kind, value.to_vec())).collect(),
        })
    }

    fn plain(physical: Physical) -> Shape {
        let mut version = Writer::default();
        version.i32(1, 1);
        let mut schema = Writer::default();
        schema.structs(1, 2);
        schema.enter();
        schema.text(4, b"schema");
        schema.i32(5, 1);
        schema.end();
        schema.enter();
        schema.i32(1, physical.number());
        if let Physical::Fixed(width) = physical {
            schema.i32(2, width as i64);
        }
        schema.i32(3, 0);
        schema.text(4, b"val");
        schema.end();
        // Without the byte that says which field it is.
        let fields = vec![(1, I32, version.bytes[1..].to_vec()), (2, LIST, schema.bytes[1..].to_vec())];
        Shape { physical, optional: false, name: b"val".to_vec(), fields }
    }
}

fn parquet(shape: &Shape, values: &Values) -> Result<Vec<u8>, BadLog> {
    let too_long = BadLog("there is more than a log can hold");
    let mut out = MARK.to_vec();
    let mut start = 0;
    while start < values.len() {
        let (body, count) = page(shape, values, start)?;
        let len = i32::try_from(body.len()).map_err(|_| too_long.clone())?;
        let mut head = Writer::default();
        head.i32(1, 0);
        head.i32(2, i64::from(len));
        head.i32(3, i64::from(len));
        head.begin(5);
        head.i32(1, count as i64);
        head.i32(2, 0);
        head.i32(3, 3);
        head.i32(4, 3);
        head.end();
        head.end();
        out.extend(head.bytes);
        out.extend(body);
        start += count;
    }
    let (rows, len) = (values.len() as i64, (out.len() - MARK.len()) as i64);
    let mut groups = Writer::default();
    groups.structs(4, 1);
    groups.enter();
    groups.structs(1, 1);
    groups.enter();
    groups.i64(2, MARK.len() as i64);
    groups.begin(3);
    groups.i32(1, shape.physical.number());
    groups.one_i32(2, 0);
    groups.one_text(3, &shape.name);
    groups.i32(4, 0);
    groups.i64(5, rows);
    groups.i64(6, len);
    groups.i64(7, len);
    groups.i64(9, MARK.len() as i64);
    groups.end();
    groups.end();
    groups.i64(2, len);
    groups.i64(3, rows);
    groups.end();
    let mut count = Writer::default();
    count.i64(3, rows);
    let mut fields = shape.fields.clone();
    fields.push((3, 6, count.bytes[1..].to_vec()));
    fields.push((4, LIST, groups.bytes[1..].to_vec()));
    fields.sort_by_key(|(id, ..)| *id);
    let mut description = Writer::default();
    for (id, kind, value) in &fields {
        description.raw(*id, *kind, value);
    }
    description.end();
    let len = u32::try_from(description.bytes.len()).map_err(|_| too_long)?;
    out.extend(description.bytes);
    out.extend(len.to_le_bytes());
    out.extend(MARK);
    Ok(out)
}

/// One page, from this value on, and how many values it has.
fn page(shape: &Shape, values: &Values, start: usize) -> Result<(Vec<u8>, usize), BadLog> {
    let other = BadLog("the values are of another kind than the column");
    let mut body = Vec::new();
    let count = match (shape.physical, values) {
        (Physical::Bool, Values::Fixed(1, bytes)) => {
            let bytes = &bytes[start..];
            let bits = bytes.chunks(8).map(|bits| bits.iter().rev().fold(0u8, |byte, bit| byte << 1 | (bit & 1)));
            body.extend(bits);
            bytes.len()
        }
        (Physical::Int64, Values::Numbers(numbers)) => {
            let numbers = &numbers[start..numbers.len().min(start + PAGE_LEN / 8)];
            numbers.iter().for_each(|number| body.extend(number.to_le_bytes()));
            numbers.len()
        }
        (Physical::Text, Values::Texts(texts)) => {
            let mut count = 0;
            for text in &texts[start..] {
                let len = u32::try_from(text.len()).map_err(|_| BadLog("a text is too long"))?;
                body.extend(len.to_le_bytes());
                body.extend(text);
                count += 1;
                if body.len() >= PAGE_LEN {
                    break;
                }
            }
            count
        }
        (physical, Values::Fixed(width, bytes)) => {
            let right = match physical {
                Physical::Int32 | Physical::Float => 4,
                Physical::Double => 8,
                Physical::Fixed(width) => width,
                Physical::Bool | Physical::Int64 | Physical::Text => return Err(other),
            };
            if right != *width {
                return Err(other);
            }
            let count = (PAGE_LEN / width).max(1).min(values.len() - start);
            body.extend(&bytes[start * width..(start + count) * width]);
            count
        }
        _ => return Err(other),
    };
    if shape.optional {
        // One run: every value is there.
        let mut run = Vec::new();
        let mut head = (count as u64) << 1;
        while head >= 0x80 {
            run.push(head as u8 | 0x80);
            head >>= 7;
        }
        run.extend([head as u8, 1]);
        let len = (run.len() as u32).to_le_bytes();
        body = [&len[..], &run, &body].concat();
    }
    Ok((body, count))
}

fn put_header(out: &mut Vec<u8>, time: &[u8], kind: i8, len: usize) -> Result<(), BadLog> {
    let too_long = |_| BadLog("there is more than a log can hold");
    let next = i32::try_from(out.len() + len).map_err(too_long)?;
    out.extend(time);
    out.push(kind as u8);
    out.extend(i32::try_from(len).map_err(too_long)?.to_le_bytes());
    out.extend(next.to_le_bytes());
    Ok(())
}

fn put_event(
    out: &mut Vec<u8>,
    time: &[u8],
    kind: EventKind,
    from: u64,
    to: u64,
    payload: &[u8],
) -> Result<(), BadLog> {
    let kind = match kind {
        EventKind::Insert => 1,
        EventKind::Delete => 2,
        EventKind::Other(other) => other,
    };
    put_header(out, time, kind, HEADER_LEN + TIMES_LEN + payload.len())?;
    out.extend(from.to_le_bytes());
    out.extend(to.to_le_bytes());
    out.extend(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_with_room_for_nulls_keeps_it() {
        let mut shape = Shape::plain(Physical::Text);
        shape.optional = true;
        let values = Values::Texts(vec![b"a".to_vec(); 300]);
        // The description says that it is required; what is optional is read with its bits.
        let bytes = parquet(&shape, &values).unwrap();
        let mut read = Parquet::read(&bytes).unwrap();
        assert!(read.values(&|_, _, _| None).is_err() || read.values(&|_, _, _| None).unwrap() != values);
        read.optional = true;
        assert_eq!(read.values(&|_, _, _| None).unwrap(), values);
    }
}
