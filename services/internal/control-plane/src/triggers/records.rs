//! What our records say about an issue or pull request.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    decision::{Admission, Decision, Event, Happening, Record, ResultRecord, RunRef, Thread},
    ids::{Id, RepositoryId, RunId},
    run::{RunKind, RunState},
    stage::{Labels, Meaning, Policy},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    App, approvals, discussions,
    projects::store::Repository,
    runs::{self, Run, RunError},
};

/// Runs that are looked at, newest first.
const LOOKED_AT: i64 = 200;

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// The issue a pull request is for: the one its run was for.
pub(super) async fn linked_issue(
    db: &mut PgConnection,
    repository: RepositoryId,
    pull: u64,
) -> sqlx::Result<Option<u64>> {
    let issue = sqlx::query_scalar!(
        "select r.issue_number from publications p join runs r using (run_id)
         where r.repository_id = $1 and p.pull_request_number = $2 order by p.created_at desc limit 1",
        repository.uuid(),
        signed(pull),
    )
    .fetch_optional(db)
    .await?;
    Ok(issue.map(unsigned))
}

/// Was this pull request opened by a run of ours?
pub(super) async fn is_ours(
    db: &mut PgConnection,
    repository: RepositoryId,
    pull: u64,
) -> sqlx::Result<bool> {
    Ok(linked_issue(db, repository, pull).await?.is_some())
}

/// The parameter labels that are on a thread, and who set them last as far as we saw.
pub(super) async fn setters(
    db: &mut PgConnection,
    repository: RepositoryId,
    on: &Thread,
    labels: &Labels,
) -> sqlx::Result<Vec<(String, Option<String>)>> {
    let mut found = Vec::new();
    for label in &on.labels {
        match labels.meaning(label) {
            Some(Meaning::Model(_) | Meaning::Reasoning(_)) => {}
            Some(
                Meaning::Run(_)
                | Meaning::Revise(_)
                | Meaning::Preview(_)
                | Meaning::Reviewer
                | Meaning::Discussion
                | Meaning::State(_)
                | Meaning::Need(_),
            )
            | None => continue,
        }
        let setter = sqlx::query_scalar!(
            "select set_by from parameter_labels where repository_id = $1 and number = $2 and label = $3",
            repository.uuid(),
            signed(on.number),
            label.to_lowercase(),
        )
        .fetch_optional(&mut *db)
        .await?;
        found.push((label.clone(), setter));
    }
    Ok(found)
}

/// A run of an issue or a pull request.
#[derive(Clone, Debug)]
struct Touching {
    reference: RunRef,
    issue: i64,
    chain: i32,
}

async fn touching(
    tx: &mut PgConnection,
    repository: RepositoryId,
    issue: i64,
    pull: Option<i64>,
) -> Result<Vec<Touching>, RunError> {
    let rows = sqlx::query!(
        r#"select r.run_id, r.issue_number, r.stage, r.kind, r.state, r.state_kind, r.created_at, r.actor, r.chain,
                  coalesce(r.pull_request, (select max(p.pull_request_number) from publications p where p.run_id = r.run_id)) as pull
           from runs r
           where r.repository_id = $1
             and (r.issue_number = $2 or r.pull_request = $3
                  or exists (select from publications p where p.run_id = r.run_id and p.pull_request_number = $3))
           order by r.created_at desc, r.run_id desc limit $4"#,
        repository.uuid(),
        issue,
        pull,
        LOOKED_AT,
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let damaged = |what: &str| RunError::Damaged {
                table: "runs",
                id: row.run_id,
                problem: format!("{what} is not one"),
            };
            let state = RunState::from_columns(&row.state, row.state_kind.as_deref())
                .ok_or_else(|| damaged(&row.state))?;
            Ok(Touching {
                reference: RunRef {
                    id: RunId::from_uuid(row.run_id).to_string(),
                    kind: RunKind::parse(&row.kind).ok_or_else(|| damaged(&row.kind))?,
                    stage: row.stage,
                    since: row.created_at,
                    actor: row.actor,
                    pull: row.pull.map(unsigned),
                    is_final: state.is_final(),
                },
                issue: row.issue_number,
                chain: row.chain,
            })
        })
        .collect()
}

async fn results(
    tx: &mut PgConnection,
    repository: RepositoryId,
    issue: i64,
) -> sqlx::Result<Vec<ResultRecord>> {
    let rows = sqlx::query!(
        r#"select p.run_id, r.stage, r.actor, p.pull_request_number as "pull!", coalesce(p.head_sha, p.commit_sha) as head,
                  p.ended_at is null as "open!", p.merged
           from publications p join runs r using (run_id)
           where r.repository_id = $1 and r.issue_number = $2 and p.state = 'published' and p.pull_request_number is not null
           order by p.published_at, p.created_at"#,
        repository.uuid(),
        issue,
    )
    .fetch_all(&mut *tx)
    .await?;
    let pulls: Vec<i64> = rows.iter().map(|row| row.pull).collect();
    let approvals = approvals::standing(tx, repository, &pulls).await?;
    rows.iter()
        .map(|row| {
            // All results of a pull request have its head, which the newest one knows.
            let newest = rows.iter().rfind(|other| other.pull == row.pull);
            let head = newest.and_then(|newest| newest.head.as_deref()).map(str::parse).transpose();
            Ok(ResultRecord {
                run: RunId::from_uuid(row.run_id).to_string(),
                stage: row.stage.clone(),
                asked_by: row.actor.clone(),
                pull: unsigned(row.pull),
                head: head.map_err(|e| {
                    sqlx::Error::Decode(format!("publications of {}: {e}", row.run_id).into())
                })?,
                open: row.open,
                merged: row.merged,
                approval: approvals.get(&row.pull).cloned(),
            })
        })
        .collect()
}

