//! The half that runs a target: one input after another until time is up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::allocation;
use crate::mutate::{Chance, mutate};
use crate::targets::Target;

/// Feeds broken inputs for so long, from the one after that whose number stands in the file `progress` on; there the number
/// of the current one stands.
///
/// # Errors
/// When a whole input of the corpus is refused: then the target tests nothing. A finding ends the process instead.
pub fn run(target: &Target, seed: u64, seconds: u64, progress: &Path) -> Result<()> {
    let corpus = (target.corpus)();
    for (number, input) in corpus.iter().enumerate() {
        if !(target.run)(input) {
            bail!("{}: the decoder refuses whole input number {number} of the corpus", target.name);
        }
    }
    let progress = File::options().read(true).write(true).open(progress).context("open the progress file")?;
    let mut last = [0; 8];
    progress.read_exact_at(&mut last, 0).context("read the progress file")?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut iteration, mut accepted) = (u64::from_le_bytes(last).wrapping_add(1), 0_u64);
    while Instant::now() < until {
        progress.write_at(&iteration.to_le_bytes(), 0).context("write the progress file")?;
        let input = input(target, &corpus, seed, iteration);
        allocation::watch();
        accepted += u64::from((target.run)(&input));
        iteration += 1;
    }
    println!("{:16} {iteration:>10} inputs, {accepted:>9} of them accepted, no findings", target.name);
    Ok(())
}

/// Feeds one saved input.
///
/// # Errors
/// When the file cannot be read. A finding ends the process.
pub fn replay(target: &Target, file: &Path) -> Result<()> {
    let input = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    allocation::watch();
    let begin = Instant::now();
    let accepted = (target.run)(&input);
    let verdict = if accepted { "accepted" } else { "refused" };
    println!("{}: {} bytes {verdict} in {:.3} s", target.name, input.len(), begin.elapsed().as_secs_f64());
    Ok(())
}

/// Input number `iteration` of this seed.
pub fn input(target: &Target, corpus: &[Vec<u8>], seed: u64, iteration: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed, target.name, iteration);
    let mut input = mutate(corpus, &mut chance);
    // Most inputs get right checksums again, or nothing behind a checksum would ever be reached.
    if let Some(reseal) = target.reseal
        && !chance.one_in(4)
    {
        reseal(&mut input);
    }
    input
}
