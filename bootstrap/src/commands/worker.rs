//! `callboard worker …`

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use domain::workers::{label, written};
use proto::admin::{
    EnrollWorkerRequest, ListWorkersRequest, OrderWorkerRequest, Worker, order_worker_request::Order,
};

use super::{
    Result,
    connection::Connection,
    manifests::{Manifests, manifests},
    output::{Format, complain, line, plain, print, table},
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
        /// What it has and runs may ask for, as key=value; may be repeated.
        #[arg(long = "label", value_parser = label)]
        labels: Vec<(String, String)>,
        /// Write the identity to this file (mode 0600) instead of standard output.
        #[arg(long)]
        identity_file: Option<PathBuf>,
    },
    /// Every worker, what it may run, how it stands, and when it was last here.
    List,
    /// Prints what an administrator of a cluster applies for projects: `… | kubectl apply -f -`.
    Manifests(Manifests),
    /// Gives a worker nothing new; what it has goes on.
    Cordon {
        /// Its name.
        name: String,
    },
    /// Gives a worker runs again.
    Uncordon {
        /// Its name.
        name: String,
    },
    /// Gives a worker nothing new; what it has takes a last checkpoint and goes on on other workers.
    Drain {
        /// Its name.
        name: String,
    },
}

/// What it has; what it only says it has is in brackets.
fn labels(worker: &Worker) -> String {
    let ignored = written(&worker.ignored_labels);
    let ignored = if ignored.is_empty() { ignored } else { format!("(not enrolled: {})", plain(&ignored)) };
    [written(&worker.labels), ignored]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn list(workers: &[Worker]) -> String {
    let rows = workers.iter().map(|w| {
        vec![
            w.name.clone(),
            w.state.clone(),
            w.projects.join(","),
            labels(w),
            w.running.to_string(),
            w.last_seen_at.clone(),
            w.id.clone(),
        ]
    });
    table(&["name", "state", "projects", "labels", "running", "last seen", "id"], rows)
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
            Self::Enroll { projects, name, labels, identity_file } => {
                let labels = labels.into_iter().collect();
                let request = EnrollWorkerRequest { name, projects, labels };
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
            Self::Cordon { name } => order(connection, format, name, Order::Cordon).await,
            Self::Uncordon { name } => order(connection, format, name, Order::Uncordon).await,
            Self::Drain { name } => order(connection, format, name, Order::Drain).await,
        }
    }
}

async fn order(connection: &Connection, format: Format, name: String, order: Order) -> Result<()> {
    let request = OrderWorkerRequest { name, order: order.into() };
    let obeyed = connection.client().order_worker(request).await.map_err(|s| connection.explain(&s))?;
    print(format, &obeyed.into_inner(), |obeyed| plain(&obeyed.message))
}
