//! `server`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use eyrie_backup::bucket::SecretSource;
use eyrie_backup::logical::{Failure, Kind, server};

use super::{Context, DONE};

#[derive(clap::Args)]
pub(super) struct Server {
    /// The port
    #[arg(short, long, env = "SERVER_PORT", default_value_t = 8080)]
    port: u16,
    /// The address to listen on; others than this machine's own need a token
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    address: IpAddr,
    /// A file with a token; who calls sends `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The server's certificate with its chain (PEM): callers then use https
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let everybody in who reaches the address, as milvus-backup does
    #[arg(long)]
    insecure_no_token: bool,
}

impl Server {
    pub(super) async fn run(&self, context: &Context) -> Result<i32, Failure> {
        let wrong = |why: String| Failure::new(Kind::Request, why, "correct the command line");
        let token =
            self.token_file.clone().map(|file| SecretSource::File(file).resolve()).transpose().map_err(wrong)?;
        if token.is_none() && !self.address.is_loopback() && !self.insecure_no_token {
            let what = format!("on {} everybody who reaches it could delete every backup", self.address);
            let next = "give --token-file FILE, or --insecure-no-token if nobody else can reach it";
            return Err(Failure::new(Kind::Request, what, next));
        }
        let certificate = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(server::Certificate::read(cert, key)?),
            _ => None,
        };
        if token.is_some() && certificate.is_none() && !self.address.is_loopback() {
            eprintln!("Warning: without --tls-cert the token travels in the clear; put a proxy with TLS before it.");
        }
        let address = SocketAddr::new(self.address, self.port);
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            Failure::new(Kind::Request, format!("can't listen on {address}: {error}"), "give another port with -p")
        })?;
        let at = listener.local_addr().unwrap_or(address);
        let scheme = if certificate.is_some() { "https" } else { "http" };
        eprintln!("Serving on {scheme}://{at}/api/v1; Ctrl-C ends it. Tasks that are at work then can be begun again.");
        let stop = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        server::serve(context.settings.clone(), listener, token, certificate, stop).await?;
        Ok(DONE)
    }
}
