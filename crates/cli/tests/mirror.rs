//! `eyrie mirror` from outside: exit codes, what it says, and to whom.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const EYRIE: &str = env!("CARGO_BIN_EXE_eyrie");

/// Exit code, standard output, standard error of `eyrie mirror`.
fn mirror(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(EYRIE).arg("mirror").args(args).current_dir(dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

fn source(dir: &Path) {
    fs::create_dir_all(dir.join("src/sub")).unwrap();
    fs::write(dir.join("src/a"), "alpha").unwrap();
    fs::write(dir.join("src/sub/b"), "beta").unwrap();
}

#[test]
fn a_plan_a_run_and_nothing_left_to_do() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    let (code, out, _) = mirror(dir.path(), &["--dry-run", "src", "dst"]);
    assert_eq!(code, 0);
    assert!(out.contains("copy sub/b (4 B): the target does not have it"), "{out}");
    assert!(out.contains("Would copy 2 objects (9 B)") && out.contains("Nothing was changed."), "{out}");
    assert!(!dir.path().join("dst").exists());

    let (code, out, _) = mirror(dir.path(), &["src", "dst"]);
    assert_eq!((code, out.as_str()), (0, "Copied 2 objects (9 B); 0 were the same; removed 0.\n"));
    assert_eq!(fs::read_to_string(dir.path().join("dst/sub/b")).unwrap(), "beta");
    let (code, out, _) = mirror(dir.path(), &["src", "dst", "--checksum"]);
    assert_eq!((code, out.as_str()), (0, "Copied 0 objects (0 B); 2 were the same; removed 0.\n"));
}

#[test]
fn removing_prints_its_plan_and_refuses_an_empty_source() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    mirror(dir.path(), &["src", "dst"]);
    fs::write(dir.path().join("dst/extra"), "x").unwrap();
    let (code, out, _) = mirror(dir.path(), &["src", "dst"]);
    assert!(code == 0 && out.contains("1 only in DST, kept"), "{out}");
    let (code, out, err) = mirror(dir.path(), &["--remove", "src", "dst"]);
    assert!(
        code == 0 && err.contains("remove extra (1 B): SRC does not have it") && out.contains("removed 1"),
        "{out}{err}"
    );
    assert!(!dir.path().join("dst/extra").exists());

    fs::create_dir(dir.path().join("empty")).unwrap();
    let (code, _, err) = mirror(dir.path(), &["--remove", "empty", "dst"]);
    assert!(code == 2 && err.contains("the source is empty: nothing removed"), "{err}");
    let (code, _, err) = mirror(dir.path(), &["--remove", "no-such-folder", "dst"]);
    assert!(code == 2 && err.contains("there is no such folder"), "{err}");
    assert!(dir.path().join("dst/a").exists());
    let (code, _, _) = mirror(dir.path(), &["--remove", "--remove-all-if-source-is-empty", "empty", "dst"]);
    assert!(code == 0 && !dir.path().join("dst/a").exists());
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_is_done() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("src/link")).unwrap();
    fs::write(dir.path().join("src/two\nlines\u{1b}[2J"), "x").unwrap();
    // A folder stands where an object should go.
    fs::create_dir_all(dir.path().join("dst/a/below")).unwrap();
    let (code, out, err) = mirror(dir.path(), &["src", "dst"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("left alone in SRC: link (a symbolic link"), "{err}");
    assert!(err.contains(r"left alone in SRC: two\nlines\u{1b}[2J (the name has control characters)"), "{err}");
    assert!(err.contains("a folder has this name") && err.contains("Next: "), "{err}");
    assert!(out.contains("1 FAILED") && out.contains("run again"), "{out}");
    assert_eq!(fs::read_to_string(dir.path().join("dst/sub/b")).unwrap(), "beta");
}

#[test]
fn json_is_one_object_a_line() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    let (code, out, err) = mirror(dir.path(), &["--output", "json", "src", "dst"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!((last["event"].as_str(), last["report"]["copied"].as_u64()), (Some("done"), Some(2)));
    let (_, out, _) = mirror(dir.path(), &["--output", "json", "--dry-run", "dst", "other"]);
    let plan: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(plan["plan"]["copies"][0]["why"], "missing");
}

#[test]
fn wrong_calls_do_nothing_and_never_repeat_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    let (code, _, err) = mirror(dir.path(), &["src", "src/sub"]);
    assert!(code == 2 && err.contains("lie in each other"), "{err}");
    let (code, _, err) = mirror(dir.path(), &["s3://AKIA:canary@bucket", "dst"]);
    assert!(code == 2 && !err.contains("canary"), "{err}");
    let (code, _, err) = mirror(dir.path(), &["src"]);
    assert!(code == 2 && err.contains("DST"), "{err}");
    assert!(!dir.path().join("dst").exists());
}

#[test]
fn a_watch_brings_later_files_and_ends_with_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    source(dir.path());
    let mut watch = Command::new(EYRIE)
        .args(["mirror", "--watch", "--every", "1", "src", "dst"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let appears = |name: &str| {
        let began = Instant::now();
        while !dir.path().join("dst").join(name).exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "{name} never came");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    appears("a");
    fs::write(dir.path().join("src/later"), "later").unwrap();
    appears("later");
    assert!(Command::new("kill").arg(watch.id().to_string()).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}