/// What our records say, and how much was started; the issue is locked.
pub(super) async fn of(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    event: &Event,
    policy: &Policy,
) -> Result<(Record, Admission), RunError> {
    let Some(on) = event.happening.on() else { return Ok((Record::default(), usual(app))) };
    let linked_issue = match &on.pull {
        Some(_) => linked_issue(tx, repository.id, on.number).await?,
        None => None,
    };
    let issue = signed(linked_issue.unwrap_or(on.number));
    let pull = on.pull.as_ref().map(|_| signed(on.number));
    let under_way = runs::under_way(tx, repository.id, issue).await?;
    let behind = match &under_way {
        Some(run) => runs::behind(tx, run.id).await?,
        None => None,
    };
    let touching = touching(tx, repository.id, issue, pull).await?;
    let reference = |run: &Run| {
        let id = run.id.to_string();
        touching
            .iter()
            .find(|t| t.reference.id == id)
            .map_or_else(|| run.reference(), |t| t.reference.clone())
    };
    let find =
        |wanted: &dyn Fn(&Touching) -> bool| touching.iter().find(|t| wanted(t)).map(|t| t.reference.clone());
    let record = Record {
        linked_issue,
        ours: linked_issue.is_some(),
        under_way: under_way.as_ref().map(reference),
        behind: behind.as_ref().map(reference),
        results: results(tx, repository.id, issue).await?,
        issue_labels: Vec::new(),
        last_of_pull: pull.and_then(|pull| find(&|t| t.reference.pull == Some(unsigned(pull)))),
        last_of_issue: find(&|t| t.issue == issue && t.reference.kind.publishes_changes()),
        discussion: discussions::open_on(&mut *tx, repository.id, issue).await?,
        parameters: Vec::new(),
        kept_labels: approvals::kept(tx, repository.id, signed(on.number), &policy.labels).await?,
        last_final: find(&|t| t.issue == issue && t.reference.is_final),
    };
    let leads = continued(event, policy, &record, &touching);
    let admission = admission(tx, app, repository, event, issue, leads).await?;
    Ok((record, admission))
}

/// The run a new one would go on from, by how long its chain is.
fn continued(event: &Event, policy: &Policy, record: &Record, touching: &[Touching]) -> u32 {
    let chain = |run: Option<&str>| {
        let run = touching.iter().find(|t| Some(t.reference.id.as_str()) == run)?;
        u32::try_from(run.chain).ok()
    };
    let of_pull = || record.last_of_pull.as_ref().map(|run| run.id.as_str());
    let run = match &event.happening {
        Happening::Labeled { label, on } => match policy.labels.meaning(label) {
            Some(Meaning::Revise(stage)) if on.pull.is_none() => {
                record.results.iter().rfind(|r| r.open && r.stage == stage).map(|r| r.run.as_str())
            }
            Some(
                Meaning::Run(_)
                | Meaning::Revise(_)
                | Meaning::Preview(_)
                | Meaning::Reviewer
                | Meaning::Discussion
                | Meaning::Model(_)
                | Meaning::Reasoning(_)
                | Meaning::State(_)
                | Meaning::Need(_),
            )
            | None => of_pull(),
        },
        Happening::Commented { on, .. } if on.pull.is_none() => {
            touching.iter().find(|t| t.reference.kind == RunKind::Discussion).map(|t| t.reference.id.as_str())
        }
        Happening::Commented { .. }
        | Happening::Unlabeled { .. }
        | Happening::Closed { .. }
        | Happening::Deleted { .. }
        | Happening::TransferredAway { .. }
        | Happening::Synchronized { .. }
        | Happening::Reopened { .. }
        | Happening::Reviewed { .. }
        | Happening::ReviewDismissed { .. }
        | Happening::Pushed { .. }
        | Happening::Installation { .. }
        | Happening::Repository { .. }
        | Happening::Other => of_pull(),
    };
    chain(run).map_or(0, |chain| chain.saturating_add(1))
}

fn usual(app: &App) -> Admission {
    let limits = &app.limits;
    Admission {
        actor_today: (0, limits.actor_per_day),
        repository_today: (0, limits.repository_per_day),
        of_issue: (0, limits.per_issue),
        chain: (0, limits.chain),
    }
}

