//! Runs a member on a port and a directory.
use eyrie_server::config::{Address, Url};
use eyrie_server::{Config, Server};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let url = Url { tls: false, address: Address::Tcp("127.0.0.1".into(), args[1].parse().unwrap()) };
    let config = Config { data_dir: args[2].clone().into(), listen_client_urls: vec![url], ..Config::default() };
    match Server::start(&config) {
        Ok(server) => {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            rt.block_on(async { tokio::select!{ why = server.failed() => eprintln!("failed: {why}"), _ = tokio::signal::ctrl_c() => {} } });
            server.stop().unwrap();
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
