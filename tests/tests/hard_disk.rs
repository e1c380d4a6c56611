//! A disk that is full, and data dirs that are not what they should be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::load::{self, Dice, Ledger, Wire};
use eyrie_tests::small_disk::SmallDisk;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;

/// A member that refuses its data dir says so within this time.
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);
/// Size of the small disk.
const DISK_MIB: u64 = 256;
/// Damaged bytes tried by the short and by the long form.
const FLIPS: [usize; 2] = [24, 600];

#[test]
fn a_full_disk_refuses_writes_keeps_reading_and_recovers() -> Verdict {
    let dir = tempfile::tempdir()?;
    let disk = SmallDisk::mount(&dir.path().join("disk"), DISK_MIB)?;
    Ok(fill_and_free(&disk, dir.path())?)
}

#[test]
fn foreign_and_damaged_data_dirs_are_refused() -> Verdict {
    Ok(foreign_dirs()?)
}

#[test]
fn a_data_dir_of_a_later_release_is_refused() -> Verdict {
    Ok(newer_dirs()?)
}

#[test]
fn a_data_dir_with_a_part_removed_is_refused_or_whole() -> Verdict {
    Ok(removed_parts()?)
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() -> Verdict {
    Ok(flipped_bits()?)
}

fn fill_and_free(disk: &SmallDisk, dir: &Path) -> Result<()> {
    let mut setup = Setup::new(&Program::under_test()?, dir)?;
    setup.data = disk.path().join("data");
    let mut store = setup.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ledger = Ledger::default();
    runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        load::scripted(&wire, &ledger, 1, 50).await?;
        disk.fill()?;
        // Room that is set aside may take some writes; in the end one is refused.
        let mut refused = None;
        for i in 0..4_000u64 {
            let key = format!("fill/{i}").into_bytes();
            match wire.put(&key, &vec![b'x'; 100_000], 0).await {
                Ok(revision) => {
                    let put = load::Effect(vec![(key, Some(vec![b'x'; 100_000]))]);
                    ledger.lock().promise(revision, put)?;
                }
                Err(status) => {
                    ledger.lock().attempt(load::Effect(vec![(key, Some(vec![b'x'; 100_000]))]));
                    refused = Some(status);
                    break;
                }
            }
        }
        let refused = refused.context("400 MB went onto a full disk of 256 MiB")?;
        println!("refused with: {refused}");
        ensure!(store.is_running(), "the member ended on a full disk:\n{}", store.log_tail(10));
        ensure!(refused.message().contains("space"), "the refusal does not speak of space: {refused}");
        // Reads go on.
        let there = wire.all().await.context("a read on a full disk")?;
        ensure!(!there.is_empty(), "no keys while the disk is full");
        disk.free()?;
        // It recovers by itself.
        let room = load::Effect(vec![(b"room".to_vec(), Some(b"again".to_vec()))]);
        let mut back = false;
        for _ in 0..60 {
            match wire.put(b"room", b"again", 0).await {
                Ok(revision) => {
                    ledger.lock().promise(revision, room.clone())?;
                    back = true;
                    break;
                }
                Err(_) => ledger.lock().attempt(room.clone()),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        ensure!(back, "no writes 30 s after the disk has room:\n{}", store.log_tail(10));
        Ok(())
    })?;
    // What was acknowledged is there after a crash.
    store.kill9()?;
    let store = setup.start()?;
    let checked = runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        let newest = ledger.lock().newest_told();
        let history = wire.history(2, newest).await?;
        let mut book = ledger.lock();
        book.hear(history)?;
        book.settle(newest)
    });
    checked.with_context(|| store.log_tail(10))
}

fn foreign_dirs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = Program::under_test()?;
    // Somebody else's files.
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign)?;
    std::fs::write(foreign.join("letters.txt"), "not a store")?;
    refuses(&program, &foreign, dir.path())?;
    // An upstream etcd's data dir must not be written to, nor hidden below a new empty store.
    let upstream = dir.path().join("upstream");
    let mut setup = Setup::new(&Program::upstream()?, dir.path())?;
    setup.data = upstream.clone();
    let mut store = setup.start()?;
    store.etcdctl_ok(&["put", "precious", "1"])?;
    store.stop()?;
    refuses(&program, &upstream, dir.path())?;
    // The same dir by two processes at once.
    let setup = Setup::new(&program, dir.path())?;
    let _first = setup.start()?;
    let mut second = Setup::new(&program, dir.path())?;
    second.data = setup.data.clone();
    second.log = dir.path().join("second.log");
    let (status, log) = second.run_to_end(REFUSAL_LIMIT).context("two members on one data dir")?;
    ensure!(!status.success(), "two members on one data dir:\n{log}");
    Ok(())
}

/// What a later release will have written is left alone by this one, and its message says so.
fn newer_dirs() -> Result<()> {
    let whole = filled()?;
    let identity = whole.data.join("eyrie");
    let text = std::fs::read_to_string(&identity)?;
    let later = text.replacen("eyrie-data-dir 1 ", "eyrie-data-dir 2 ", 1);
    ensure!(later != text, "the identity begins in another way: {text}");
    std::fs::write(&identity, later)?;
    let log = refuses(&Program::under_test()?, &whole.data, whole.dir.path())?;
    ensure!(log.contains("newer eyrie"), "the message does not say why:\n{log}");
    Ok(())
}

