//! `salvage`: rows out of Milvus's bucket when its metadata is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use eyrie_backup::logical::salvage::{self, Found, FoundSegment, Pick, Plan, Source, Verdict, Wanted, Way};
use eyrie_backup::logical::{Doors, Failure, Kind};
use eyrie_milvus::ids::{HybridTs, SegmentId};
use eyrie_milvus::logical::CollectionName;
use eyrie_milvus::salvage::Key;
use eyrie_milvus::salvage::schema::{Schema, type_name};
use eyrie_milvus::time::utc;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::tell::Shown;
use super::{Context, DONE};
use crate::progress::{Output, json};
use crate::screen::out;

/// Longest key that a table shows.
const KEY_SHOWN: usize = 24;

#[derive(clap::Args)]
#[command(after_help = "\
Only the bucket is left:
  What lies there?            milvus-backup salvage list --bucket file:///copy/of/the/bucket
  What was its schema?        milvus-backup salvage schema --collection ID > schema.yaml    (then correct the guesses)
  What would come back?       milvus-backup salvage restore --collection ID --schema schema.yaml --to NAME --dry-run
  Bring it back:              the same without --dry-run

Before a Milvus is started on that bucket: copy it (eyrie mirror). Its garbage collection deletes what it does not know.")]
pub(super) struct Salvage {
    /// The bucket [default: milvus.storage]: s3://bucket with the address and keys of milvus.storage, or file:///folder
    #[arg(long, global = true, value_name = "URL")]
    bucket: Option<String>,
    /// Milvus's minio.rootPath in it [default: that of milvus.storage; with --bucket it is looked for]
    #[arg(long, global = true, value_name = "PATH")]
    root_path: Option<String>,
    /// Memory for keys and times, in MiB; what does not fit is read in several turns [default: 1024]
    #[arg(long, global = true, value_name = "MIB")]
    memory: Option<u64>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What lies there: collections by their ids, their fields and segments, and what each segment is
    List {
        /// Only this collection
        #[arg(long, value_name = "ID")]
        collection: Option<i64>,
    },
    /// A collection's schema, as far as it can be told or guessed, to be corrected by a person
    Schema {
        /// Which, by its id
        #[arg(long, value_name = "ID")]
        collection: i64,
        /// Where to [default: the screen]
        #[arg(long = "file", value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Bring the living rows of one collection into a new one, each once
    Restore(Restore),
}

#[derive(clap::Args)]
struct Restore {
    /// Which, by its id in the bucket
    #[arg(long, value_name = "ID")]
    collection: i64,
    /// Its schema: a corrected page of `salvage schema`, or what `get` shows of an old backup
    #[arg(long, value_name = "FILE")]
    schema: PathBuf,
    /// What it is to be called: name, or database.name
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Only rows of these segments, with commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    segments: Option<Vec<i64>>,
    /// Leave out what can't be read: rows may be missing, and rows that were deleted may come back
    #[arg(long)]
    accept_damage: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Salvage {
    pub(super) async fn run(&self, context: &Context) -> Result<i32, Failure> {
        let source = Source::open(&context.settings, self.bucket.as_deref(), self.root_path.as_deref()).await?;
        match &self.what {
            What::List { collection } => list(context, &source, self.pick(*collection)).await,
            What::Schema { collection, file } => {
                schema(context, &source, self.pick(Some(*collection)), file.as_deref()).await
            }
            What::Restore(restore) => restore.run(context, &source, self.memory()).await,
        }
    }

    fn memory(&self) -> Option<u64> {
        self.memory.map(|mib| mib.saturating_mul(1 << 20))
    }

    fn pick(&self, collection: Option<i64>) -> Pick {
        Pick { collection, memory: self.memory(), ..Pick::default() }
    }
}

async fn look(context: &Context, source: &Source, pick: Pick) -> Result<Vec<Found>, Failure> {
    let shown = Shown::new("salvage", context.output);
    let found = salvage::look(source, &pick, &shown.tell()).await;
    shown.finish();
    let found = found?;
    if found.is_empty() {
        let what = match pick.collection {
            Some(id) => format!("there are no logs of collection {id} in {source}"),
            None => format!("there are no logs of Milvus in {source}"),
        };
        return Err(Failure::new(Kind::NotFound, what, "check --bucket and --root-path: below it lies insert_log/"));
    }
    Ok(found)
}

async fn list(context: &Context, source: &Source, pick: Pick) -> Result<i32, Failure> {
    let found = look(context, source, pick).await?;
    match context.output {
        Output::Json => found.iter().for_each(|one| json(&machine(one))),
        Output::Text => out(&found.iter().map(page).collect::<Vec<_>>().join("\n")),
    }
    Ok(DONE)
}

async fn schema(context: &Context, source: &Source, pick: Pick, file: Option<&Path>) -> Result<i32, Failure> {
    let found = look(context, source, pick).await?;
    let Some(found) = found.first() else { return Ok(DONE) };
    let text = match context.output {
        Output::Json => serde_json::to_string(&Schema::guess(&found.seen)).unwrap_or_default() + "\n",
        Output::Text => Schema::page(&found.seen),
    };
    let Some(file) = file else {
        out(&text);
        return Ok(DONE);
    };
    let failed = |error: std::io::Error| {
        Failure::new(
            Kind::Request,
            format!("{}: {error}", file.display()),
            "give the name of a file that is not there yet",
        )
    };
    let mut target = std::fs::File::create_new(file).map_err(failed)?;
    std::io::Write::write_all(&mut target, text.as_bytes()).map_err(failed)?;
    eprintln!("Written to {}: correct the lines marked GUESS.", file.display());
    Ok(DONE)
}

impl Restore {
    fn wanted(&self, memory: Option<u64>) -> Result<Wanted, Failure> {
        let wrong = |why: String| Failure::new(Kind::Request, why, "correct the command line");
        let text = std::fs::read_to_string(&self.schema)
            .map_err(|error| wrong(format!("{}: {error}", self.schema.display())))?;
        let (database, name) = self.to.split_once('.').unwrap_or(("", &self.to));
        if name.is_empty() {
            return Err(wrong(format!("`{}` can't be the name of a collection", self.to)));
        }
        Ok(Wanted {
            collection: self.collection,
            schema: salvage::read_schema(&text, self.collection)?,
            name: CollectionName::new(database, name),
            segments: self.segments.clone().map(|ids| ids.into_iter().collect::<BTreeSet<_>>()),
            accept_damage: self.accept_damage,
            memory,
        })
    }

