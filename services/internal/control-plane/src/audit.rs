//! The audit log: a row with every decision and every transition, in the same transaction,
//! never changed afterwards (the database refuses it).

use domain::{
    clock::Clock,
    ids::{AuditId, Id, Ids, ProjectId},
};
use serde_json::Value;
use sqlx::PgConnection;

/// One row.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Absent for what concerns the whole platform.
    pub(crate) project: Option<ProjectId>,
    /// Who: a login, `uid:0`, `worker:local`, `platform`.
    pub(crate) actor: &'a str,
    /// `run.started`
    pub(crate) action: &'a str,
    /// `run:0198…`
    pub(crate) subject: String,
    pub(crate) detail: Value,
    pub(crate) trace_id: Option<&'a str>,
}

/// Adds a row to the transaction.
pub(crate) async fn record(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &Ids,
    entry: Entry<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into audit (audit_id, project_id, happened_at, actor, action, subject, detail, trace_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        ids.next::<AuditId>().uuid(),
        entry.project.map(Id::uuid),
        clock.now(),
        entry.actor,
        entry.action,
        entry.subject,
        entry.detail,
        entry.trace_id,
    )
    .execute(tx)
    .await?;
    Ok(())
}
