//! `callboard policy …`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use domain::stage::{Ceilings, Pod, Policy, Stage};
use proto::admin::SimulateRequest;
use serde::Serialize;

use super::{
    CommandError, Result,
    connection::Connection,
    explain,
    output::{Format, plain, print, table},
};
use crate::config::Config;

/// Bytes of a payload.
const MAX_PAYLOAD: u64 = 26_214_400;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Reads DIR/.callboard/stages.yaml under the operator's ceilings, and says what holds.
    Check {
        /// The project's files.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Whose ceilings hold; without one those of the only project of --config.
        #[arg(long)]
        project: Option<String>,
    },
    /// Decides on a payload as if it had just been delivered; changes nothing.
    Simulate {
        /// The payload, as GitHub posts it.
        #[arg(long, value_name = "FILE")]
        event: PathBuf,
        /// The event's name, as in X-GitHub-Event.
        #[arg(long, default_value = "issues")]
        name: String,
        /// owner/name; absent: the only one of the configuration.
        #[arg(long)]
        repository: Option<String>,
    },
}

/// What a project's file comes to.
#[derive(Debug, Serialize)]
struct Checked {
    /// Why the file as a whole does not read.
    problem: Option<String>,
    /// Stages that the file spoils.
    broken: Vec<BrokenStage>,
    /// What was asked for beyond the ceilings.
    clipped: Vec<String>,
    /// The stages that hold.
    stages: std::collections::BTreeMap<String, Stage>,
}

#[derive(Debug, Serialize)]
struct BrokenStage {
    stage: String,
    field: String,
    problem: String,
}

impl Checked {
    fn new(policy: Policy) -> Self {
        let broken = policy.broken.into_iter().map(|(stage, broken)| BrokenStage {
            stage,
            field: broken.field,
            problem: broken.problem,
        });
        Self {
            problem: policy.problem,
            broken: broken.collect(),
            clipped: policy.clipped,
            stages: policy.stages,
        }
    }

    fn is_good(&self) -> bool {
        self.problem.is_none() && self.broken.is_empty()
    }

    fn words(&self) -> String {
        let mut text = String::new();
        if let Some(problem) = &self.problem {
            text.push_str(&format!("✗ {}\n", plain(problem)));
        }
        for broken in &self.broken {
            text.push_str(&format!("✗ {}: {}\n", plain(&broken.field), plain(&broken.problem)));
        }
        for clip in &self.clipped {
            text.push_str(&format!("! {}\n", plain(clip)));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let rows = self.stages.iter().map(|(name, stage)| {
            vec![
                name.clone(),
                plain(&stage.role),
                stage.start.to_string(),
                format!("{} min", stage.time_limit_minutes),
                plain(&stage.write_scope.join(" ")),
                stage.next.join(" "),
            ]
        });
        text + &table(&["stage", "role", "start takes", "time", "may write", "next"], rows)
    }
}

/// The ceilings, and what stages ask of a cluster that do not say it themselves.
fn of_operator(config: Option<&Config>, project: Option<&str>) -> Result<(Ceilings, Pod)> {
    let Some(config) = config else {
        return match project {
            Some(_) => {
                Err(CommandError::Usage("--project needs --config FILE, which has its ceilings".to_owned()))
            }
            None => Ok((Ceilings::default(), Pod::default())),
        };
    };
    let names = || config.projects.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match (project, config.projects.as_slice()) {
        (Some(name), all) => all.iter().find(|p| p.name.as_str() == name).ok_or_else(|| {
            CommandError::Usage(format!("there is no project `{name}`; projects: {}", names()))
        })?,
        (None, [only]) => only,
        (None, []) => return Ok((Ceilings::default(), Pod::default())),
        (None, _) => {
            return Err(CommandError::Usage(format!("name a project with --project: {}", names())));
        }
    };
    Ok((found.ceilings_with(&config.executor), found.pods.clone()))
}

fn read(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(".callboard/stages.yaml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if dir.is_dir() {
                return Ok(None);
            }
            Err(CommandError::Usage(format!("{} is not a folder", dir.display())))
        }
        Err(error) => Err(CommandError::Failed(anyhow::anyhow!("{}: {error}", path.display()))),
    }
}

impl PolicyCommand {
    pub(crate) async fn run(self, config: Option<&Config>, format: Format) -> Result<ExitCode> {
        match self {
            Self::Check { dir, project } => {
                let (ceilings, pods) = of_operator(config, project.as_deref())?;
                let checked = Checked::new(Policy::of_project(read(&dir)?.as_deref(), &ceilings, &pods));
                print(format, &checked, Checked::words)?;
                Ok(if checked.is_good() { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
            Self::Simulate { event, name, repository } => {
                let usage = |problem: String| CommandError::Usage(format!("{}: {problem}", event.display()));
                let size = std::fs::metadata(&event).map_err(|e| usage(e.to_string()))?.len();
                if size > MAX_PAYLOAD {
                    return Err(usage(format!("{size} bytes; a payload has at most {MAX_PAYLOAD}")));
                }
                let body = std::fs::read(&event).map_err(|e| usage(e.to_string()))?;
                let connection = Connection::open(config)?;
                let request =
                    SimulateRequest { repository: repository.unwrap_or_default(), event: name, body };
                let found = connection.client().simulate(request).await;
                let found = found.map_err(|s| connection.explain(&s))?.into_inner();
                print(format, &found, |found| explain::words(std::slice::from_ref(found)))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
