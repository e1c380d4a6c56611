//! From what a person types to the one revision that is meant.

use eyrie_archive::resolve::Stop;
use eyrie_archive::{Ask, At, Catalog, Revision, Target, UnixMillis};

use super::RestoreError;
use crate::bucket::Bucket;
use crate::inside;
use crate::seal::Identities;
use crate::tail::segment::Segment;

/// Reads `latest`, a revision, or a time: `2026-11-22T12:04:05Z`, with another offset, or as `backup list` prints it.
///
/// # Errors
/// Words that say what is expected.
pub fn parse_at(text: &str) -> Result<At, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("latest") {
        return Ok(At::Latest);
    }
    let number = text.strip_prefix("revision").map_or(text, str::trim);
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        let revision = number.parse().map_err(|_| format!("`{text}` is larger than any revision"))?;
        return Ok(At::Revision(Revision(revision)));
    }
    let listed = text.strip_suffix(" UTC").map(|time| format!("{}Z", time.replacen(' ', "T", 1)));
    let time = listed.as_deref().unwrap_or(text);
    match chrono::DateTime::parse_from_rfc3339(time) {
        Ok(at) => Ok(At::Time(UnixMillis(at.timestamp_millis()))),
        Err(_) => Err(format!(
            "`{text}` is no moment: it is `latest`, a revision such as 4711, or a time with its offset such as \
             2026-11-22T12:04:05Z or 2026-11-22T13:04:05+01:00"
        )),
    }
}

/// How to get the moment back: a target that ends at a revision, also where a time was asked for.
pub(super) async fn resolve(
    bucket: &Bucket,
    catalog: &Catalog,
    keys: &Identities,
    ask: Ask,
) -> Result<Target, RestoreError> {
    let target = catalog.resolve(ask)?;
    let Stop::Time { at_ms, first, .. } = target.stop else { return Ok(target) };
    let Some(piece) = target.tail.last() else { return Ok(target) };
    let (segment, _) = inside::piece_of_tail(bucket, piece, keys).await?;
    let revision = newest_at(&segment, at_ms, first);
    let timeline = Some(target.timeline);
    Ok(catalog.resolve(Ask { at: At::Revision(revision), timeline, scope: ask.scope })?)
}

/// The newest revision in order of revisions that was there at `at_ms`; at least `first`, which was.
fn newest_at(segment: &Segment, at_ms: UnixMillis, first: Revision) -> Revision {
    let was_there = |heard_at: u64| i64::try_from(heard_at).is_ok_and(|heard_at| heard_at <= at_ms.0);
    let there = segment.revisions.iter().rev().find(|revised| was_there(revised.heard_at.0));
    there.map_or(first, |revised| Revision(revised.revision.0).max(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, Revised, TimeMs};

    #[test]
    fn moments_are_read_as_people_write_them() {
        let time = At::Time(UnixMillis(1_795_349_045_000));
        for text in ["2026-11-22T12:04:05Z", "2026-11-22T13:04:05+01:00", "2026-11-22 12:04:05 UTC"] {
            assert_eq!(parse_at(text), Ok(time), "{text}");
        }
        assert_eq!(parse_at("2026-11-22T12:04:05.250Z"), Ok(At::Time(UnixMillis(1_795_349_045_250))));
        assert_eq!(parse_at("latest"), Ok(At::Latest));
        assert_eq!(parse_at("revision 4711"), Ok(At::Revision(Revision(4711))));
        assert_eq!(parse_at(" 4711 "), Ok(At::Revision(Revision(4711))));
        for text in ["", "yesterday", "2026-11-22", "2026-11-22T12:04:05", "-5", "99999999999999999999"] {
            assert!(parse_at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_newest_revision_counts_also_where_the_clock_went_back() {
        let revised = |(revision, heard_at)| Revised {
            revision: eyrie_state::Revision(revision),
            heard_at: TimeMs(heard_at),
            events: vec![Event::Delete { key: "a".into() }],
        };
        let times = [(10, 100), (11, 200), (12, 150), (13, 300)];
        let segment = Segment { previous: [0; 32], revisions: times.map(revised).into() };
        let at = |ms| newest_at(&segment, UnixMillis(ms), Revision(9)).0;
        assert_eq!([at(50), at(100), at(160), at(299), at(300)], [9, 10, 12, 12, 13]);
    }
}
