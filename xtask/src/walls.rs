//! The dependency walls: which crate may use what, and what it must never know.
//!
//! One line of [`WALLS`] per crate. A dependency that is not on its crate's line fails the gate, so that a floor is
//! never crossed by accident: whoever needs a new dependency adds it here, in the same commit, and the reviewer sees it.
//! What a crate may not *call* (clocks, files, threads) stands in the `clippy.toml` of its folder.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// What one crate is, and what it may depend on directly.
struct Wall {
    /// The package.
    package: &'static str,
    /// Ordinary dependencies it may have.
    may_use: &'static [&'static str],
    /// Further ones for its build script and its tests.
    tools: &'static [&'static str],
    /// The sentence that the wall enforces.
    must_never_know: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        package: "eyrie-api",
        may_use: &[
            "bytes",
            "hyper-util",
            "prost",
            "rustls",
            "rustls-native-certs",
            "rustls-pki-types",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tonic",
            "tonic-prost",
            "tower",
        ],
        tools: &["prost", "prost-types", "protox", "tonic-prost-build"],
        must_never_know: "the wire must never know what a request means",
    },
    Wall {
        package: "eyrie-raft",
        may_use: &["bytes", "protobuf", "raft", "slog", "thiserror"],
        tools: &["proptest"],
        must_never_know: "agreement must never know files, sockets, clocks, or what a command means",
    },
    Wall {
        package: "eyrie-state",
        may_use: &["bytes", "crc32c", "serde_json", "smallvec", "thiserror"],
        tools: &["proptest"],
        must_never_know: "meaning must never know async, files, a clock, chance, etcd's protobufs or hash-map order",
    },
    Wall {
        package: "eyrie-archive",
        may_use: &["serde", "serde_json", "sha2", "thiserror"],
        tools: &["proptest"],
        must_never_know: "memory must never know the network, a clock, ciphers, or what is inside a record",
    },
    Wall {
        package: "eyrie-milvus",
        may_use: &["bytes", "prost", "serde", "serde_json", "thiserror"],
        tools: &["prost-build", "proptest", "protox"],
        must_never_know: "Milvus knowledge must never know the network or a clock, nor delete anything",
    },
    Wall {
        package: "eyrie-disk",
        may_use: &[
            "bytes",
            "crc32c",
            "eyrie-raft",
            "eyrie-state",
            "parking_lot",
            "prost",
            "redb",
            "rustix",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
        tools: &["proptest", "tempfile"],
        must_never_know: "durability must never know async, the network, or why something is stored",
    },
    Wall {
        package: "eyrie-server",
        may_use: &[
            "axum",
            "base64",
            "bcrypt",
            "bytes",
            "eyrie-api",
            "eyrie-disk",
            "eyrie-raft",
            "eyrie-state",
            "flate2",
            "http",
            "http-body",
            "http-body-util",
            "hyper",
            "hyper-util",
            "jsonwebtoken",
            "parking_lot",
            "pin-project-lite",
            "prometheus",
            "prost",
            "prost-types",
            "rcgen",
            "rustls",
            "rustls-native-certs",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "sha1",
            "sha2",
            "smallvec",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tonic",
            "tonic-prost",
            "tower",
            "x509-parser",
        ],
        tools: &["tempfile"],
        must_never_know: "the server must never know the command line, backups, or object stores",
    },
    Wall {
        package: "eyrie-backup",
        may_use: &[
            "age",
            "axum",
            "base64",
            "bytes",
            "chrono",
            "croner",
            "eyrie-api",
            "eyrie-archive",
            "eyrie-disk",
            "eyrie-milvus",
            "eyrie-state",
            "futures",
            "opendal",
            "opendal-http-transport-reqwest",
            "prometheus",
            "prost",
            "reqwest",
            "rustix",
            "rusty-s3",
            "rustls",
            "serde",
            "serde_json",
            "serde_yaml_ng",
            "sha2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tonic",
            "zstd",
        ],
        tools: &["proptest", "tempfile"],
        must_never_know: "the backup must never know server or raft, nor delete without a plan from archive",
    },
    Wall {
        package: "eyrie-ctl",
        may_use: &[
            "anyhow",
            "base64",
            "bytes",
            "clap",
            "eyrie-api",
            "prost",
            "serde",
            "serde_json",
            "sha2",
            "tokio",
            "tokio-stream",
            "tonic",
        ],
        tools: &["tempfile"],
        must_never_know: "etcdctl speaks only the public API: it must never know server, disk or state",
    },
    Wall {
        package: "eyrie",
        may_use: &[
            "anyhow",
            "clap",
            "eyrie-api",
            "eyrie-archive",
            "eyrie-backup",
            "eyrie-ctl",
            "eyrie-disk",
            "eyrie-milvus",
            "eyrie-server",
            "eyrie-state",
            "indicatif",
            "libmimalloc-sys",
            "mimalloc",
            "rustix",
            "serde",
            "serde_json",
            "serde_yaml_ng",
            "signal-hook",
            "strsim",
            "tokio",
            "x509-parser",
        ],
        tools: &["tempfile"],
        must_never_know: "the hands build the real parts and must never know a business rule",
    },
    Wall {
        package: "eyrie-tests",
        may_use: &[
            "anyhow",
            "base64",
            "eyrie-api",
            "nix",
            "prost",
            "regex",
            "rustix",
            "serde_json",
            "tempfile",
            "tokio",
            "tokio-stream",
            "tonic",
        ],
        tools: &[],
        must_never_know: "the black-box tests see processes, sockets and files, and must never know an inner type",
    },
    Wall {
        package: "eyrie-sim",
        may_use: &["anyhow", "bytes", "crc32c", "eyrie-raft", "eyrie-state", "eyrie-tests"],
        tools: &[],
        must_never_know: "a simulated world must never know a clock, chance, a file, a thread or the network",
    },
    Wall {
        package: "xtask",
        may_use: &["anyhow", "rustix", "serde_json"],
        tools: &[],
        must_never_know: "chores stand outside: they must build and run when every other crate is broken",
    },
];

