//! `callboard`: see `callboard --help`.

use std::process::ExitCode;

use callboard::commands::Cli;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    // Only one provider is compiled in; this guards against a dependency that adds another.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Cli::parse().run().await
}
