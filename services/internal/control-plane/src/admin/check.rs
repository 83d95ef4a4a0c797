//! The control plane's part of `callboard check`: what was probed, expected, found, and the
//! next step.

mod access;

use chrono::TimeDelta;
use domain::{
    retention::Keep,
    workers::{Standing, written},
};
use proto::admin::{Finding, finding::Level};

use crate::{
    App, audit,
    projects::store::{Repository, enabled},
    recovery, retention, setup,
};

/// What was probed, expected and found, and what to do next.
pub(crate) fn finding(
    level: Level,
    probe: impl Into<String>,
    expected: &str,
    found: impl Into<String>,
    next_step: &str,
) -> Finding {
    Finding {
        level: level.into(),
        probe: probe.into(),
        expected: expected.to_owned(),
        found: found.into(),
        next_step: next_step.to_owned(),
    }
}

/// Do deliveries arrive, and where should they be sent?
async fn webhook(app: &App, repository: &Repository) -> Finding {
    let probe = format!("webhook of {}", repository.name);
    let found = setup::webhook_of(app, &repository.name).await;
    match found {
        Ok(found) => Finding { probe, ..found },
        Err(error) => {
            finding(Level::Failure, probe, "deliveries arrive", error.to_string(), "look at Postgres")
        }
    }
}

/// Is the log sealed, and does it end as it should?
async fn audit_log(app: &App) -> Finding {
    let (probe, expected) = ("audit log", "sealed, each chain's end as it was sealed");
    let health = match audit::health::health(app).await {
        Ok(health) => health,
        Err(error) => {
            return finding(Level::Failure, probe, expected, error.to_string(), "look at Postgres");
        }
    };
    if !health.broken.is_empty() {
        let found = format!("the end of the chain of {} was changed", health.broken.join(", "));
        return finding(Level::Failure, probe, expected, found, "`callboard audit verify` names the rows");
    }
    let day = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let found = format!(
        "sealed up to {}; kept from {}; last checkpoint {}",
        health.sealed,
        health.oldest.map_or_else(|| "now".to_owned(), |month| month.format("%Y-%m").to_string()),
        health.checkpoint_at.map_or_else(|| "none yet".to_owned(), day),
    );
    if health.late > 0 {
        let found = format!("{found}; {} events wait for their number for more than a minute", health.late);
        return finding(Level::Warning, probe, expected, found, "look for `sealer` in the platform's log");
    }
    finding(Level::Ok, probe, expected, found, "")
}

/// What is kept how long, and what was deleted.
async fn kept(app: &App) -> Vec<Finding> {
    let expected = "looked at every hour";
    let done = match retention::done(&app.db).await {
        Ok(done) => done,
        Err(error) => {
            let found = error.to_string();
            return vec![finding(Level::Failure, "retention", expected, found, "look at Postgres")];
        }
    };
    let line = |kind: retention::Kind| {
        let probe = format!("retention of {}", kind.name());
        let keep = kind.keep(app);
        if keep == Keep::Forever {
            return finding(Level::Ok, probe, expected, "kept forever", "");
        }
        // A kind that never went well while the others did is in trouble.
        let others = done.iter().any(|d| app.clock.now() - d.ran_at > TimeDelta::minutes(10));
        let Some(done) = done.iter().find(|d| d.kind == kind.name()) else {
            if others {
                return finding(
                    Level::Warning,
                    probe,
                    expected,
                    format!("kept {keep}; it never went well"),
                    "look for `not deleted` in the platform's log",
                );
            }
            return finding(Level::Ok, probe, expected, format!("kept {keep}; not looked at yet"), "");
        };
        let found = format!(
            "kept {keep}; looked at {}, {} deleted then, {} in all",
            done.ran_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            done.deleted,
            done.deleted_total
        );
        if app.clock.now() - done.ran_at > TimeDelta::hours(3) {
            return finding(
                Level::Warning,
                probe,
                expected,
                found,
                "look for `not deleted` in the platform's log",
            );
        }
        finding(Level::Ok, probe, expected, found, "")
    };
    retention::Kind::ALL.into_iter().map(line).collect()
}

