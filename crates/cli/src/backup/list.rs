//! `list`: what can be recovered, and what can't and why.

use eyrie_archive::{Catalog, Lack, Point, Reading, Stretch};
use eyrie_backup::bucket::Bucket;
use eyrie_backup::catalog;
use eyrie_backup::logical::Failure;
use eyrie_backup::logical::regular::LogicalSection;
use eyrie_backup::logical::store::{Listed, Store};
use serde_json::json;

use super::settings::Settings;
use super::watch::{clock_text, size_text};
use super::{DONE, FAILED, Output, failed, refused};
use crate::milvus_backup::list;
use crate::screen::out;

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    settings: Settings,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl List {
    pub(super) async fn run(self) -> i32 {
        let (config, bucket) = match self.settings.archive() {
            Ok(opened) => opened,
            Err(why) => return refused(&why),
        };
        let reading = match catalog::read(&bucket, None).await {
            Ok(reading) => reading,
            Err(error) => return failed(&error),
        };
        // The other engine's: they lie in a place of their own, and are named here so that one command shows all there is.
        let logical = match &config.logical {
            None => None,
            Some(section) => Some(logical(section).await.map_err(|failure| failure.to_string())),
        };
        match self.output {
            Output::Json => {
                let mut all = machine(&reading);
                match &logical {
                    None => {}
                    Some(Ok((place, listed))) => {
                        let listed: Vec<_> = listed.iter().map(list::machine).collect();
                        all["logical"] = json!({ "place": place, "backups": listed });
                    }
                    Some(Err(why)) => all["logical"] = json!({ "error": why }),
                }
                out(&format!("{all}\n"));
            }
            Output::Text => {
                let mut page = text(&bucket, &reading);
                match &logical {
                    None => {}
                    Some(Ok((place, listed))) if listed.is_empty() => {
                        page += &format!("\nLogical backups in {place}: none yet\n");
                    }
                    Some(Ok((place, listed))) => {
                        page += &format!("\nLogical backups in {place}\n{}", list::page(listed))
                    }
                    Some(Err(why)) => page += &format!("\nLogical backups: {why}\n"),
                }
                out(&page);
            }
        }
        if reading.damage.is_empty() && !matches!(logical, Some(Err(_))) { DONE } else { FAILED }
    }
}

async fn logical(section: &LogicalSection) -> Result<(String, Vec<Listed>), Failure> {
    let store = Store::open(&section.settings()?.0)?;
    Ok((store.bucket().to_string(), store.list().await?))
}

fn machine(reading: &Reading) -> serde_json::Value {
    let catalog = &reading.catalog;
    let fulls: Vec<_> = catalog
        .fulls()
        .into_iter()
        .map(|(line, full)| {
            json!({
                "timeline": line.id, "revision": full.taken.revision, "taken_at_ms": full.taken.taken_at_ms,
                "keys": full.taken.keys, "stored": full.taken.stored, "members_compared": full.taken.members.len(),
                "verified": full.verified,
            })
        })
        .collect();
    json!({
        "archive": catalog.archive(), "head": catalog.head(), "writer": catalog.writer(),
        "last_record_at_ms": catalog.head_at_ms(), "sealed_to": catalog.sealed_to(), "objects": catalog.totals(),
        "timelines": catalog.spans(), "fulls": fulls,
        "damage": reading.damage.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn text(bucket: &Bucket, reading: &Reading) -> String {
    let catalog = &reading.catalog;
    let mut page = format!("Archive {} in {bucket}\n", catalog.archive());
    let sealed = match catalog.sealed_to() {
        [] => "not sealed: whoever reads the bucket reads everything".to_owned(),
        keys => format!("sealed to {}", keys.join(", ")),
    };
    page += &format!("  {sealed}\n  last record {} by {}\n", moment(catalog.head_at_ms().0), catalog.writer());
    let totals = catalog.totals();
    page += &format!("  {} objects, {} stored\n", totals.objects, size_text(totals.stored_bytes));
    for damage in &reading.damage {
        page += &format!("  DAMAGE: {damage}\n");
    }
    for spans in catalog.spans() {
        page += &format!("\nTimeline {}{}\n", spans.timeline, origin(catalog, &spans));
        if spans.stretches.is_empty() {
            page += "  nothing can be recovered yet\n";
        }
        for stretch in &spans.stretches {
            page += &match stretch {
                Stretch::Span(span) => {
                    let whole = match &span.lacks {
                        None => "recoverable".to_owned(),
                        Some(Lack::NotKept) => "metadata recoverable (no objects are kept)".to_owned(),
                        Some(lack) => format!("metadata only: {lack}"),
                    };
                    format!("  {} to {}  {whole}\n", point(&span.from), point(&span.to))
                }
                Stretch::Break(gap) => {
                    let to = gap.to.map_or("…".into(), |to| to.to_string());
                    format!("  revision {} to {to}  LOST: {}\n", gap.from, gap.cause)
                }
            };
        }
    }
    page
}

fn origin(catalog: &Catalog, spans: &eyrie_archive::Spans) -> String {
    match catalog.timeline(spans.timeline) {
        Some(line) if !line.why.is_empty() => format!(" (began {}: {})", moment(line.began_at_ms.0), line.why),
        Some(line) => format!(" (began {})", moment(line.began_at_ms.0)),
        None => String::new(),
    }
}

fn point(point: &Point) -> String {
    match point.at_ms {
        Some(at) => format!("revision {} ({})", point.revision, moment(at.0)),
        None => format!("revision {}", point.revision),
    }
}

fn moment(unix_ms: i64) -> String {
    clock_text(u64::try_from(unix_ms).unwrap_or_default())
}
