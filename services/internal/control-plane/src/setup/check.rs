//! What `repo add` sets up, looked at.

use chrono::SecondsFormat;
use domain::{
    names::{APP_SOURCE, RepositoryName},
    rights::Permission,
};
use forge::ForgeError;
use proto::admin::{Finding, finding::Level};

use super::{
    access,
    arrival::explain,
    hook::{address, by_hand, differences, ours},
    progress::Halt,
    record::known,
    store::{Managed, Record, last_delivery},
};
use crate::{App, policies};

fn finding(
    level: Level,
    probe: &str,
    expected: &str,
    found: impl Into<String>,
    next: impl Into<String>,
) -> Finding {
    Finding {
        level: level.into(),
        probe: probe.to_owned(),
        expected: expected.to_owned(),
        found: found.into(),
        next_step: next.into(),
    }
}

/// Everything about one repository.
pub(crate) async fn check(app: &App, name: &RepositoryName) -> Result<Vec<Finding>, Halt> {
    let record = known(app, name).await?;
    let mut findings = vec![credential(app).await, repository(app, &record).await];
    findings.push(match app.forge.access(&record.repository.name).await {
        Ok(access) => permissions(&access),
        Err(error) => {
            let next = "check the credential, and that it covers the repository";
            finding(Level::Failure, "permissions", "as runs need", error.to_string(), next)
        }
    });
    findings.push(webhook(app, &record).await);
    findings.push(labels(app, &record).await);
    findings.push(rules(app, &record).await);
    findings.push(deliveries(app, &record).await?);
    if let (Managed::Command, Some(since)) = (record.managed, record.rotated_at) {
        let found =
            format!("two secrets are good since {}", since.to_rfc3339_opts(SecondsFormat::Secs, true));
        let (level, next) = if record.owes_secret() {
            (
                Level::Warning,
                format!("`callboard repo rotate-secret {name}` goes on: the webhook has the old one"),
            )
        } else {
            (Level::Note, format!("`callboard repo rotate-secret {name} --finish` ends it; so does a day"))
        };
        findings.push(finding(level, "secret", "one", found, next));
    }
    Ok(findings)
}

async fn credential(app: &App) -> Finding {
    let (probe, expected) = ("credential", "the code host takes it");
    match app.forge.identity().await {
        Ok(login) => finding(Level::Ok, probe, expected, format!("acts as {login}"), ""),
        Err(error) => finding(
            Level::Failure,
            probe,
            expected,
            error.to_string(),
            "`callboard check` says what to look at",
        ),
    }
}

async fn repository(app: &App, record: &Record) -> Finding {
    let (probe, expected) = ("repository", "there, takes changes");
    match app.forge.repository(&record.repository.name).await {
        Ok(found) if found.archived => {
            let next = format!("unarchive it, or run `callboard repo remove {}`", record.repository.name);
            finding(Level::Failure, probe, expected, "it is archived", next)
        }
        Ok(found) => match found.our_permission {
            Some(permission) if permission < Permission::Write => finding(
                Level::Failure,
                probe,
                "write permission",
                permission.to_string(),
                "give the token contents, issues and pull requests: read and write",
            ),
            Some(_) | None => {
                finding(Level::Ok, probe, expected, format!("default branch {}", found.default_branch), "")
            }
        },
        Err(error) => finding(
            Level::Failure,
            probe,
            expected,
            error.to_string(),
            "check the name, and that the credential may see it",
        ),
    }
}

fn permissions(held: &forge::Access) -> Finding {
    let (probe, expected) = ("permissions", "as runs need");
    let missing: Vec<String> = held
        .missing
        .iter()
        .map(|(capability, name)| format!("{name} ({})", access::breaks(*capability)))
        .collect();
    match (missing.is_empty(), held.is_incomplete) {
        (true, false) => finding(Level::Ok, probe, expected, "all are there", ""),
        (true, true) => finding(Level::Ok, probe, expected, "the code host does not tell all of them", ""),
        (false, _) => finding(
            if held.missing.iter().any(|(capability, _)| access::is_needed(*capability)) {
                Level::Failure
            } else {
                Level::Warning
            },
            probe,
            expected,
            format!("missing: {}", missing.join(", ")),
            "give the credential these permissions",
        ),
    }
}

