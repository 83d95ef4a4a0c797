//! One service per process, as in a cluster.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use control_plane::ControlPlane;
use telemetry::{
    address::Address,
    admin::Readiness,
    identity::Identity,
    shutdown::{Shutdown, signalled},
};

use crate::{
    config::Config,
    data_dir::DataDir,
    platform::{
        Options, agent_gateway_settings, agents_address, agents_listener, bind, control_plane_settings,
        database, executor, spawn_admin, supervise,
    },
};

/// The services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// Rules, Postgres, object store.
    ControlPlane,
    /// Webhooks.
    ApiGateway,
    /// The only address an agent can reach.
    AgentGateway,
    /// Runs attempts.
    Worker,
}

/// Runs one service until it is told to end.
///
/// # Errors
/// When it cannot start, or a part of it failed.
pub(crate) async fn serve(service: Service, config: &Config, options: Options) -> anyhow::Result<()> {
    telemetry::admin::metrics();
    let data = DataDir::prepare(&config.data_dir)?;
    // A second control plane on the same folder would take the first one's sockets.
    let _lock = match service {
        Service::ControlPlane => Some(data.lock().await?),
        Service::ApiGateway | Service::AgentGateway | Service::Worker => None,
    };
    let group = Shutdown::new();
    let control_plane = match &config.control_plane {
        Some(text) => text.parse().context("control_plane")?,
        None => Address::Unix(data.control_plane_socket()),
    };
    let identity = |name: &str| -> anyhow::Result<Arc<Identity>> {
        let path: PathBuf =
            config.identity_file.clone().unwrap_or_else(|| data.identities().join(format!("{name}.json")));
        Ok(Arc::new(Identity::load(&path)?))
    };
    let always: Readiness = Arc::new(|| Box::pin(async { Vec::new() }));
    let mut postgres = None;
    let ready: Readiness = match service {
        Service::ControlPlane => {
            let (private, url) = database(config, &data).await?;
            postgres = private;
            let control_plane =
                ControlPlane::start(control_plane_settings(config, &data, url, &options)?, &group).await?;
            Arc::new(move || {
                let control_plane = control_plane.clone();
                Box::pin(async move { control_plane.readiness().await })
            })
        }
        Service::ApiGateway => {
            let settings = api_gateway::Settings {
                control_plane,
                identity: identity("api-gateway")?,
                clock: Arc::clone(&options.clock),
                ids: options.ids.clone(),
            };
            let ready = api_gateway::readiness(&settings);
            let listener = bind("listen.api", config.listen.api).await?;
            supervise(&group, "api-gateway", api_gateway::run(settings, listener, group.token()));
            ready
        }
        Service::AgentGateway => {
            let settings =
                agent_gateway_settings(config, control_plane, identity("agent-gateway")?, &options)?;
            let ready = agent_gateway::readiness(&settings)?;
            let listen = agents_listener(config, &agents_address(config, &data)?).await?;
            supervise(&group, "agent-gateway", agent_gateway::run(settings, listen, group.token()));
            ready
        }
        Service::Worker => {
            let settings = worker::Settings {
                control_plane,
                identity: identity("worker")?,
                clock: Arc::clone(&options.clock),
                process: options.ids.next(),
                labels: config.worker.labels.clone().unwrap_or_default(),
                executor: executor(config, &data, &agents_address(config, &data)?, &options)?,
            };
            let told = group.token();
            supervise(&group, "worker", async move {
                match worker::run(settings, told.clone()).await {
                    // It stays: if it ended, whoever keeps it running would start it again, after the
                    // other process, which would end then.
                    Err(error) if error.is::<worker::Superseded>() => {
                        tracing::error!("{error}; this process does nothing any more");
                        told.cancelled().await;
                        Ok(())
                    }
                    ended => ended,
                }
            });
            always
        }
    };
    let admin = spawn_admin(config.listen.admin, ready, &group).await?;
    tracing::info!(?service, %admin, "service is up");
    tokio::select! {
        signal = signalled() => signal?,
        () = group.failure() => {}
    }
    let clean = group.finish(Duration::from_secs(15)).await;
    if let Some(postgres) = postgres {
        tokio::task::spawn_blocking(|| postgres.stop()).await??;
    }
    anyhow::ensure!(clean && !group.has_failed(), "the service did not end cleanly; its log says why");
    Ok(())
}