    async fn run(&self, context: &Context, source: &Source, memory: Option<u64>) -> Result<i32, Failure> {
        let wanted = self.wanted(memory)?;
        let shown = Shown::new("salvage", context.output);
        let planned = salvage::plan(source, &context.settings, &wanted, &shown.tell()).await;
        shown.finish();
        let plan = planned?;
        if self.dry_run {
            planned_page(context.output, &plan, &wanted);
            return Ok(DONE);
        }
        for line in &plan.left_out {
            eprintln!("Warning: left out: {line}");
        }
        if source.is(&context.settings.storage) {
            eprintln!(
                "Warning: this is where the running Milvus keeps its objects. Its garbage collection deletes logs that it does \
                 not know, some hours from now: copy the bucket (eyrie mirror) before anything else."
            );
        }
        let doors = Doors::open(&context.settings).await?;
        let shown = Shown::new("salvage", context.output);
        let done = salvage::rescue(&doors, &context.settings, source, &wanted, plan, &shown.tell()).await;
        shown.finish();
        let done = done?;
        match context.output {
            Output::Json => json(&json!({
                "event": "salvaged", "name": wanted.name.to_string(), "rows": done.rows, "imports": done.imports,
            })),
            Output::Text => out(&format!(
                "{} is salvaged: {} rows in {} imports, each row once, counted by Milvus; the keys in its storage are those \
                 that were chosen.\nIndexes were not made: without one a collection can't be loaded.\n",
                wanted.name, done.rows, done.imports
            )),
        }
        Ok(DONE)
    }
}

fn planned_page(output: Output, plan: &Plan, wanted: &Wanted) {
    let way = |way: Way| match way {
        Way::InPlace => "where it lies".to_owned(),
        Way::Copied => "as a copy".to_owned(),
        Way::Written(of) => format!("written anew, of {of} rows in its logs"),
    };
    if output == Output::Json {
        let steps: Vec<_> = plan
            .steps
            .iter()
            .map(|step| {
                json!({
                    "partition": step.partition, "segment": step.path.segment.0, "rows": step.rows, "way": way(step.way),
                })
            })
            .collect();
        let name = wanted.name.to_string();
        json(&json!({ "event": "plan", "name": name, "rows": plan.rows(), "steps": steps, "left_out": plan.left_out }));
        return;
    }
    let mut page = format!("would create {} and import {} rows, each once:\n", wanted.name, plan.rows());
    for step in &plan.steps {
        let (segment, rows) = (step.path.segment, step.rows);
        page += &format!("  {rows} rows of segment {segment} into {}, {}\n", step.partition, way(step.way));
    }
    for line in &plan.left_out {
        page += &format!("  LEFT OUT: {line}\n");
    }
    out(&page);
}

fn segments(ids: &[SegmentId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a segment is, and why.
fn reason(segment: &FoundSegment) -> String {
    match &segment.verdict {
        Verdict::Live if segment.alone < segment.own => {
            format!("{} of its rows stand in others, too, and are taken from here", segment.own - segment.alone)
        }
        Verdict::Live => String::new(),
        Verdict::Partly(by) => format!("{} of its rows are taken from {}", segment.alive - segment.own, segments(by)),
        Verdict::LeftBehind(by) => format!("by a compaction: all its living rows are in {}", segments(by)),
        Verdict::Emptied => "all its rows were deleted".into(),
        Verdict::Deletes => "holds deletes, and no rows".into(),
        Verdict::Damaged(why) => why.join("; "),
        Verdict::NotChosen => String::new(),
    }
}

fn moment(at: u64) -> String {
    utc(HybridTs(at).unix_ms())
}

fn machine(found: &Found) -> Value {
    let by = |verdict: &Verdict| match verdict {
        Verdict::Partly(by) | Verdict::LeftBehind(by) => by.iter().map(|id| id.0).collect(),
        _ => Vec::new(),
    };
    let key = |key: &Key| match key {
        Key::Number(number) => json!(number),
        Key::Text(_) => json!(key.to_string()),
    };
    let segments: Vec<_> = found
        .segments
        .iter()
        .map(|one| {
            json!({
                "partition": one.path.partition.0, "segment": one.path.segment.0, "verdict": one.verdict.word(),
                "why": reason(one), "taken_from": by(&one.verdict), "rows": one.rows, "alive": one.alive, "own": one.own,
                "alone": one.alone, "deleted": one.deleted, "doubles": one.doubles, "deletes": one.deletes,
                "keys": one.keys.as_ref().map(|(a, b)| [key(a), key(b)]),
                "times": one.times.map(|(a, b)| [moment(a), moment(b)]), "times_hybrid": one.times.map(|(a, b)| [a, b]),
                "bytes": one.len, "indexed": one.indexed, "complete": !matches!(one.verdict, Verdict::Damaged(_)),
            })
        })
        .collect();
    let seen = &found.seen;
    let fields: Vec<_> = seen
        .fields
        .iter()
        .map(|(id, field)| json!({ "id": id, "type": type_name(field.data_type), "dim": field.dim() }))
        .collect();
    json!({
        "event": "found", "collection": seen.collection, "rows": found.rows(), "fields": fields,
        "key": { "field": seen.likely_key(), "certain": seen.key.is_some() }, "guess": Schema::guess(seen),
        "segments": segments, "bad_deletes": found.bad_deletes, "foreign_objects": found.foreign,
    })
}

fn page(found: &Found) -> String {
    let seen = &found.seen;
    let from = found.segments.iter().filter(|one| one.own > 0).count();
    let mut page = format!(
        "Collection {}: {} living rows, to be taken from {from} of {} segments\n",
        seen.collection,
        found.rows(),
        found.segments.len()
    );
    let fields: Vec<String> = seen
        .fields
        .iter()
        .map(|(id, field)| {
            format!("{id} {}{}", type_name(field.data_type), field.dim().map_or(String::new(), |d| format!("({d})")))
        })
        .collect();
    page += &format!("  Certain    fields {}\n", fields.join(", "));
    match (seen.key, seen.likely_key()) {
        (Some(key), _) => page += &format!("             the primary key is field {key}: it has statistics\n"),
        (None, Some(key)) => page += &format!("  A guess    the primary key is field {key}: there are no statistics\n"),
        (None, None) => page += "  UNKNOWN    the primary key: no field can be one\n",
    }
    page += "  Not there  names, indexes, lengths of texts: salvage schema writes a page to correct\n";
    let deletes: u64 = found.segments.iter().map(|one| one.deletes).sum();
    page += &match deletes {
        0 => "  Deletes    none lie here: if there were some, their logs are gone, and rows that were deleted come back\n".to_owned(),
        count => format!("  Deletes    {count} were read and are carried out\n"),
    };
    for why in &found.bad_deletes {
        page += &format!("  DAMAGED    {why}: rows that it deleted would come back\n");
    }
    if found.foreign > 0 {
        page += &format!("  Ignored    {} objects whose names are none of Milvus's\n", found.foreign);
    }
    let mut rows = vec![
        ["PARTITION", "SEGMENT", "VERDICT", "ROWS", "ALIVE", "TAKEN", "SIZE", "KEYS", "WRITTEN (UTC)"]
            .map(String::from),
    ];
    for one in &found.segments {
        let keys = one.keys.as_ref().map_or("-".into(), |(a, b)| format!("{} .. {}", short(a), short(b)));
        let times = one.times.map_or("-".into(), |(a, b)| format!("{} .. {}", moment(a), moment(b)));
        let (partition, segment) = (one.path.partition.to_string(), one.path.segment.to_string());
        let counts = [one.rows, one.alive, one.own].map(|count| count.to_string());
        let [rows_in, alive, own] = counts;
        let size = HumanBytes(one.len).to_string();
        rows.push([partition, segment, one.verdict.word().into(), rows_in, alive, own, size, keys, times]);
    }
    let mut widths = [0; 9];
    for row in &rows {
        row.iter().zip(&mut widths).for_each(|(cell, width)| *width = cell.chars().count().max(*width));
    }
    for (n, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        page += &format!("  {}\n", cells.join("  ").trim_end());
        let why = n.checked_sub(1).map(|n| reason(&found.segments[n])).filter(|why| !why.is_empty());
        page += &why.map_or(String::new(), |why| format!("      {why}\n"));
    }
    page
}

/// A key for a table: no control characters, not too long.
fn short(key: &Key) -> String {
    let text: String = key.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match text.char_indices().nth(KEY_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
