//! `callboard up`

use std::sync::Arc;

use domain::{clock::Clock, ids::Ids};
use telemetry::{clock::SystemClock, shutdown::signalled};

use super::{CommandError, Result};
use crate::{Options, Platform, config::Config};

/// The machine's clock and randomness.
pub(crate) fn options() -> Options {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Options { ids: Ids::from_os(Arc::clone(&clock)), clock, runner: None }
}

pub(crate) async fn up(config: Option<Config>) -> Result<()> {
    telemetry::logging::start();
    match config {
        Some(config) => run(&config).await,
        None => without_file().await,
    }
}

async fn run(config: &Config) -> Result<()> {
    let platform = Platform::start(config, options()).await?;
    until_told(platform).await
}

async fn until_told(platform: Platform) -> Result<()> {
    let broken = tokio::select! {
        signal = signalled() => { signal?; false }
        () = platform.broken() => true,
    };
    tracing::info!("ending");
    if !platform.stop().await {
        return Err(CommandError::Failed(anyhow::anyhow!("not everything ended in time; the log says what")));
    }
    if broken {
        return Err(CommandError::Failed(anyhow::anyhow!(
            "a part of the platform failed; the log says which"
        )));
    }
    Ok(())
}

#[cfg(feature = "simulator")]
async fn without_file() -> Result<()> {
    let stand_in = crate::stand_in::StandIn::start(options()).await?;
    let platform = Platform::start(stand_in.config(), options()).await?;
    stand_in.connect(platform.api())?;
    super::output::complain(&stand_in.instructions());
    let ended = until_told(platform).await;
    stand_in.stop().await;
    ended
}

#[cfg(not(feature = "simulator"))]
async fn without_file() -> Result<()> {
    Err(CommandError::Usage("`up` needs --config FILE; this build has no stand-in for GitHub".to_owned()))
}