/// Checks every crate of the workspace against its wall.
///
/// # Errors
/// Names each crate, the dependency that crosses its wall, and the sentence that forbids it.
pub(crate) fn check() -> Result<()> {
    let metadata = shell::output("cargo", &["metadata", "--format-version", "1", "--no-deps", "--locked"])?;
    let metadata: Value = serde_json::from_str(&metadata).context("read the answer of cargo metadata")?;
    let breaches = breaches(&metadata)?;
    if !breaches.is_empty() {
        bail!("{} dependency walls are crossed:\n\n{}", breaches.len(), breaches.join("\n\n"));
    }
    println!("walls: {} crates, none crossed", WALLS.len());
    Ok(())
}

/// One paragraph for each crossed wall.
fn breaches(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    let mut breaches = Vec::new();
    let mut seen = BTreeSet::new();
    for package in packages {
        let name = text(package, "name")?;
        seen.insert(name);
        let Some(wall) = WALLS.iter().find(|wall| wall.package == name) else {
            breaches.push(format!(
                "crate {name} has no wall.\n  Next: write its line in xtask/src/walls.rs (what it may use, what it must \
                 never know), or make it a module of a crate that has one."
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("cargo metadata: no dependencies")? {
            let used = text(dependency, "name")?;
            // `null` is an ordinary dependency; build scripts and tests may use more.
            let tool = dependency["kind"].is_string();
            let allowed = wall.may_use.contains(&used) || (tool && wall.tools.contains(&used));
            if !allowed {
                breaches.push(wall.breach(used, dependency["kind"].as_str()));
            }
        }
    }
    for wall in WALLS.iter().filter(|wall| !seen.contains(wall.package)) {
        breaches.push(format!(
            "crate {} has a wall but does not exist.\n  Next: remove its line from xtask/src/walls.rs.",
            wall.package
        ));
    }
    Ok(breaches)
}

impl Wall {
    fn breach(&self, used: &str, kind: Option<&str>) -> String {
        let kind = kind.map_or(String::new(), |kind| format!(" ({kind})"));
        format!(
            "crate {} depends on {used}{kind}, which its wall does not allow.\n  Why: {}.\n  It may use: {}{}{}.\n  \
             Next: do without {used}, move the code to the crate that may use it, or, when the sentence above stays \
             true, add {used} to the wall in xtask/src/walls.rs.",
            self.package,
            self.must_never_know,
            self.may_use.join(", "),
            if self.tools.is_empty() { "" } else { "; to build and test: " },
            self.tools.join(", "),
        )
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("cargo metadata: no field {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The workspace with one more edge.
    fn with_edge(package: &str, used: &str, kind: Value) -> Value {
        let packages: Vec<Value> = WALLS
            .iter()
            .map(|wall| {
                let mut dependencies: Vec<Value> =
                    wall.may_use.iter().map(|name| serde_json::json!({ "name": name, "kind": null })).collect();
                if wall.package == package {
                    dependencies.push(serde_json::json!({ "name": used, "kind": kind }));
                }
                serde_json::json!({ "name": wall.package, "dependencies": dependencies })
            })
            .collect();
        serde_json::json!({ "packages": packages })
    }

    #[test]
    fn a_crossed_wall_names_crate_dependency_and_reason() {
        let breaches = breaches(&with_edge("eyrie-state", "tokio", Value::Null)).unwrap();
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].contains("crate eyrie-state depends on tokio"), "{}", breaches[0]);
        assert!(breaches[0].contains("must never know async"), "{}", breaches[0]);
    }

    #[test]
    fn tools_are_for_tests_only() {
        assert!(breaches(&with_edge("eyrie-disk", "tempfile", "dev".into())).unwrap().is_empty());
        assert_eq!(breaches(&with_edge("eyrie-disk", "tempfile", Value::Null)).unwrap().len(), 1);
    }

    #[test]
    fn an_unknown_crate_and_a_missing_one_are_breaches() {
        let mut metadata = with_edge("eyrie-state", "bytes", Value::Null);
        metadata["packages"][0]["name"] = "eyrie-utils".into();
        let breaches = breaches(&metadata).unwrap();
        assert!(breaches[0].contains("eyrie-utils has no wall"), "{}", breaches[0]);
        assert!(breaches[1].contains("eyrie-api has a wall but does not exist"), "{}", breaches[1]);
    }

    #[test]
    fn this_workspace_keeps_them() {
        check().unwrap();
    }

    #[test]
    fn the_table_itself_keeps_the_floors() {
        let inner = |package: &str| -> Vec<&str> {
            let wall = WALLS.iter().find(|wall| wall.package == package).unwrap();
            wall.may_use.iter().chain(wall.tools).copied().filter(|name| name.starts_with("eyrie-")).collect()
        };
        assert_eq!(inner("eyrie-state"), Vec::<&str>::new());
        assert_eq!(inner("eyrie-raft"), Vec::<&str>::new());
        assert_eq!(inner("eyrie-api"), Vec::<&str>::new());
        assert_eq!(inner("eyrie-ctl"), ["eyrie-api"]);
        assert_eq!(inner("eyrie-tests"), ["eyrie-api"]);
        assert_eq!(inner("xtask"), Vec::<&str>::new());
    }
}
