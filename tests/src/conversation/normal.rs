//! What may differ between two runs of the same program is replaced by a word that says what it was.
//!
//! Lease ids become `L1`, `L2`, … in order of appearance, in hex, in decimal and inside base64. Keys, revisions, versions, counts
//! and hashes of the history are never touched: they must be equal.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::{Captures, Regex};

/// Ids that are computed from the member's URLs and so must be equal everywhere.
const FIXED_IDS: [u64; 2] = [0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32];

/// Plain rules, in order.
static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        // raft's own counters: how many entries a server needs to start is its own affair
        (r#"("?[rR]aft_?[tT]erm"?[ ]?[:=][ ]?"?)\d+"#, "${1}N"),
        (r#"("?[rR]aft(?:Applied)?_?Index"?[ ]?[:=][ ]?"?)\d+"#, "${1}N"),
        (r"(?m)^(\S+, [0-9a-f]+, \S+, [^,]+, \w+, \w+), \d+, \d+, \d+,", "${1}, N, N, N,"),
        (r"(?m)^(\|.*\| +(?:true|false) \| +(?:true|false) \|) +\d+ \| +\d+ \| +\d+ \|", "${1} N | N | N |"),
        // the same in a protobuf header, shown in hex: cluster, member, revision, term
        (r"(08[0-9a-f]{20}10[0-9a-f]{20}18[0-9a-f]{2})20[0-9a-f]{2}", "${1}20NN"),
        // times
        (r#"(took = )[\d.]+\S+"#, "${1}T"),
        (r#"("took":")[^"]+"#, "${1}T"),
        (r#"("Took" : )\S+"#, "${1}T"),
        (r"\| +[\d.]+(?:µs|ms|s) \|", "| T |"),
        (r"remaining\(\d+s\)", "remaining(Ns)"),
        (r#"("ttl":)\d+(,"granted-ttl")"#, "${1}N${2}"),
        (r#"("TTL" : )\d+(\n"GrantedTTL")"#, "${1}N${2}"),
        (r#"("TTL":")\d+(","grantedTTL")"#, "${1}N${2}"),
        // sizes of files
        (r"\b\d+(?:\.\d+)? [kM]?B\b", "SIZE"),
        (r#"("?(?:dbSize|dbSizeInUse|totalSize|DBSize|Size|DBSizeInUse)"?[ ]?:[ ]?"?)\d+"#, "${1}SIZE"),
        // a snapshot's hash covers the buckets of both programs' own bookkeeping
        (r"(?m)^[0-9a-f]{6,8}, (\d+), (\d+), SIZE", "HASH, ${1}, ${2}, SIZE"),
        (r#"("hash":)\d+(,"revision":\d+,"totalKey")"#, "${1}HASH${2}"),
        (r#"("Hash" : )\d+(\n"Revision" : \d+\n"Keys")"#, "${1}HASH${2}"),
        (r"(?m)^\| +[0-9a-f]{5,8} \|( +\d+ \| +\d+ \| +SIZE \|)", "| HASH |${1}"),
        // versions
        (r"\b3\.5\.\d+\b", "3.5.X"),
        // tables are as wide as their widest cell
        (r"-{2,}", "--"),
        (r"  +", " "),
    ]
    .map(|(rule, to)| (Regex::new(rule).expect("a valid rule"), to))
    .into()
});

static LEASE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:[0-9a-f]{15,16}|\d{17,19})\b").expect("a valid rule"));
static BASE64: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""([A-Za-z0-9+/]{16,}={0,2})""#).expect("a valid rule"));

/// Words that one run needs to speak like another.
#[derive(Default)]
pub(super) struct Words {
    leases: Vec<u64>,
    places: Vec<(String, &'static str)>,
}

impl Words {
    /// Replaces `text` (a folder, an address) by `word` from now on.
    pub(super) fn place(&mut self, text: String, word: &'static str) {
        self.places.push((text, word));
    }

    /// Fills `$EP`, `$DIR`, `$L1`, `$D1` in a word of the script.
    pub(super) fn fill(&self, word: &str, variables: &HashMap<&str, String>) -> String {
        let mut word = word.to_owned();
        for (i, lease) in self.leases.iter().enumerate().rev() {
            word = word.replace(&format!("$L{}", i + 1), &format!("{lease:016x}"));
            word = word.replace(&format!("$D{}", i + 1), &lease.to_string());
        }
        for (name, value) in variables {
            word = word.replace(name, value);
        }
        word
    }

    /// The text with everything replaced that may differ.
    pub(super) fn normal(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.places {
            text = text.replace(from, to);
        }
        let text = BASE64.replace_all(&text, |c: &Captures| match self.inside_base64(&c[1]) {
            Some(plain) => format!("\"b64:{plain}\""),
            None => c[0].to_owned(),
        });
        let mut text = self.name_leases(&text);
        for (rule, to) in RULES.iter() {
            text = rule.replace_all(&text, *to).into_owned();
        }
        text
    }

    fn inside_base64(&mut self, text: &str) -> Option<String> {
        let plain = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        (plain.is_ascii() && LEASE.is_match(&plain)).then(|| self.name_leases(&plain))
    }

    fn name_leases(&mut self, text: &str) -> String {
        LEASE.replace_all(text, |c: &Captures| self.lease(&c[0])).into_owned()
    }

    fn lease(&mut self, digits: &str) -> String {
        let radix = if digits.len() > 16 { 10 } else { 16 };
        let Ok(id) = u64::from_str_radix(digits, radix) else { return digits.to_owned() };
        // A lease id has its time in the high bits; a small number is one that the script chose.
        if FIXED_IDS.contains(&id) || id < 1 << 48 {
            return digits.to_owned();
        }
        let at = self.leases.iter().position(|l| *l == id).unwrap_or_else(|| {
            self.leases.push(id);
            self.leases.len() - 1
        });
        format!("L{}", at + 1)
    }
}

/// Lines that a client's own logger wrote: not part of the conversation.
pub(super) fn is_log_line(line: &str) -> bool {
    static CONSOLE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\d{4}-\d\d-\d\dT\S+\t(debug|info|warn|error|dpanic|panic|fatal)\t").expect("a valid rule")
    });
    line.starts_with(r#"{"level":""#) || CONSOLE.is_match(line)
}
