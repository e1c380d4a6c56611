//! `version` and `completion`: about the program itself.

use crate::cli::completion;
use crate::cli::context::Context;
use crate::cli::help::{API_VERSION, VERSION};
use crate::exit::{Done, Failure};
use crate::screen::{line, out};

/// `version`
pub(crate) async fn version(_: Context) -> Done {
    line(format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}"));
    Ok(())
}

/// `completion bash|zsh|fish`
pub(crate) async fn completion(context: Context) -> Done {
    let shell = context.parsed.arg(0);
    match completion::script(&shell) {
        Some(script) => {
            out(script);
            Ok(())
        }
        None => Err(Failure::args("completion needs one argument: bash, zsh or fish")),
    }
}
