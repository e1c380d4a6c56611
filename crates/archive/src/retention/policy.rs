//! What a person wants kept, checked before it is believed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// Longer periods are typing errors.
const PERIOD_MAX: u64 = 100 * 366 * DAY;
/// A tail that is kept for less is none.
const TAIL_MIN: u64 = MINUTE;
/// More rules than anyone has.
const RULES_MAX: usize = 16;
/// More fulls than anyone keeps by number.
const KEEP_LAST_MAX: usize = 10_000;

/// A length of time, written as `45s`, `30m`, `6h`, `7d` or `2w`; never zero, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(u64);

impl Period {
    /// Hours.
    pub const fn hours(hours: u64) -> Self {
        Self(hours * HOUR)
    }
    /// Days.
    pub const fn days(days: u64) -> Self {
        Self(days * DAY)
    }
    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Weeks are shown as days: 7d and 90d are what people write.
        let (unit, name) = [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')]
            .into_iter()
            .find(|(unit, _)| self.0.is_multiple_of(*unit))
            .unwrap_or((SECOND, 's'));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl FromStr for Period {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let bad = |why| PolicyError::Period { text: text.chars().take(40).collect(), why };
        let Some((number, unit)) = text.char_indices().next_back().map(|(at, unit)| (&text[..at], unit)) else {
            return Err(bad("it is empty"));
        };
        let unit = match unit {
            's' => SECOND,
            'm' => MINUTE,
            'h' => HOUR,
            'd' => DAY,
            'w' => WEEK,
            _ => return Err(bad("it must end with s, m, h, d or w")),
        };
        if number.starts_with('-') {
            return Err(bad("it is negative"));
        }
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("it must be a whole number and a unit"));
        }
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
            Some(0) => Err(bad("it is zero")),
            Some(millis) if millis <= PERIOD_MAX => Ok(Self(millis)),
            _ => Err(bad("it is more than 100 years")),
        }
    }
}

impl TryFrom<String> for Period {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

/// One full of each `every` is kept for `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The width of a slot.
    pub every: Period,
    /// For how long.
    pub keep: Period,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Policy {
    /// Fulls by age.
    pub fulls: Vec<Rule>,
    /// The newest verified fulls, whatever their age.
    pub keep_last: usize,
    /// Every revision of this last period can be restored.
    pub tail: Period,
    /// Nothing younger is removed, save what a merged file stands in for.
    pub min_age: Period,
    /// What a merged file stands in for is removed after this time; a reader may still be using it.
    pub superseded: Period,
    /// When the source has suddenly lost nine tenths of its keys, the last verified full before that stays until a
    /// person sets this to false.
    pub keep_before_loss: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let rule = |every, keep| Rule { every, keep };
        Self {
            fulls: vec![
                rule(Period::hours(6), Period::days(7)),
                rule(Period::days(1), Period::days(30)),
                rule(Period::days(7), Period::days(90)),
            ],
            keep_last: 3,
            tail: Period::days(7),
            min_age: Period::days(1),
            superseded: Period::hours(1),
            keep_before_loss: true,
        }
    }
}

/// Why a policy is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a period.
    #[error("{text:?} is not a period: {why}. Write for example 6h, 7d or 90d")]
    Period {
        /// As it was written.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Would keep next to nothing.
    #[error("the retention policy keeps no fulls at all: nothing is removed. Give it a rule, or keep-last")]
    Empty,
    /// A rule that keeps nothing.
    #[error(
        "the rule of one full every {every} kept for {keep} keeps none: nothing is removed. `keep` must not be shorter than `every`"
    )]
    KeepsNone {
        /// Its slot.
        every: Period,
        /// Its time.
        keep: Period,
    },
    /// Beyond all reason.
    #[error("the retention policy is absurd: {0}. Nothing is removed")]
    Absurd(&'static str),
}

impl Policy {
    /// Whether the policy can be meant.
    ///
    /// # Errors
    /// [`PolicyError`], in words.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.fulls.is_empty() && self.keep_last == 0 {
            return Err(PolicyError::Empty);
        }
        if let Some(rule) = self.fulls.iter().find(|rule| rule.keep < rule.every) {
            return Err(PolicyError::KeepsNone { every: rule.every, keep: rule.keep });
        }
        if self.fulls.len() > RULES_MAX {
            return Err(PolicyError::Absurd("more than 16 rules"));
        }
        if self.keep_last > KEEP_LAST_MAX {
            return Err(PolicyError::Absurd("keep-last is more than 10000"));
        }
        if self.tail.millis() < TAIL_MIN {
            return Err(PolicyError::Absurd("the tail is kept for less than a minute"));
        }
        Ok(())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.fulls {
            write!(f, "a full every {} for {}, ", rule.every, rule.keep)?;
        }
        write!(f, "the last {}, tail of {}, nothing younger than {}", self.keep_last, self.tail, self.min_age)
    }
}
