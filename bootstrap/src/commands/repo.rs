//! `callboard repo …`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Subcommand;
use proto::admin::{
    AddRepositoryRequest, Finding, ListRepositoriesRequest, RepositoryRequest, RepositoryView,
    RotateSecretRequest, SetupStep, SyncLabelsRequest, SyncedLabel, finding::Level, setup_step::Outcome,
};
use serde::Serialize;
use tonic::{Response, Status, Streaming};

use super::{
    Result, check,
    connection::Connection,
    output::{Format, complain, line, plain, print, table},
};
use crate::data_dir::write_private;

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Sets a repository up: record, webhook, labels, a test delivery. Run again, it mends what
    /// differs and goes on where it was broken off.
    Add {
        /// owner/name
        repository: String,
        /// The project it belongs to; absent: the only one there is.
        #[arg(long)]
        project: Option<String>,
        /// Last part of the webhook's address; absent: the repository's name.
        #[arg(long)]
        source: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Give the webhook its secret again: somebody changed it on the code host.
        #[arg(long, conflicts_with = "dry_run")]
        reset_secret: bool,
        /// Write the webhook's secret into a new file only you can read, to make the webhook by hand.
        #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
        write_secret: Option<PathBuf>,
    },
    /// Gives the webhook a new secret without losing a delivery: both are good until --finish, or
    /// for a day.
    RotateSecret {
        /// owner/name
        repository: String,
        /// From now on only the new one is good.
        #[arg(long)]
        finish: bool,
    },
    /// What `repo add` sets up: what was probed, expected, found, and the next step.
    Check {
        /// owner/name
        repository: String,
    },
    /// All repositories, and where their webhooks send to.
    List,
    /// Switches a repository off that was added by command; its history stays.
    Remove {
        /// owner/name
        repository: String,
    },
    /// Makes the labels of the project's rules, and mends colour and description of those that
    /// differ; deletes none.
    SyncLabels {
        /// owner/name; absent: every repository of the configuration.
        repository: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

fn labels(labels: &[SyncedLabel]) -> String {
    let rows = labels.iter().map(|label| {
        vec![
            label.repository.clone(),
            plain(&label.name),
            label.outcome.clone(),
            label.color.clone(),
            plain(&label.description),
        ]
    });
    table(&["repository", "label", "", "colour", "description"], rows)
}

fn repositories(repositories: &[RepositoryView]) -> String {
    let rows = repositories.iter().map(|repository| {
        let notes = [
            (!repository.enabled).then(|| "switched off".to_owned()),
            (!repository.rotating_since.is_empty())
                .then(|| format!("two secrets since {}", repository.rotating_since)),
        ];
        vec![
            plain(&repository.name),
            plain(&repository.project),
            repository.managed.clone(),
            plain(&repository.webhook_url),
            repository.last_delivery_at.clone(),
            notes.into_iter().flatten().collect::<Vec<_>>().join(", "),
        ]
    });
    table(&["repository", "project", "managed by", "webhook", "last delivery", ""], rows)
}

/// A step for programs.
#[derive(Serialize)]
struct Told<'s> {
    step: &'s str,
    /// `done`, `unchanged`, `planned`, `warning` or `failed`
    outcome: &'static str,
    found: &'s str,
    next_step: &'s str,
}

impl<'s> From<&'s SetupStep> for Told<'s> {
    fn from(step: &'s SetupStep) -> Self {
        let outcome = match step.outcome() {
            Outcome::Done => "done",
            Outcome::Unchanged => "unchanged",
            Outcome::Planned | Outcome::Unspecified => "planned",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
        };
        Self { step: &step.step, outcome, found: &step.found, next_step: &step.next_step }
    }
}

fn words(step: &SetupStep) -> String {
    let (sign, note) = match step.outcome() {
        Outcome::Done => ("✓", ""),
        Outcome::Unchanged => ("·", "unchanged: "),
        Outcome::Planned | Outcome::Unspecified => ("·", ""),
        Outcome::Warning => ("!", ""),
        Outcome::Failed => ("✗", ""),
    };
    let mut text = format!("{sign} {}: {note}{}", step.step, plain(&step.found));
    if !step.next_step.is_empty() {
        text.push_str(&format!("\n    next: {}", plain(&step.next_step)));
    }
    text
}

/// Prints each step as it comes: lines for people; the whole list at its end for programs.
async fn follow(
    connection: &Connection,
    format: Format,
    steps: std::result::Result<Response<Streaming<SetupStep>>, Status>,
) -> Result<ExitCode> {
    let mut steps = steps.map_err(|s| connection.explain(&s))?.into_inner();
    let (mut all, mut broken_off) = (Vec::new(), None);
    loop {
        match steps.message().await {
            Ok(Some(step)) => {
                if format == Format::Table {
                    line(&words(&step))?;
                }
                all.push(step);
            }
            Ok(None) => break,
            Err(status) => {
                broken_off = Some(status);
                break;
            }
        }
    }
    if format != Format::Table {
        let told: Vec<Told<'_>> = all.iter().map(Told::from).collect();
        print(format, &told, |_| String::new())?;
    }
    if let Some(status) = broken_off {
        return Err(connection.explain(&status));
    }
    let failed = all.iter().any(|step| step.outcome() == Outcome::Failed);
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

async fn write_secret(connection: &Connection, repository: &str, file: &Path) -> Result<()> {
    let request = RepositoryRequest { repository: repository.to_owned() };
    let answer = connection.client().webhook_secret(request).await;
    let answer = answer.map_err(|s| connection.explain(&s))?.into_inner();
    write_private(file, answer.secret.as_bytes())
        .with_context(|| format!("cannot write {}; name a file that does not exist yet", file.display()))?;
    complain(&format!("the secret for {} is in {}; delete it when it is set", answer.url, file.display()));
    Ok(())
}

impl RepoCommand {
    pub(crate) async fn run(self, connection: &Connection, format: Format) -> Result<ExitCode> {
        let mut client = connection.client();
        match self {
            Self::Add { repository, project, source, dry_run, reset_secret, write_secret: file } => {
                let request = AddRepositoryRequest {
                    repository: repository.clone(),
                    project: project.unwrap_or_default(),
                    source: source.unwrap_or_default(),
                    dry_run,
                    reset_secret,
                };
                let code = follow(connection, format, client.add_repository(request).await).await?;
                if let Some(file) = file {
                    write_secret(connection, &repository, &file).await?;
                }
                Ok(code)
            }
            Self::RotateSecret { repository, finish } => {
                let request = RotateSecretRequest { repository, finish };
                follow(connection, format, client.rotate_secret(request).await).await
            }
            Self::Remove { repository } => {
                follow(connection, format, client.remove_repository(RepositoryRequest { repository }).await)
                    .await
            }
            Self::Check { repository } => {
                let answer = client.check_repository(RepositoryRequest { repository }).await;
                let findings = answer.map_err(|s| connection.explain(&s))?.into_inner().findings;
                print(format, &findings, |f: &Vec<Finding>| check::words(f))?;
                let failed = findings.iter().any(|f| f.level() == Level::Failure);
                Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
            }
            Self::List => {
                let answer = client.list_repositories(ListRepositoriesRequest {}).await;
                let all = answer.map_err(|s| connection.explain(&s))?.into_inner().repositories;
                print(format, &all, |all| repositories(all))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::SyncLabels { repository, dry_run } => {
                let request = SyncLabelsRequest { repository: repository.unwrap_or_default(), dry_run };
                let synced = client.sync_labels(request).await.map_err(|s| connection.explain(&s))?;
                print(format, &synced.into_inner().labels, |all| labels(all))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
