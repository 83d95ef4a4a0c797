//! `callboard run …`

use clap::Subcommand;
use proto::admin::{
    Changeset, GetRunRequest, ListRunsRequest, LogsRequest, Run, RunActionRequest, RunDetail,
};

use super::{
    Result,
    connection::Connection,
    output::{Format, line, plain, print, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// The newest runs.
    List {
        /// Only this project's.
        #[arg(long)]
        project: Option<String>,
        /// Only those in this state: queued, active, waiting, succeeded, failed, cancelled.
        #[arg(long)]
        state: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Everything about one run.
    Get {
        /// The run's id.
        id: String,
    },
    /// What the agent and its runner say.
    Logs {
        /// The run's id.
        id: String,
        /// Go on until the run is over.
        #[arg(long, short)]
        follow: bool,
    },
    /// Ends a run at once.
    Cancel {
        /// The run's id.
        id: String,
        /// Shown on the issue.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Starts a run again that is over.
    Retry {
        /// The run's id.
        id: String,
    },
    /// The files a run would change: what is kept of a held or refused result.
    Changeset {
        /// The run's id.
        id: String,
    },
    /// Publishes what is held, as it is.
    Release {
        /// The run's id.
        id: String,
        /// Shown on the pull request.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Files that `run get` shows; `run changeset` shows more.
const GET_FILES: usize = 20;

fn state(run: &Run) -> String {
    if run.class.is_empty() { run.state.clone() } else { format!("{} ({})", run.state, run.class) }
}

fn first_line(text: &str) -> String {
    let line = plain(text.lines().next().unwrap_or_default());
    if line.chars().count() > 100 { line.chars().take(99).chain(['…']).collect() } else { line }
}

fn list(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "No runs. Put a `run:dev` label on an issue.".to_owned();
    }
    let rows = runs.iter().map(|r| {
        vec![
            r.id.clone(),
            format!("{}#{}", r.repository, r.issue),
            r.stage.clone(),
            state(r),
            r.created_at.clone(),
            first_line(&r.message),
        ]
    });
    table(&["run", "issue", "stage", "state", "since", ""], rows)
}

fn detail(detail: &RunDetail) -> String {
    let Some(run) = &detail.run else { return String::new() };
    let mut out = Vec::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push(format!("{name:<13} {}", plain(value)));
        }
    };
    fact("run", &run.id);
    fact("issue", &format!("{}#{} {}", run.repository, run.issue, run.issue_url));
    fact("stage", &run.stage);
    fact("state", &state(run));
    fact("", &run.message.lines().map(plain).collect::<Vec<_>>().join(" "));
    fact("asked for by", &run.actor);
    fact("retry of", &detail.retry_of);
    fact("base", &detail.base_sha);
    fact("prompt", &detail.prompt_digest);
    fact("publication", &detail.publication_state);
    fact("pull request", &run.pull_request_url);
    fact("comment", &detail.comment_url);
    fact("trace", &detail.trace_id);
    for finding in &detail.findings {
        fact("finding", finding);
    }
    if let Some(changeset) = &detail.changeset {
        for file in changeset.files.iter().take(GET_FILES) {
            fact("file", &format!("{} {} {}", file.change, file.mode, file.path));
        }
        if changeset.files_total as usize > GET_FILES {
            fact("", &format!("{} files; `callboard run changeset {}`", changeset.files_total, run.id));
        }
    }
    if let Some(t) = &detail.timings_ms {
        let parts = [
            ("decided", t.received_to_decided),
            ("leased", t.received_to_leased),
            ("comment", t.received_to_comment),
            ("running", t.received_to_running),
            ("returned", t.received_to_returned),
            ("pull request", t.received_to_pull_request),
            ("finished", t.received_to_finished),
        ];
        let shown: Vec<String> =
            parts.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms:.0}"))).collect();
        fact("ms", &shown.join(" · "));
    }
    for note in &detail.notes {
        fact("deleted", note);
    }
    for attempt in &detail.attempts {
        fact(
            "attempt",
            &format!(
                "{} {} on {} ({}) {}",
                attempt.number,
                attempt.state,
                attempt.worker,
                attempt.isolation,
                first_line(&attempt.message)
            ),
        );
        fact("", &attempt.start_note);
        if !attempt.waits_for.is_empty() {
            fact("", &format!("waits: {}", attempt.waits_for));
        }
        if let Some(checkpoint) = &attempt.checkpoint {
            let files = if checkpoint.files == 1 { "file" } else { "files" };
            fact(
                "",
                &format!(
                    "checkpoint {} at {}: {} {files}, {} bytes",
                    checkpoint.number, checkpoint.taken_at, checkpoint.files, checkpoint.bytes
                ),
            );
        }
    }
    for event in &detail.events {
        fact(
            event.at.get(11..23).unwrap_or_default(),
            &format!("{:<18} {}", event.kind, first_line(&event.text)),
        );
    }
    for effect in detail.effects.iter().filter(|e| {
        e.state == "dead"
            || e.state == "pending"
            || (e.state == "skipped" && e.last_error.contains("not offered"))
    }) {
        fact(
            "effect",
            &format!(
                "{} {} after {} tries: {}",
                effect.kind, effect.state, effect.attempts, effect.last_error
            ),
        );
    }
    out.join("\n")
}

fn changeset(changeset: &Changeset) -> String {
    let rows = changeset
        .files
        .iter()
        .map(|f| vec![plain(&f.path), f.change.clone(), f.mode.clone(), f.bytes.to_string()]);
    let mut text = format!(
        "{}\n\n{} files against {}; sha256 {}",
        table(&["path", "change", "mode", "bytes"], rows),
        changeset.files_total,
        changeset.base_sha,
        changeset.digest
    );
    if changeset.files_total as usize > changeset.files.len() {
        text.push_str(&format!("; the first {} are shown", changeset.files.len()));
    }
    text
}

impl RunCommand {
    pub(crate) async fn run(self, connection: &Connection, format: Format) -> Result<()> {
        let mut client = connection.client();
        let explain = |status| connection.explain(&status);
        match self {
            Self::List { project, state, limit } => {
                let request = ListRunsRequest {
                    project: project.unwrap_or_default(),
                    state: state.unwrap_or_default(),
                    limit,
                };
                let runs = client.list_runs(request).await.map_err(explain)?.into_inner().runs;
                print(format, &runs, |runs| list(runs))
            }
            Self::Get { id } => {
                let run = client.get_run(GetRunRequest { id }).await.map_err(explain)?.into_inner();
                print(format, &run, detail)
            }
            Self::Logs { id, follow } => {
                let mut lines =
                    client.logs(LogsRequest { run_id: id, follow }).await.map_err(explain)?.into_inner();
                while let Some(log) = lines.message().await.map_err(explain)? {
                    match format {
                        Format::Table => line(&format!(
                            "{} {:<6} {}",
                            log.at.get(11..19).unwrap_or_default(),
                            log.stream,
                            plain(&log.text)
                        ))?,
                        Format::Json => line(&serde_json::to_string(&log)?)?,
                        Format::Yaml => line(&format!("---\n{}", serde_yaml::to_string(&log)?.trim_end()))?,
                    }
                }
                Ok(())
            }
            Self::Cancel { id, reason } => {
                let done =
                    client.cancel_run(RunActionRequest { id, reason }).await.map_err(explain)?.into_inner();
                print(format, &done, |d| plain(&d.message))
            }
            Self::Retry { id } => {
                let done = client
                    .retry_run(RunActionRequest { id, reason: String::new() })
                    .await
                    .map_err(explain)?
                    .into_inner();
                print(format, &done, |d| plain(&d.message))
            }
            Self::Changeset { id } => {
                let run =
                    client.get_run(GetRunRequest { id: id.clone() }).await.map_err(explain)?.into_inner();
                let kept = run.changeset.ok_or_else(|| {
                    anyhow::anyhow!(
                        "nothing is kept of what run {id} changed; `callboard run get {id}` shows its findings"
                    )
                })?;
                print(format, &kept, changeset)
            }
            Self::Release { id, reason } => {
                let done =
                    client.release_run(RunActionRequest { id, reason }).await.map_err(explain)?.into_inner();
                print(format, &done, |d| plain(&d.message))
            }
        }
    }
}