/// Looks at database, code host, repositories and workers.
pub(super) async fn findings(app: &App) -> Vec<Finding> {
    let mut out: Vec<Finding> = app
        .notes
        .iter()
        .map(|note| {
            finding(
                Level::Warning,
                "configuration",
                "a sandbox",
                note.clone(),
                "set executor.local.sandbox: bubblewrap",
            )
        })
        .collect();
    out.push(match sqlx::query_scalar!(r#"select version() as "v!""#).fetch_one(&app.db).await {
        Ok(version) => {
            finding(Level::Ok, "Postgres", "answers", version.split(',').next().unwrap_or_default(), "")
        }
        Err(error) => {
            finding(Level::Failure, "Postgres", "answers", error.to_string(), "look at the server's log")
        }
    });
    out.push(audit_log(app).await);
    out.extend(kept(app).await);
    out.push(access::code_host(app).await);
    match enabled(&app.db).await {
        Ok(repositories) => {
            if repositories.is_empty() {
                out.push(finding(
                    Level::Warning,
                    "repositories",
                    "at least one",
                    "none",
                    "run `callboard repo add OWNER/NAME`",
                ));
            }
            for repository in repositories {
                out.push(webhook(app, &repository).await);
                match recovery::findings(app, &repository).await {
                    Ok(found) => out.extend(found),
                    Err(error) => out.push(finding(
                        Level::Failure,
                        format!("missed deliveries of {}", repository.name),
                        "can be read",
                        error.to_string(),
                        "look at Postgres",
                    )),
                }
                out.extend(access::repository(app, &repository).await);
            }
        }
        Err(error) => out.push(finding(Level::Failure, "repositories", "can be read", error.to_string(), "")),
    }
    let skipped = sqlx::query!(
        r#"select kind, last_error as "last_error!", count(*) as "n!" from effects
           where state = 'skipped' and last_error like '%not offered%' group by kind, last_error"#
    )
    .fetch_all(&app.db)
    .await
    .unwrap_or_default();
    for row in skipped {
        out.push(finding(
            Level::Note,
            format!("effect {}", row.kind),
            "offered by the code host",
            format!("{} ({} times)", row.last_error, row.n),
            "nothing; it is skipped",
        ));
    }
    let dead = sqlx::query_scalar!(r#"select count(*) as "n!" from effects where state = 'dead'"#)
        .fetch_one(&app.db)
        .await
        .unwrap_or_default();
    if dead > 0 {
        out.push(finding(
            Level::Warning,
            "effects",
            "none given up",
            format!("{dead} given up"),
            "`callboard outbox list` shows them with their errors; retry or drop each",
        ));
    }
    let refused = sqlx::query_scalar!(
        r#"select count(*) as "n!" from effects
           where state = 'pending' and last_error like 'the code host refuses our credential%'"#
    )
    .fetch_one(&app.db)
    .await
    .unwrap_or_default();
    if refused > 0 {
        out.push(finding(
            Level::Failure,
            "effects",
            "the code host takes our credential",
            format!("it refuses it, and {refused} wait"),
            "put a credential in its place that works; what waits goes on by itself",
        ));
    }
    match crate::pauses::standing(&app.db).await {
        Ok(pauses) => out.extend(pauses.iter().map(|pause| {
            let next = format!("`{}` ends it", pause.subject.remedy());
            finding(Level::Warning, "pause", "work starts", pause.words(), &next)
        })),
        Err(error) => out.push(finding(Level::Failure, "pauses", "can be read", error.to_string(), "")),
    }
    match crate::workers::list(app).await {
        Ok(workers) if workers.is_empty() => out.push(finding(
            Level::Failure,
            "workers",
            "at least one",
            "none",
            "enrol one: callboard worker enroll --project NAME",
        )),
        Ok(workers) => out.extend(workers.iter().map(worker)),
        Err(error) => out.push(finding(Level::Failure, "workers", "can be read", error.to_string(), "")),
    }
    out.extend(refused_agent_runs(app).await);
    out
}

/// Was it ever here, and may it have runs?
fn worker(worker: &proto::admin::Worker) -> Finding {
    let seen = if worker.last_seen_at.is_empty() { "never" } else { &worker.last_seen_at };
    let mut found = format!("{seen}; projects {}", worker.projects.join(", "));
    let mut next = String::new();
    let mut level = if worker.last_seen_at.is_empty() { Level::Warning } else { Level::Ok };
    if !worker.ignored_labels.is_empty() {
        let ignored = written(&worker.ignored_labels);
        found.push_str(&format!("; says that it has {ignored}, and was not enrolled with it"));
        "take it out of worker.labels there, or enrol it anew with --label".clone_into(&mut next);
        level = Level::Warning;
    }
    if worker.state != Standing::Ready.as_str() {
        found.push_str(&format!("; {}, {} attempts", worker.state, worker.running));
        next = format!("`callboard worker uncordon {}` lets it have runs again", worker.name);
        level = Level::Warning;
    }
    finding(level, format!("worker {}", worker.name), "was here", found, &next)
}

/// Objects in clusters that the platform did not make, of the last week.
async fn refused_agent_runs(app: &App) -> Option<Finding> {
    let (probe, expected) = ("agent runs", "made by the platform only");
    let newest = sqlx::query!(
        r#"select namespace, name, found_at, count(*) over () as "n!" from foreign_objects
           where found_at > $1 order by found_at desc limit 1"#,
        app.clock.now() - TimeDelta::days(7)
    );
    match newest.fetch_optional(&app.db).await {
        Ok(None) => None,
        Ok(Some(row)) => {
            let at = row.found_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            let found = format!(
                "{} of somebody else in the last 7 days, which got nothing; the last {at}: {} in {}",
                row.n, row.name, row.namespace
            );
            let next = format!(
                "find out who may write there, and `kubectl -n {} delete arun {}`",
                row.namespace, row.name
            );
            Some(finding(Level::Warning, probe, expected, found, &next))
        }
        Err(error) => Some(finding(Level::Failure, probe, expected, error.to_string(), "look at Postgres")),
    }
}