fn removed_parts() -> Result<()> {
    let whole = filled()?;
    for part in parts(&whole.data)? {
        let copy = whole.copy()?;
        let path = copy.setup.data.join(&part);
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?
        } else {
            std::fs::remove_file(&path)?
        }
        copy.refused_or_whole(&whole).with_context(|| format!("without {}", part.display()))?;
    }
    Ok(())
}

fn flipped_bits() -> Result<()> {
    let whole = filled()?;
    let mut dice = Dice::from_env();
    let files: Vec<PathBuf> = parts(&whole.data)?.into_iter().filter(|p| whole.data.join(p).is_file()).collect();
    let sizes: Vec<u64> = files.iter().map(|f| Ok(whole.data.join(f).metadata()?.len())).collect::<Result<_>>()?;
    for i in 0..FLIPS[usize::from(std::env::var_os("EYRIE_LONG").is_some())] {
        // Each file in turn, and often near its ends, where its structure is.
        let (file, size) = (&files[i % files.len()], sizes[i % files.len()]);
        if size == 0 {
            continue;
        }
        let at = match dice.below(3) {
            0 => dice.below(size.min(4096)),
            1 => size - 1 - dice.below(size.min(4096)),
            _ => dice.below(size),
        };
        let copy = whole.copy()?;
        let path = copy.setup.data.join(file);
        let mut bytes = std::fs::read(&path)?;
        bytes[at as usize] ^= 1 << dice.below(8);
        std::fs::write(&path, bytes)?;
        copy.refused_or_whole(&whole).with_context(|| format!("a bit of byte {at} of {}", file.display()))?;
    }
    Ok(())
}

/// A stopped member's data dir and what it held.
struct Whole {
    dir: tempfile::TempDir,
    data: PathBuf,
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    revision: i64,
}

struct Copy {
    _dir: tempfile::TempDir,
    setup: Setup,
}

/// Fills a member, kills it, and starts and stops it once more, so that its files are in use in every way.
fn filled() -> Result<Whole> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::under_test()?, dir.path())?.flags(&["--snapshot-count=50"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut store = setup.start()?;
    let ledger = Ledger::default();
    let (keys, revision) = runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        load::scripted(&wire, &ledger, 1, 120).await?;
        store.restart()?;
        let wire = Wire::new(&setup.endpoint())?;
        load::scripted(&wire, &ledger, 2, 60).await?;
        anyhow::Ok((wire.all().await?, wire.revision().await?))
    })?;
    store.kill9()?;
    Ok(Whole { dir, data: setup.data, keys, revision })
}

impl Whole {
    fn copy(&self) -> Result<Copy> {
        let dir = tempfile::tempdir()?;
        let setup = Setup::new(&Program::under_test()?, dir.path())?;
        let copied = Command::new("cp").arg("-a").arg(&self.data).arg(&setup.data).status()?;
        ensure!(copied.success(), "cp -a");
        Ok(Copy { _dir: dir, setup })
    }
}

impl Copy {
    /// Either the member ends with an error that says what to do, or it serves exactly what was there.
    fn refused_or_whole(&self, whole: &Whole) -> Result<()> {
        let mut store = self.setup.spawn()?;
        if store.wait_ready().is_ok() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(async {
                let wire = Wire::new(&self.setup.endpoint())?;
                let revision = wire.revision().await?;
                ensure!(revision == whole.revision, "revision {revision} is served instead of {}", whole.revision);
                match wire.all().await {
                    Ok(keys) => ensure!(keys == whole.keys, "other keys are served than were written"),
                    Err(e) => println!("a read was refused: {e:#}"),
                }
                Ok(())
            });
        }
        let status = store.wait_end(REFUSAL_LIMIT).context("it neither serves nor ends")?;
        ensure!(!status.success(), "it ended with success");
        let log = store.log_tail(30);
        ensure!(!log.contains("panicked at"), "it panicked:\n{log}");
        Ok(())
    }
}

/// The member must end with an error and leave every file as it was. Returns what it said.
fn refuses(program: &Program, data: &Path, dir: &Path) -> Result<String> {
    let before = contents(data)?;
    let mut setup = Setup::new(program, dir)?;
    setup.data = data.to_path_buf();
    setup.log = dir.join("refused.log");
    let (status, log) = setup.run_to_end(REFUSAL_LIMIT).with_context(|| format!("on {}", data.display()))?;
    ensure!(!status.success(), "{}: it ended with success:\n{log}", data.display());
    ensure!(log.contains(&data.display().to_string()), "the message does not name the data dir:\n{log}");
    ensure!(contents(data)? == before, "{}: files were changed", data.display());
    Ok(log)
}

fn contents(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for part in parts(dir)? {
        let path = dir.join(&part);
        let bytes = if path.is_file() { std::fs::read(&path)? } else { Vec::new() };
        all.insert(part, bytes);
    }
    Ok(all)
}

/// All files and folders below `dir`, relative to it.
fn parts(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            all.push(path.strip_prefix(dir)?.to_path_buf());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    all.sort();
    Ok(all)
}
