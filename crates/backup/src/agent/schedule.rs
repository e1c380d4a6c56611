//! When a job is due. Pure: the time comes in.
//!
//! A job is due once for however many of its times have passed since it last ran: what was missed is caught up once.

use std::str::FromStr;

use chrono::{DateTime, Local, Utc};
use croner::Cron;
use serde::{Deserialize, Serialize};

/// What switches a job off.
const NEVER: &str = "never";

/// The times of a job, as cron writes them (minute, hour, day, month, weekday), or `never`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct When {
    text: String,
    cron: Option<Cron>,
}

/// By which clock the hours of a schedule are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zone {
    /// Universal time: no hour is missing or there twice.
    #[default]
    Utc,
    /// The machine's own.
    Local,
}

impl When {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == NEVER {
            return Ok(Self { text: text.into(), cron: None });
        }
        match Cron::from_str(text) {
            Ok(cron) => Ok(Self { text: text.into(), cron: Some(cron) }),
            Err(error) => {
                Err(format!("{text:?} is not a schedule: {error}. Write for example \"0 */6 * * *\", or never"))
            }
        }
    }

    /// The first time after `after`; none: never.
    pub fn next(&self, after_ms: i64, zone: Zone) -> Option<i64> {
        let after: DateTime<Utc> = DateTime::from_timestamp_millis(after_ms)?;
        let cron = self.cron.as_ref()?;
        match zone {
            Zone::Utc => cron.find_next_occurrence(&after, false).ok().map(|at| at.timestamp_millis()),
            Zone::Local => {
                let after = after.with_timezone(&Local);
                cron.find_next_occurrence(&after, false).ok().map(|at| at.timestamp_millis())
            }
        }
    }

    /// Whether one of its times has passed since `last`. A `last` in the future, seen after the clock went back, is now.
    pub fn is_due(&self, last_ms: i64, now_ms: i64, zone: Zone) -> bool {
        self.next(last_ms.min(now_ms), zone).is_some_and(|next| next <= now_ms)
    }

    /// Whether it is off.
    pub fn is_never(&self) -> bool {
        self.cron.is_none()
    }
}

impl PartialEq for When {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for When {}

impl TryFrom<String> for When {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<When> for String {
    fn from(when: When) -> Self {
        when.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// A Sunday, 22 November 2026, midnight.
    const SUNDAY: i64 = 1_795_305_600_000;

    #[test]
    fn what_was_missed_is_due_once() {
        let when = When::parse("0 */6 * * *").unwrap();
        let due = |last: i64, now: i64| when.is_due(last, now, Zone::Utc);
        assert!(!due(SUNDAY, SUNDAY + 6 * HOUR - 1));
        assert!(due(SUNDAY, SUNDAY + 6 * HOUR));
        // three days off: due, and after it ran not before its next time
        let back = SUNDAY + 72 * HOUR + 1;
        assert!(due(SUNDAY, back));
        assert!(!due(back, back) && !due(back, back + 5 * HOUR));
        assert!(due(back, back + 6 * HOUR));
    }

    #[test]
    fn a_clock_that_jumps_neither_repeats_nor_stops_a_job() {
        let when = When::parse("30 2 * * 0").unwrap();
        let ran = SUNDAY + 3 * HOUR;
        // ten years back: its next time is a week after then
        let then = ran - 10 * 365 * 24 * HOUR;
        assert!(!when.is_due(ran, then, Zone::Utc));
        let next = when.next(then, Zone::Utc).unwrap();
        assert!(next - then <= 7 * 24 * HOUR);
        assert!(When::parse("never").unwrap().next(0, Zone::Utc).is_none());
    }

    #[test]
    fn a_schedule_that_is_none_is_refused_with_words() {
        for bad in ["", "61 * * * *", "hourly please", "* * *"] {
            let why = When::parse(bad).unwrap_err();
            assert!(why.contains("is not a schedule"), "{why}");
        }
    }
}
