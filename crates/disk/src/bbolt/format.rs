//! The numbers of a bbolt file, and its meta page. `docs/format/snapshot.md` is the table this file follows.

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;

pub(crate) const FLAG_BRANCH: u16 = 0x01;
pub(crate) const FLAG_LEAF: u16 = 0x02;
pub(crate) const FLAG_META: u16 = 0x04;
pub(crate) const FLAG_FREELIST: u16 = 0x10;
/// A leaf element whose value is a bucket header.
pub(crate) const ELEMENT_BUCKET: u32 = 0x01;

pub(crate) const PAGE_HEADER_LEN: usize = 16;
pub(crate) const ELEMENT_LEN: usize = 16;
pub(crate) const BUCKET_HEADER_LEN: usize = 16;
pub(crate) const META_LEN: usize = 64;
/// The freelist is not stored; free pages are those that nothing reaches.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// Page ids 0 and 1 are the two meta pages.
pub(crate) const FIRST_DATA_PAGE: u64 = 2;

/// The head of every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    pub overflow: u32,
}

impl PageHeader {
    pub(crate) fn encode(self) -> [u8; PAGE_HEADER_LEN] {
        let mut out = [0; PAGE_HEADER_LEN];
        out[..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }

    /// `None` when `bytes` is shorter than a header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// What a meta page says about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub page_size: u32,
    pub root: u64,
    pub sequence: u64,
    pub freelist: u64,
    /// All pages are below this id.
    pub high_water: u64,
    pub txid: u64,
}

/// Why a meta page does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetaFault {
    Magic,
    Version,
    Checksum,
}

impl Meta {
    pub(crate) fn encode(self) -> [u8; META_LEN] {
        let mut out = [0; META_LEN];
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        out[16..24].copy_from_slice(&self.root.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        out[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        out[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let sum = fnv1a64(&out[..56]);
        out[56..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MetaFault> {
        let field = |at| u64_at(bytes, at).ok_or(MetaFault::Magic);
        if u32_at(bytes, 0) != Some(MAGIC) {
            return Err(MetaFault::Magic);
        }
        if u32_at(bytes, 4) != Some(VERSION) {
            return Err(MetaFault::Version);
        }
        let meta = Self {
            page_size: u32_at(bytes, 8).ok_or(MetaFault::Magic)?,
            root: field(16)?,
            sequence: field(24)?,
            freelist: field(32)?,
            high_water: field(40)?,
            txid: field(48)?,
        };
        if field(56)? != fnv1a64(&bytes[..56]) {
            return Err(MetaFault::Checksum);
        }
        Ok(meta)
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_the_published_vectors() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn meta_survives_a_round_trip_and_notices_every_flipped_byte() {
        let meta = Meta { page_size: 4096, root: 7, sequence: 1, freelist: NO_FREELIST, high_water: 9, txid: 3 };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        for at in 0..META_LEN {
            let mut bad = bytes;
            bad[at] ^= 0x40;
            assert!(Meta::decode(&bad).is_err(), "byte {at}");
        }
        assert!(Meta::decode(&bytes[..63]).is_err());
    }
}