/// Is there a webhook that sends us what we need, and did the last delivery arrive?
async fn webhook(app: &App, record: &Record) -> Finding {
    let probe = "webhook";
    if !record.repository.own_hook {
        return finding(
            Level::Ok,
            probe,
            "one that sends to us",
            "the App has one for all its repositories",
            "",
        );
    }
    let (url, name) = (address(app, &record.repository), &record.repository.name);
    let expected = format!("sends what we need to {url}");
    let mend = format!("`callboard repo add {name}` mends it");
    let hooks = match app.forge.hooks(name).await {
        Ok(hooks) => hooks,
        Err(ForgeError::Denied { .. } | ForgeError::Missing { .. } | ForgeError::Unsupported { .. }) => {
            let found = "our credential may not see the repository's webhooks";
            return finding(Level::Warning, probe, &expected, found, by_hand(app, record));
        }
        Err(
            error @ (ForgeError::Limited { .. }
            | ForgeError::BadCredential { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Invalid { .. }
            | ForgeError::Outage { .. }),
        ) => {
            return finding(Level::Failure, probe, &expected, error.to_string(), "look again later");
        }
    };
    let Some(hook) = ours(&hooks, record.hook, &url) else {
        return finding(Level::Failure, probe, &expected, "there is none", mend);
    };
    let wrong = differences(hook, &url);
    if !wrong.is_empty() {
        return finding(Level::Failure, probe, &expected, wrong.join(", "), mend);
    }
    match &hook.last_response {
        Some((status, _)) if !(200..300).contains(status) => {
            let (found, next) = explain(hook.last_response.as_ref(), &url, &name.to_string(), record.managed);
            finding(Level::Failure, probe, &expected, format!("the last delivery: {found}"), next)
        }
        Some((status, _)) => finding(
            Level::Ok,
            probe,
            &expected,
            format!("to {url}; the last delivery was taken ({status})"),
            "",
        ),
        None => finding(Level::Ok, probe, &expected, format!("to {url}; it has not sent anything yet"), ""),
    }
}

async fn labels(app: &App, record: &Record) -> Finding {
    let (probe, expected) = ("labels", "all of the rules are there");
    match policies::sync_labels(app, &record.repository, "", true).await {
        Ok(labels) => {
            let off = labels.iter().filter(|(_, o)| *o != policies::Outcome::Unchanged).count();
            if off == 0 {
                return finding(Level::Ok, probe, expected, format!("all {}", labels.len()), "");
            }
            let next = format!("`callboard repo sync-labels {}` makes them", record.repository.name);
            finding(
                Level::Warning,
                probe,
                expected,
                format!("{off} of {} are missing or differ", labels.len()),
                next,
            )
        }
        Err(error) => finding(Level::Failure, probe, expected, error.to_string(), "look again later"),
    }
}

async fn rules(app: &App, record: &Record) -> Finding {
    let (probe, expected) = ("rules", "the project's file reads");
    match policies::read_only(app, &record.repository).await {
        Ok(policy) => match &policy.problem {
            Some(problem) => {
                let next = "`callboard policy check` in a clone shows it; until then the last ones hold";
                finding(Level::Failure, probe, expected, problem.clone(), next)
            }
            None => finding(Level::Ok, probe, expected, format!("{} stages", policy.stages.len()), ""),
        },
        Err(error) => finding(Level::Failure, probe, expected, error.to_string(), "look again later"),
    }
}

/// A repository's webhook and deliveries in one line.
pub(crate) async fn webhook_of(app: &App, name: &RepositoryName) -> Result<Finding, Halt> {
    let record = known(app, name).await?;
    if !record.repository.own_hook {
        let arrive = deliveries(app, &record).await?;
        let url = address(app, &record.repository);
        return Ok(Finding { found: format!("by the App's, to {url}; {}", arrive.found), ..arrive });
    }
    let (hook, arrive) = (webhook(app, &record).await, deliveries(app, &record).await?);
    let found = format!("{}; {}", hook.found, arrive.found);
    Ok(if hook.level == i32::from(Level::Ok) {
        Finding { found, ..arrive }
    } else {
        Finding { found, ..hook }
    })
}

async fn deliveries(app: &App, record: &Record) -> Result<Finding, Halt> {
    let (probe, expected) = ("deliveries", "they arrive");
    let repository = &record.repository;
    let source = if repository.own_hook { repository.source.as_str() } else { APP_SOURCE };
    Ok(match last_delivery(&app.db, source).await? {
        Some(at) => {
            let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            finding(Level::Ok, probe, expected, format!("the last one at {at}"), "")
        }
        None if !repository.own_hook => {
            let next = format!(
                "set the App's webhook to {}, with the secret of github.app.webhook_secret_file; its settings list what was sent",
                address(app, repository)
            );
            finding(Level::Warning, probe, expected, "none ever did", next)
        }
        None => {
            let next = format!("`callboard repo add {}` sends a test delivery", repository.name);
            finding(Level::Warning, probe, expected, "none ever did", next)
        }
    })
}
