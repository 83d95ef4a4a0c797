//! The object in a cluster that stands for an attempt: what is stored of it, who takes it over, and
//! what becomes of one that is found.

use chrono::TimeDelta;
use domain::{
    cluster::{self, Found, Stored, Verdict},
    ids::{AttemptId, Id, ProjectId, WorkerId, WorkerProcessId},
    neutralise::visible,
    run::AttemptState,
};
use proto::v1::{ClusterObject, Declaration};
use serde_json::json;
use sqlx::PgConnection;

use super::{
    attempt_calls::cut,
    attempts::{self, Attempt},
    lease::lease_seconds,
    store::{self, Run, RunError},
};
use crate::{
    App, audit,
    steps::{self, Step},
    workers::{self, Arrival},
};

/// Bytes of what is said to be a digest that are kept.
const MAX_DIGEST_BYTES: usize = 100;
/// Objects of somebody else in a namespace that are noted in a day; the others are counted.
const NOTED_A_DAY: i64 = 100;

/// Does it have the name and the namespace that this attempt's object has?
pub(super) fn is_of(object: &ClusterObject, run: &Run, attempt: AttemptId) -> bool {
    object.namespace == cluster::namespace(&run.project_name, run.project)
        && object.name == cluster::object_name(attempt)
}

pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn is_uid(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// May a cluster have it? People are told its name in commands they may paste.
pub(super) fn is_possible(object: &ClusterObject) -> bool {
    cluster::is_namespace(&object.namespace) && cluster::is_name(&object.name) && is_uid(&object.uid)
}

/// As rules see it.
pub(super) fn found(object: &ClusterObject) -> Found {
    Found { digest: object.digest.clone(), uid: object.uid.clone() }
}

/// What is stored of an attempt's object; `None` before it was planned.
pub(super) async fn stored(tx: &mut PgConnection, attempt: AttemptId) -> Result<Option<Stored>, RunError> {
    let row = sqlx::query!(
        "select object_digest, object_uid, state from attempts where attempt_id = $1",
        attempt.uuid()
    )
    .fetch_one(tx)
    .await?;
    row.object_digest.map(|digest| of_row(attempt, digest, row.object_uid, &row.state)).transpose()
}

fn of_row(id: AttemptId, digest: String, uid: Option<String>, state: &str) -> Result<Stored, RunError> {
    let state = AttemptState::parse(state).ok_or_else(|| RunError::Damaged {
        table: "attempts",
        id: id.uuid(),
        problem: format!("state {state} is not one"),
    })?;
    Ok(Stored { digest, uid, is_live: state.is_live() })
}

/// Stores what is going to be made. The attempt's run is locked.
pub(super) async fn plan(
    tx: &mut PgConnection,
    attempt: AttemptId,
    object: &ClusterObject,
) -> sqlx::Result<()> {
    let updated = sqlx::query!(
        "update attempts set object_namespace = $2, object_name = $3, object_digest = $4
         where attempt_id = $1 and object_uid is null",
        attempt.uuid(),
        object.namespace,
        object.name,
        object.digest,
    )
    .execute(tx)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Stores what the cluster calls it. The attempt's run is locked.
pub(super) async fn name(tx: &mut PgConnection, attempt: AttemptId, uid: &str) -> sqlx::Result<()> {
    let updated = sqlx::query!(
        "update attempts set object_uid = $2 where attempt_id = $1 and object_uid is null",
        attempt.uuid(),
        uid
    )
    .execute(tx)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// What a new process of a worker goes on with.
pub(super) struct Adopted {
    pub(super) attempts: Vec<(Run, Attempt, ClusterObject)>,
    /// Of the projects it is enrolled for.
    pub(super) namespaces: Vec<String>,
}

/// Makes a process the present one of its worker and gives it the attempts of the one before, as
/// far as something was planned for them; the earlier process's leases are old from then on. `None`
/// when a later process is there. Asked again it answers the same.
pub(super) async fn adopt(
    app: &App,
    worker: WorkerId,
    process: WorkerProcessId,
    declaration: &Declaration,
) -> Result<Option<Adopted>, RunError> {
    let mut tx = app.db.begin().await?;
    match workers::arrive(&mut tx, app, worker, Some(process), Some(declaration)).await? {
        Arrival::New | Arrival::Present => {}
        Arrival::Superseded => return Ok(None),
    }
    let live = sqlx::query!(
        "select attempt_id, run_id from attempts
         where worker_id = $1 and state in ('leased', 'preparing', 'running') and object_name is not null order by run_id",
        worker.uuid()
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut attempts = Vec::with_capacity(live.len());
    for row in live {
        // Whoever ends an attempt has its run locked: it is over by now, or it is adopted.
        let Some(run) = store::lock(&mut tx, Id::from_uuid(row.run_id)).await? else { continue };
        let taken = sqlx::query!(
            r#"update attempts a set process_id = $2, lease_expires_at = now() + make_interval(secs => $3),
                 fence = a.fence + case when a.process_id is distinct from $2 then 1 else 0 end
               from attempts was
               where a.attempt_id = $1 and was.attempt_id = $1 and a.state in ('leased', 'preparing', 'running')
               returning was.process_id is distinct from $2 as "is_new!", a.object_namespace as "namespace!",
                 a.object_name as "name!", a.object_digest as "digest!", a.object_uid"#,
            row.attempt_id,
            process.uuid(),
            f64::from(lease_seconds(true)),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(taken) = taken else { continue };
        let id = AttemptId::from_uuid(row.attempt_id);
        let attempt = attempts::get(&mut *tx, id).await?.ok_or(sqlx::Error::RowNotFound)?;
        if taken.is_new {
            let text = format!(
                "Worker `{}` was started again and goes on with attempt {}.",
                attempt.worker_name, attempt.number
            );
            store::event(&mut tx, app, run.id, "attempt_adopted", &text).await?;
        }
        let object = ClusterObject {
            namespace: taken.namespace,
            name: taken.name,
            digest: taken.digest,
            uid: taken.object_uid.unwrap_or_default(),
        };
        attempts.push((run, attempt, object));
    }
    let projects = sqlx::query!(
        "select p.project_id, p.name from worker_projects wp join projects p using (project_id)
         where wp.worker_id = $1 order by p.name",
        worker.uuid()
    )
    .fetch_all(&mut *tx)
    .await?;
    steps::commit(tx, Step::AttemptsAdopted).await?;
    let namespaces =
        projects.iter().map(|p| cluster::namespace(&p.name, ProjectId::from_uuid(p.project_id))).collect();
    Ok(Some(Adopted { attempts, namespaces }))
}

/// What becomes of an object that a worker found. One that nobody asked for is noted, once.
pub(super) async fn judge(app: &App, worker: WorkerId, object: &ClusterObject) -> Result<Verdict, RunError> {
    let row = sqlx::query!(
        r#"select attempt_id, worker_id, object_digest as "digest!", object_uid, state from attempts
           where object_namespace = $1 and object_name = $2"#,
        object.namespace,
        object.name,
    )
    .fetch_optional(&app.db)
    .await?;
    let is_anothers = row.as_ref().is_some_and(|row| row.worker_id != worker.uuid());
    let stored = row
        .map(|row| of_row(AttemptId::from_uuid(row.attempt_id), row.digest, row.object_uid, &row.state))
        .transpose()?;
    let verdict = match cluster::judge(stored.as_ref(), &found(object)) {
        // Several workers see a project's namespace, and its own may be about to report it.
        Verdict::Recreate if is_anothers => Verdict::Ours,
        verdict @ (Verdict::Ours | Verdict::Recreate | Verdict::Over | Verdict::Foreign) => verdict,
    };
    match verdict {
        Verdict::Foreign => note_foreign(app, worker, object).await?,
        Verdict::Ours | Verdict::Recreate | Verdict::Over => {}
    }
    Ok(verdict)
}

async fn note_foreign(app: &App, worker: WorkerId, object: &ClusterObject) -> sqlx::Result<()> {
    let ClusterObject { namespace, name, digest, uid } = object;
    let digest = visible(cut(digest, MAX_DIGEST_BYTES)).replace('\0', "");
    let mut tx = app.db.begin().await?;
    let projects = sqlx::query!(
        "select p.project_id, p.name from worker_projects wp join projects p using (project_id) where wp.worker_id = $1",
        worker.uuid()
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut projects = projects.into_iter().map(|row| (ProjectId::from_uuid(row.project_id), row.name));
    // What a worker says goes into the records of its own projects only.
    let Some((project, _)) = projects.find(|(id, name)| cluster::namespace(name, *id) == *namespace) else {
        tracing::warn!(namespace, worker_id = %worker, "a worker tells of a namespace that is none of its own");
        return Ok(());
    };
    let noted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from foreign_objects where namespace = $1 and found_at > $2"#,
        namespace,
        app.clock.now() - TimeDelta::days(1),
    )
    .fetch_one(&mut *tx)
    .await?;
    if noted >= NOTED_A_DAY {
        metrics::counter!("callboard_agent_runs_refused_total").increment(1);
        return Ok(());
    }
    let new = sqlx::query!(
        "insert into foreign_objects (uid, worker_id, namespace, name, found_at) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        uid,
        worker.uuid(),
        namespace,
        name,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    if new.rows_affected() == 0 {
        return Ok(());
    }
    let by = sqlx::query_scalar!("select name from workers where worker_id = $1", worker.uuid())
        .fetch_one(&mut *tx)
        .await?;
    audit::record_sentence(
        &mut tx,
        &*app.clock,
        &app.ids,
        &format!(
            "AgentRun `{name}` in namespace `{namespace}` was not made by the platform: it gets nothing."
        ),
        audit::Entry {
            project: Some(project),
            actor: &format!("worker:{by}"),
            action: "agent_run.refused",
            subject: format!("agent_run:{namespace}/{name}"),
            detail: json!({ "uid": uid, "digest": digest }),
            trace_id: None,
        },
    )
    .await?;
    steps::commit(tx, Step::ForeignObjectNoted).await?;
    metrics::counter!("callboard_agent_runs_refused_total").increment(1);
    tracing::warn!(
        namespace,
        name,
        uid,
        worker = by,
        "an AgentRun that the platform did not make gets nothing"
    );
    Ok(())
}
