//! The same conversation with upstream etcd and with Eyrie sounds the same.

use eyrie_tests::conversation;
use eyrie_tests::verdict::Verdict;

/// One test for each script, so that they run side by side.
macro_rules! conversations {
    ($($test:ident: $file:literal),* $(,)?) => {
        const FILES: &[&str] = &[$($file),*];
        $(
            #[test]
            fn $test() -> Verdict {
                Ok(conversation::same($file)?)
            }
        )*
    };
}

conversations! {
    keys: "kv.txt",
    transactions: "txn.txt",
    watches: "watch.txt",
    leases: "lease.txt",
    maintenance: "maintenance.txt",
    members: "cluster.txt",
    users_and_roles: "auth.txt",
    locks_and_elections: "concurrency.txt",
    wrong_use: "usage.txt",
    snapshots: "snapshot.txt",
    json_gateway: "gateway.txt",
    pages: "pages.txt",
}

#[test]
fn no_script_is_forgotten() {
    let mut there: Vec<String> = std::fs::read_dir(conversation::conversations())
        .expect("the folder of the scripts")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .filter(|name| name != "differences.txt")
        .collect();
    there.sort();
    let mut run = FILES.to_vec();
    run.sort_unstable();
    assert_eq!(there, run);
}

#[test]
fn there_is_enough_to_talk_about() -> Verdict {
    let (mut ctl, mut http) = (0, 0);
    for file in FILES {
        let count = conversation::commands(file)?;
        if matches!(*file, "gateway.txt" | "pages.txt") { http += count } else { ctl += count }
    }
    println!("{ctl} commands, {http} HTTP requests");
    assert!(ctl >= 220, "only {ctl} commands");
    assert!(http >= 60, "only {http} HTTP requests");
    Ok(())
}

#[test]
fn every_kept_difference_has_its_reason_in_the_docs() -> Verdict {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/differences.md"))?;
    for why in conversation::reasons()? {
        assert!(page.lines().any(|l| l == format!("## {why}")), "docs/differences.md has no heading `## {why}`");
    }
    Ok(())
}
