//! `callboard worker …`

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use proto::admin::{EnrollWorkerRequest, ListWorkersRequest, Worker};

use super::{
    Result,
    connection::Connection,
    manifests::{Manifests, manifests},
    output::{Format, complain, line, print, table},
};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Gives a worker its own identity, good for the named projects only.
    Enroll {
        /// A project it may run; may be repeated.
        #[arg(long = "project", required = true)]
        projects: Vec<String>,
        /// Its name.
        #[arg(long)]
        name: String,
        /// Write the identity to this file (mode 0600) instead of standard output.
        #[arg(long)]
        identity_file: Option<PathBuf>,
    },
    /// Every worker, what it may run, and when it was last here.
    List,
    /// Prints what an administrator of a cluster applies for projects: `… | kubectl apply -f -`.
    Manifests(Manifests),
}

fn list(workers: &[Worker]) -> String {
    let rows = workers.iter().map(|w| {
        vec![
            w.name.clone(),
            w.projects.join(","),
            w.running.to_string(),
            w.last_seen_at.clone(),
            w.id.clone(),
        ]
    });
    table(&["name", "projects", "running", "last seen", "id"], rows)
}

impl WorkerCommand {
    pub(crate) async fn run(
        self,
        config: Option<&Config>,
        connection: &Connection,
        format: Format,
    ) -> Result<()> {
        let mut client = connection.client();
        match self {
            Self::Enroll { projects, name, identity_file } => {
                let request = EnrollWorkerRequest { name, projects };
                let enrolled =
                    client.enroll_worker(request).await.map_err(|s| connection.explain(&s))?.into_inner();
                match identity_file {
                    Some(path) => {
                        crate::data_dir::write_private(&path, enrolled.identity.as_bytes())
                            .with_context(|| format!("cannot write {}", path.display()))?;
                        complain(&format!(
                            "Worker {} enrolled. Its identity is in {}; keep it secret.",
                            enrolled.worker_id,
                            path.display()
                        ));
                    }
                    None => {
                        line(&enrolled.identity)?;
                        complain(
                            "This is the worker's identity. It is shown once and stored nowhere: keep it secret, name it as identity_file.",
                        );
                    }
                }
                Ok(())
            }
            Self::List => {
                let workers = client
                    .list_workers(ListWorkersRequest {})
                    .await
                    .map_err(|s| connection.explain(&s))?
                    .into_inner()
                    .workers;
                print(format, &workers, |w| list(w))
            }
            Self::Manifests(asked) => manifests(config, connection, asked).await,
        }
    }
}
