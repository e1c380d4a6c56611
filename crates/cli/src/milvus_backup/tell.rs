//! A run's news, on the screen.

use std::sync::{Arc, Mutex};

use eyrie_backup::logical::{News, Tell};
use serde_json::json;

use crate::progress::{Output, Progress, json};

/// Shows what a run tells.
#[derive(Clone)]
pub(super) struct Shown {
    progress: Arc<Progress>,
    total: Arc<Mutex<(u64, u64)>>,
    output: Output,
}

impl Shown {
    pub(super) fn new(verb: &'static str, output: Output) -> Shown {
        Shown { progress: Arc::new(Progress::new(verb, output)), total: Arc::default(), output }
    }

    pub(super) fn tell(&self) -> Tell {
        let shown = self.clone();
        Tell::new(move |news| shown.hear(news))
    }

    pub(super) fn finish(&self) {
        self.progress.finish();
    }

    fn hear(&self, news: News) {
        match news {
            News::Step(words) => self.progress.step(&words),
            News::Said(words) => self.line("said", &words),
            News::Warned(words) => self.line("warned", &words),
            News::More { objects, bytes } => {
                let Ok(mut total) = self.total.lock() else { return };
                *total = (total.0 + objects, total.1 + bytes);
                self.progress.total(total.0, total.1);
            }
            News::Done { objects, bytes } => {
                self.progress.bytes(bytes);
                self.progress.objects(objects);
            }
        }
    }

    fn line(&self, event: &str, words: &str) {
        match self.output {
            Output::Json => json(&json!({ "event": event, "words": words })),
            Output::Text if event == "warned" => self.progress.say(&format!("Warning: {words}")),
            Output::Text => self.progress.say(words),
        }
    }
}
