//! Fetches the foreign programs that the tests need.

fn main() -> anyhow::Result<()> {
    eyrie_tests::peers::fetch_all()
}
