//! A folder under attack, and on its bad days.

use std::os::unix::fs::{PermissionsExt, symlink};

use futures::TryStreamExt;

use crate::bucket::{Bucket, Kind, Listed};

fn folder() -> (tempfile::TempDir, Bucket) {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::at(dir.path().join("root").to_str().unwrap()).unwrap();
    (dir, bucket)
}

#[tokio::test]
async fn a_folder_is_a_bucket() {
    let (dir, bucket) = folder();
    super::super::conformance::run(&bucket).await;
    let left: Vec<_> = walk(dir.path()).into_iter().filter(|name| name.contains(".eyrie-")).collect();
    assert_eq!(left, Vec::<String>::new(), "temporary files must be gone");
}

#[tokio::test]
async fn links_lead_nowhere() {
    let (dir, bucket) = folder();
    bucket.put("inside/x", "x").await.unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let root = dir.path().join("root");
    symlink(&outside, root.join("door")).unwrap();
    symlink(outside.join("secret"), root.join("window")).unwrap();

    for key in ["door/secret", "window"] {
        assert_eq!(bucket.read(key).await.unwrap_err().kind, Kind::Config, "{key}");
        assert_eq!(bucket.delete(key).await.unwrap_err().kind, Kind::Config, "{key}");
    }
    assert_eq!(bucket.put("door/new", "x").await.unwrap_err().kind, Kind::Config);
    assert_eq!(bucket.create("door/new", "x").await.unwrap_err().kind, Kind::Config);
    // A write replaces the link itself, not what it points to.
    bucket.put("window", "mine").await.unwrap();
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(walk(&outside), ["secret"]);

    let listed: Vec<_> = bucket.list_all("").try_collect().await.unwrap();
    let odd =
        listed.iter().filter_map(|item| if let Listed::Odd { name, .. } = item { Some(name.as_str()) } else { None });
    assert_eq!(odd.collect::<Vec<_>>(), ["door"]);
}

#[tokio::test]
async fn a_missing_folder_is_not_an_empty_one() {
    let (_dir, bucket) = folder();
    let listed: Result<Vec<_>, _> = bucket.list("").try_collect().await;
    assert_eq!(listed.unwrap_err().kind, Kind::NotFound);
    assert_eq!(bucket.read("x").await.unwrap_err().kind, Kind::NotFound);
    assert!(bucket.stat("x").await.unwrap().is_none());
}

#[tokio::test]
async fn only_the_owner_reads_and_empty_folders_go() {
    let (dir, bucket) = folder();
    bucket.put("a/b/c", "x").await.unwrap();
    bucket.put("a/d", "x").await.unwrap();
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("root/a/b/c"), mode("root/a/b"), mode("root")), (0o600, 0o700, 0o700));
    bucket.delete("a/b/c").await.unwrap();
    assert!(!dir.path().join("root/a/b").exists() && dir.path().join("root/a/d").exists());
}

#[tokio::test]
async fn files_and_folders_of_one_name_do_not_mix() {
    let (_dir, bucket) = folder();
    bucket.put("a/b", "x").await.unwrap();
    assert_eq!(bucket.put("a", "x").await.unwrap_err().kind, Kind::Config);
    assert!(bucket.stat("a").await.unwrap().is_none());
    assert!(bucket.stat("a/b/c").await.unwrap().is_none());
    assert_eq!(bucket.read("a/b").await.unwrap(), "x");
}

#[tokio::test]
async fn a_file_that_changes_under_a_reader_is_an_error_not_a_mixture() {
    let (dir, bucket) = folder();
    bucket.put("big", vec![1; 3 << 20]).await.unwrap();
    let mut reading = bucket.read_stream("big", ..).await.unwrap();
    assert!(reading.bytes.try_next().await.unwrap().is_some());
    std::fs::write(dir.path().join("root/big"), vec![2; 100]).unwrap();
    let rest: Result<Vec<_>, _> = reading.bytes.try_collect().await;
    assert_eq!(rest.unwrap_err().kind, Kind::Damaged);
}

#[tokio::test]
async fn old_temporary_files_go_and_young_ones_stay() {
    let (dir, bucket) = folder();
    bucket.put("x", "x").await.unwrap();
    let root = dir.path().join("root");
    for name in [".eyrie-tmp-1-old", ".eyrie-tmp-2-young"] {
        std::fs::write(root.join(name), "half").unwrap();
    }
    let old = std::time::SystemTime::now() - 2 * crate::limits::STALE_TEMPORARY_AGE;
    std::fs::File::options().write(true).open(root.join(".eyrie-tmp-1-old")).unwrap().set_modified(old).unwrap();
    let listed: Vec<_> = bucket.list("").try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(walk(&root), [".eyrie-tmp-2-young", "x"]);
}

/// All files below a folder, by name.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().is_dir() {
            names.extend(walk(&entry.path()).into_iter().map(|name| format!("{}/{name}", entry.file_name().display())));
        } else {
            names.push(entry.file_name().display().to_string());
        }
    }
    names.sort();
    names
}
