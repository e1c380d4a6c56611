//! `show`: in words what is inside.

use std::path::PathBuf;

use eyrie_archive::{Ask, At, Revision, Scope};
use eyrie_backup::inside::Description;
use eyrie_backup::{catalog, inside};
use serde_json::json;

use super::settings::{Settings, identities};
use super::watch::{clock_text, size_text};
use super::{DONE, Output, failed, refused};
use crate::screen::out;

#[derive(clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    settings: Settings,
    /// The file with the private key, where the archive is sealed
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Which revision; the newest by default
    #[arg(long, value_name = "N")]
    revision: Option<i64>,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Show {
    pub(super) async fn run(self) -> i32 {
        let opened = self.settings.archive().and_then(|opened| Ok((opened, identities(self.identity.as_slice())?)));
        let ((config, bucket), keys) = match opened {
            Ok(opened) => opened,
            Err(why) => return refused(&why),
        };
        let reading = match catalog::read(&bucket, None).await {
            Ok(reading) => reading,
            Err(error) => return failed(&error),
        };
        let at = self.revision.map_or(At::Latest, |revision| At::Revision(Revision(revision)));
        let target = match reading.catalog.resolve(Ask { at, timeline: None, scope: Scope::MetadataOnly }) {
            Ok(target) => target,
            Err(why) => return failed(&why),
        };
        let spool = config.source.spool.clone().unwrap_or_else(std::env::temp_dir);
        let space = match inside::keys_at(&bucket, &target, &keys, &spool).await {
            Ok(space) => space,
            Err(error) => return failed(&error),
        };
        let described = space.describe();
        match self.output {
            Output::Json => {
                let (known, not): (Vec<_>, Vec<_>) = described.into_iter().partition(Result::is_ok);
                let answer = json!({
                    "revision": space.revision, "keys": space.pairs.len(), "objects": reading.catalog.totals(),
                    "milvus": known.into_iter().filter_map(Result::ok).collect::<Vec<_>>(),
                    "not_understood": not.into_iter().filter_map(Result::err).collect::<Vec<_>>(),
                    "notes": target.notes,
                });
                out(&format!("{answer}\n"));
            }
            Output::Text => {
                let totals = reading.catalog.totals();
                let mut page = format!(
                    "Revision {}: {} keys; {} objects in the mirror ({})\n",
                    space.revision,
                    space.pairs.len(),
                    totals.objects,
                    size_text(totals.bytes)
                );
                if described.is_empty() {
                    page += "No Milvus was found in it.\n";
                }
                for milvus in &described {
                    page += &match milvus {
                        Ok(milvus) => words(milvus),
                        Err(why) => format!("\nA Milvus that is not understood: {why}\n"),
                    };
                }
                target.notes.iter().for_each(|note| page += &format!("\n{note}\n"));
                out(&page);
            }
        }
        DONE
    }
}

fn words(milvus: &Description) -> String {
    let mut page = format!(
        "\nMilvus {} at `{}`: {} rows in {} segments, {} of logs\n",
        milvus.generation,
        milvus.root,
        milvus.rows,
        milvus.segments.live,
        size_text(milvus.log_bytes)
    );
    for database in &milvus.databases {
        page += &format!("  database {}\n", database.name);
        for one in &database.collections {
            let loaded = if one.loaded { ", loaded" } else { "" };
            page += &format!(
                "    collection {}: {} rows, {} partitions, {} segments ({} growing), {}{loaded}\n",
                one.name,
                one.rows,
                one.partitions.len(),
                one.segments.live,
                one.segments.growing,
                size_text(one.log_bytes)
            );
        }
    }
    if let Some(oldest) = milvus.channels.values().min() {
        page += &format!("  rows after {} may be in the message queue alone\n", clock_text(*oldest));
    }
    page
}
