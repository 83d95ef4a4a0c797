//! Plays a script as an OpenAI-compatible model until it is interrupted.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use scripted_model::{Script, ScriptedModel};

/// A model that plays a script (OpenAI Responses API), for tests and the demo.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:18080")]
    listen: SocketAddr,
    /// JSON: {"steps":[{"shell":"cmd"},{"text":"done"},{"error":529,"times":2},{"hang":20}]}
    #[arg(long)]
    script: PathBuf,
    /// File with the key every request has to carry as bearer; without it none is asked for.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let script = Script::from_json(&read(&arguments.script)?)
        .with_context(|| arguments.script.display().to_string())?;
    let key = arguments.key_file.as_ref().map(read).transpose()?.map(|key| key.trim().to_owned());
    anyhow::ensure!(key.as_deref() != Some(""), "the key file is empty");
    let model = ScriptedModel::start(arguments.listen, script, key)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    println!("{}", serde_json::json!({"base_url": model.base_url()}));
    tokio::signal::ctrl_c().await?;
    model.shutdown().await;
    Ok(())
}
