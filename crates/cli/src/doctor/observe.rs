//! What can be seen of a cluster and its host, as values. Nothing here asks anybody.

use std::collections::BTreeMap;
use std::time::Duration;

/// All that was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observations {
    /// When, in seconds since 1970.
    pub(crate) now_secs: i64,
    /// The members that were asked.
    pub(crate) members: Vec<Seen>,
    /// The members that the cluster knows of; empty when nobody could say.
    pub(crate) listed: Vec<Listed>,
    /// Alarms: member and kind.
    pub(crate) alarms: Vec<(u64, String)>,
    /// What Milvus keeps here, if it keeps anything.
    pub(crate) milvus: Option<Milvus>,
    /// Stores that run on this machine.
    pub(crate) here: Vec<Local>,
    /// Cores and bytes of memory of this machine.
    pub(crate) machine: (usize, u64),
}

/// One member that was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// As it was named.
    pub(crate) endpoint: String,
    /// Whether the connection stays on this machine.
    pub(crate) local: bool,
    /// Whether the connection is encrypted.
    pub(crate) encrypted: bool,
    /// What it said of itself, or why it did not.
    pub(crate) answer: Result<Answer, String>,
    /// Its metrics, or why there are none.
    pub(crate) metrics: Result<Metrics, String>,
    /// How far its clock is before ours, to about a second.
    pub(crate) clock_ahead_secs: Option<f64>,
    /// When its certificate ends, in seconds since 1970.
    pub(crate) certificate_ends: Option<i64>,
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    /// How long the answer took.
    pub(crate) took: Duration,
    pub(crate) member: u64,
    pub(crate) leader: u64,
    pub(crate) version: String,
    pub(crate) db_bytes: i64,
    pub(crate) db_used_bytes: i64,
    pub(crate) revision: i64,
    pub(crate) raft_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) learner: bool,
}

/// A member as the cluster knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Listed {
    pub(crate) member: u64,
    pub(crate) name: String,
    /// The host of its first peer URL.
    pub(crate) host: String,
    pub(crate) learner: bool,
}

/// How much Milvus keeps here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Milvus {
    pub(crate) collections: i64,
    pub(crate) segments: i64,
}

/// A store that runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) data_dir: String,
    /// The device that holds it.
    pub(crate) device: u64,
}

/// Numbers of a `/metrics` page; those that differ only in labels are added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metrics {
    values: BTreeMap<String, f64>,
    /// Name, then upper bound in nanounits (so that it can be a key), then how many lie below.
    buckets: BTreeMap<String, BTreeMap<u128, f64>>,
}

impl Metrics {
    /// Reads the text format of Prometheus; lines that are none are passed over.
    pub(crate) fn read(page: &str) -> Metrics {
        let mut metrics = Metrics::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            *metrics.values.entry(name.to_owned()).or_default() += value;
            let bound = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(bound, _)| bound);
            if let (Some(histogram), Some(bound)) = (name.strip_suffix("_bucket"), bound) {
                let bound = bound.parse::<f64>().unwrap_or(f64::INFINITY);
                let key = if bound.is_finite() { (bound * 1e9) as u128 } else { u128::MAX };
                *metrics.buckets.entry(histogram.to_owned()).or_default().entry(key).or_default() += value;
            }
        }
        metrics
    }

    /// A number by its name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// The time below which a share of a histogram's events lie, and how many events there are. `None` where there are
    /// none, or where it lies above the last bound.
    pub(crate) fn below(&self, histogram: &str, share: f64) -> Option<(Duration, f64)> {
        let buckets = self.buckets.get(histogram)?;
        let all = *buckets.get(&u128::MAX)?;
        let (bound, _) = buckets.iter().find(|(_, below)| all > 0.0 && **below >= all * share)?;
        // What lies above the last bound is at least that long.
        let bound = if *bound == u128::MAX { *buckets.keys().rev().nth(1)? } else { *bound };
        Some((Duration::from_nanos(u64::try_from(bound).ok()?), all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_and_a_share_is_found() {
        let page = "# HELP a b\nplain 7\nmany{x=\"1\"} 1\nmany{x=\"2\"} 2\nnonsense\n\
                    h_bucket{le=\"0.001\"} 90\nh_bucket{le=\"0.008\"} 98\nh_bucket{le=\"0.016\"} 100\nh_bucket{le=\"+Inf\"} 100\n";
        let metrics = Metrics::read(page);
        assert_eq!((metrics.get("plain"), metrics.get("many"), metrics.get("none")), (Some(7.0), Some(3.0), None));
        assert_eq!(metrics.below("h", 0.9), Some((Duration::from_millis(1), 100.0)));
        assert_eq!(metrics.below("h", 0.99), Some((Duration::from_millis(16), 100.0)));
        let slow = Metrics::read("h_bucket{le=\"0.5\"} 0\nh_bucket{le=\"+Inf\"} 3\n");
        assert_eq!(slow.below("h", 0.99), Some((Duration::from_millis(500), 3.0)));
        assert_eq!(Metrics::read("h_bucket{le=\"+Inf\"} 0\n").below("h", 0.99), None);
    }
}
