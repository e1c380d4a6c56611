//! Threads whose work nobody waits for let the others go first.
//!
//! A thread that computes for milliseconds keeps a thread that was just woken waiting for as long, however little that
//! one has to do: on a busy machine each hand-over of a write, from edge to log to apply and back, pays for it. The
//! system lets a woken thread go first only where the other one counts for much less.

/// How much less urgent: a tenth of the weight. Enough to be interrupted at once, not so little that a lock which is
/// held for a moment is held for long on a machine without a free core.
const NICE_STEP: i32 = 10;

/// Makes the calling thread, and those that it will start, give way to all others of this process. There is no way back,
/// so it is for threads that do nothing else. Where the system refuses, all stays as it was.
pub fn step_aside() {
    let _ = rustix::process::nice(NICE_STEP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_itself_and_its_children_step_aside() {
        let own = || rustix::process::nice(0).unwrap();
        let before = own();
        let (aside, child) = std::thread::spawn(move || {
            step_aside();
            (own(), std::thread::spawn(own).join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((aside, child), ((before + NICE_STEP).min(19), (before + NICE_STEP).min(19)));
        assert_eq!(own(), before);
    }
}