async fn admission(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    event: &Event,
    issue: i64,
    chain: u32,
) -> sqlx::Result<Admission> {
    let since: DateTime<Utc> = app.clock.now() - TimeDelta::days(1);
    let actor = event.actor.as_ref().map(|actor| actor.login.to_lowercase());
    let counts = sqlx::query!(
        r#"select (select count(*) from runs where lower(actor) = $1 and created_at > $4) as "of_actor!",
                  (select count(*) from runs where repository_id = $2 and created_at > $4) as "of_repository!",
                  (select count(*) from runs where repository_id = $2 and issue_number = $3) as "of_issue!""#,
        actor,
        repository.id.uuid(),
        issue,
        since,
    )
    .fetch_one(tx)
    .await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let usual = usual(app);
    Ok(Admission {
        actor_today: (count(counts.of_actor), usual.actor_today.1),
        repository_today: (count(counts.of_repository), usual.repository_today.1),
        of_issue: (count(counts.of_issue), usual.of_issue.1),
        chain: (chain, usual.chain.1),
    })
}

/// Remembers who set a parameter label, or that it was taken off.
pub(super) async fn note_parameter(
    tx: &mut PgConnection,
    repository: RepositoryId,
    (number, label): (u64, &str),
    setter: Option<(&str, DateTime<Utc>)>,
) -> sqlx::Result<()> {
    let label = label.to_lowercase();
    match setter {
        Some((login, at)) => sqlx::query!(
            "insert into parameter_labels (repository_id, number, label, set_by, set_at) values ($1, $2, $3, $4, $5)
             on conflict (repository_id, number, label) do update set set_by = excluded.set_by, set_at = excluded.set_at",
            repository.uuid(),
            signed(number),
            label,
            login,
            at,
        )
        .execute(tx)
        .await?,
        None => sqlx::query!(
            "delete from parameter_labels where repository_id = $1 and number = $2 and label = $3",
            repository.uuid(),
            signed(number),
            label,
        )
        .execute(tx)
        .await?,
    };
    Ok(())
}

/// The run whose session a new one of this kind goes on with, and the length of its chain.
pub(super) async fn to_continue(
    tx: &mut PgConnection,
    repository: RepositoryId,
    kind: RunKind,
    (issue, pull): (u64, Option<u64>),
    stage: &str,
) -> sqlx::Result<Option<(RunId, i32)>> {
    let found: Option<(Uuid, i32)> = match (kind, pull) {
        (RunKind::Revise, Some(pull)) => sqlx::query!(
            "select r.run_id, r.chain from runs r
             where r.repository_id = $1 and r.stage = $3 and r.kind in ('work', 'revise')
               and (r.pull_request = $2 or exists (select from publications p where p.run_id = r.run_id and p.pull_request_number = $2))
             order by r.created_at desc limit 1",
            repository.uuid(),
            signed(pull),
            stage,
        )
        .fetch_optional(tx)
        .await?
        .map(|row| (row.run_id, row.chain)),
        (RunKind::Discussion, _) => sqlx::query!(
            "select r.run_id, r.chain from runs r join discussions d
               on d.repository_id = r.repository_id and d.issue_number = r.issue_number and d.closed_at is null
             where r.repository_id = $1 and r.issue_number = $2 and r.kind = 'discussion' and r.created_at >= d.opened_at
             order by r.created_at desc limit 1",
            repository.uuid(),
            signed(issue),
        )
        .fetch_optional(tx)
        .await?
        .map(|row| (row.run_id, row.chain)),
        (RunKind::Work | RunKind::Revise | RunKind::Review, _) => None,
    };
    Ok(found.map(|(run, chain)| (RunId::from_uuid(run), chain)))
}

/// The turn of a discussion that waits hears this word, too. False when it cannot any more: it
/// comes forward with what was said before.
pub(super) async fn heard_by(
    tx: &mut PgConnection,
    run: RunId,
    received_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let heard = sqlx::query!(
        "update runs set received_at = greatest(received_at, $2)
         where run_id = $1 and kind = 'discussion' and state = 'queued' and prompt_key is null",
        run.uuid(),
        received_at,
    )
    .execute(tx)
    .await?;
    Ok(heard.rows_affected() == 1)
}

/// How often labels of an issue were put back since then.
pub(super) async fn put_back_since(
    tx: &mut PgConnection,
    repository: RepositoryId,
    number: u64,
    since: DateTime<Utc>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from decisions
           where repository_id = $1 and issue_number = $2 and decision = 'keep_labels' and decided_at > $3"#,
        repository.uuid(),
        signed(number),
        since,
    )
    .fetch_one(tx)
    .await
}

/// Labels of the thread that our records keep, taken before and after what a decision does.
pub(super) fn threads(event: &Event, record: &Record, decision: &Decision) -> BTreeSet<u64> {
    let started = if let Decision::Start(start) = decision { start.pull } else { None };
    event.happening.number().into_iter().chain(record.linked_issue).chain(started).collect()
}
