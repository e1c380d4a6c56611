//! The page beside that of etcd 3.5.1 (`etcd-3.5.1.families`: name and type of each family, from a running member).

use super::*;

/// Families of etcd that are not here, and why.
const NOT_HERE: [(&str, &str); 9] = [
    ("go_", "no Go runtime"),
    ("promhttp_", "the Go scrape handler"),
    ("etcd_server_go_version", "no Go runtime"),
    ("etcd_grpc_proxy_", "there is no grpc-proxy; always zero in a member"),
    ("etcd_debugging_store_", "the v2 store does not exist here"),
    ("etcd_debugging_disk_backend_commit_", "phases of a bbolt commit"),
    ("etcd_debugging_snap_save_", "raft snapshots of the v2 store"),
    ("process_virtual_memory_max_bytes", "always unlimited"),
    ("grpc_server_handling_seconds", "only with --metrics extensive"),
];

fn families(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, kind)| (name.into(), kind.into())).collect()
}

fn fill(metrics: &Metrics) {
    // Labelled families of etcd appear once they have a value; a member sets these at start.
    metrics.server.set_id(0x8e9e_05c5_2164_694d);
    metrics.server.set_cluster_version("3.5");
    metrics.grpc.touch();
}

#[test]
fn every_family_of_etcd_is_here_with_its_type() {
    let metrics = Metrics::new(false);
    fill(&metrics);
    let here = families(&metrics.render().unwrap());
    for line in include_str!("etcd-3.5.1.families").lines() {
        let (name, kind) = line.split_once(' ').unwrap();
        if NOT_HERE.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue;
        }
        let found = here.iter().find(|(here, _)| here == name);
        assert_eq!(found.map(|(_, kind)| kind.as_str()), Some(kind), "{name}");
    }
    let mut names: Vec<_> = here.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), here.len(), "a family appears twice");
}

#[test]
fn extensive_adds_the_times_of_calls() {
    let text = Metrics::new(true).render().unwrap();
    let line = "grpc_server_handling_seconds_bucket{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",\
                grpc_type=\"unary\",le=\"0.005\"} 0";
    assert!(text.contains(line), "{text}");
}

#[test]
fn values_and_bounds_look_like_etcds() {
    let metrics = Metrics::new(false);
    metrics.disk.wal_fsync.observe(0.0015);
    metrics.server.apply(ApplyOp::Put, true).observe(0.00015);
    metrics.on_scrape(|metrics| catch_up(&metrics.mvcc.puts, 7));
    fill(&metrics);
    let text = metrics.render().unwrap();
    for line in [
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1",
        "etcd_server_apply_duration_seconds_bucket{op=\"Put\",success=\"true\",version=\"v3\",le=\"0.0002\"} 1",
        "etcd_mvcc_put_total 7",
        "etcd_server_id{server_id=\"8e9e05c52164694d\"} 1",
        "etcd_cluster_version{cluster_version=\"3.5\"} 1",
        "etcd_server_version{server_version=\"3.5.21\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
