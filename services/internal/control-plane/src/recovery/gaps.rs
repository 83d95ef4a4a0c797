//! Times in which something was missed: put into one sentence when they are over, and shown by
//! `callboard check`.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::Id;
use proto::admin::{Finding, finding::Level};
use serde_json::json;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{
    hooks::{State, address},
    store,
};
use crate::{
    App,
    admin::check::finding,
    audit,
    projects::store::Repository,
    steps::{self, Step},
};

/// How long a gap is shown.
const SHOWN: TimeDelta = TimeDelta::days(7);

/// What was missed from when to when, and what became of it.
#[derive(Clone, Debug)]
struct Gap {
    gap_id: Uuid,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    /// Labels that no delivery told of.
    reconciled: i64,
    redelivered: i64,
    fetched: i64,
    given_up: i64,
    open: i64,
}

fn count(number: i64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

impl Gap {
    /// `gap 14:02–14:09, 3 deliveries recovered, 1 label reconciled`
    fn sentence(&self) -> String {
        let minute = |at: DateTime<Utc>| at.format("%H:%M").to_string();
        let (from, to) = (minute(self.started_at), minute(self.ended_at));
        let days = (self.ended_at.date_naive() - self.started_at.date_naive()).num_days();
        let to = if days > 0 { format!("{to} (+{days} d)") } else { to };
        let mut words = if from == to { format!("gap {from}") } else { format!("gap {from}–{to}") };
        let recovered = self.redelivered + self.fetched;
        let parts = [
            (recovered, count(recovered, "delivery recovered", "deliveries recovered")),
            (self.reconciled, count(self.reconciled, "label reconciled", "labels reconciled")),
            (
                self.given_up,
                count(self.given_up, "delivery could not be recovered", "deliveries could not be recovered"),
            ),
            (self.open, count(self.open, "delivery is still asked for", "deliveries are still asked for")),
        ];
        for (_, part) in parts.into_iter().filter(|(number, _)| *number > 0) {
            words.push_str(", ");
            words.push_str(&part);
        }
        words
    }
}

/// The gaps of a repository that ended after a time, newest first; without one, those that are not
/// closed yet. Five at most.
async fn of(
    db: impl PgExecutor<'_>,
    repository: &Repository,
    since: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<Gap>> {
    sqlx::query_as!(
        Gap,
        r#"select gap_id, started_at, ended_at, reconciled::bigint as "reconciled!",
                  (select count(*) from missed_deliveries m where m.gap_id = g.gap_id and recovered_at is not null and fetched_at is null) as "redelivered!",
                  (select count(*) from missed_deliveries m where m.gap_id = g.gap_id and fetched_at is not null) as "fetched!",
                  (select count(*) from missed_deliveries m where m.gap_id = g.gap_id and given_up_at is not null) as "given_up!",
                  (select count(*) from missed_deliveries m where m.gap_id = g.gap_id and recovered_at is null and given_up_at is null) as "open!"
           from gaps g where repository_id = $1 and case when $2::timestamptz is null then closed_at is null else ended_at > $2 end
           order by ended_at desc limit 5"#,
        repository.id.uuid(),
        since,
    )
    .fetch_all(db)
    .await
}

/// Closes the repository's gap when nothing of it is looked for any more, and says what it was.
pub(super) async fn close(app: &App, repository: &Repository) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    let gap = of(&mut *tx, repository, None).await?.into_iter().find(|gap| gap.open == 0);
    let Some(gap) = gap else { return Ok(()) };
    let closed = sqlx::query!(
        "update gaps set closed_at = $2 where gap_id = $1 and closed_at is null",
        gap.gap_id,
        app.clock.now()
    )
    .execute(&mut *tx)
    .await?;
    if closed.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    let sentence = gap.sentence();
    audit::record_sentence(
        &mut tx,
        &*app.clock,
        &app.ids,
        &sentence,
        audit::Entry {
            project: Some(repository.project),
            actor: "platform",
            action: "deliveries.gap_closed",
            subject: format!("repository:{}", repository.name),
            detail: json!({
                "from": gap.started_at, "to": gap.ended_at, "redelivered": gap.redelivered,
                "fetched": gap.fetched, "reconciled": gap.reconciled, "given_up": gap.given_up,
            }),
            trace_id: None,
        },
    )
    .await?;
    steps::commit(tx, Step::GapClosed).await?;
    tracing::warn!(repository = %repository.name, from = %gap.started_at, to = %gap.ended_at, "{sentence}");
    Ok(())
}

/// The part of `check` about one repository: whether missed deliveries can be found, and what was
/// missed in the last days.
pub(crate) async fn findings(app: &App, repository: &Repository) -> sqlx::Result<Vec<Finding>> {
    let probe = format!("missed deliveries of {}", repository.name);
    let expected = "they are found and made up for";
    let mut out = Vec::new();
    let known = store::hook(&app.db, repository).await?;
    let hours = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    out.push(match known {
        None => finding(Level::Note, probe.as_str(), expected, "not looked for yet", "wait a few minutes"),
        Some(known) => match known.state {
            State::On => {
                let found = known.looked_to.map_or_else(
                    || "not looked for yet".to_owned(),
                    |to| format!("looked for up to {}", hours(to)),
                );
                finding(Level::Ok, probe.as_str(), expected, found, "")
            }
            State::NoRight => finding(
                Level::Warning,
                probe.as_str(),
                expected,
                "the credential may not see the repository's webhook, so only labels that stand are looked up",
                "give the token the permission `Webhooks: read and write` (classic: `admin:repo_hook`); it is tried again every hour",
            ),
            State::NoHook => {
                let next = format!("point the repository's webhook at {}", address(app, repository));
                finding(Level::Warning, probe.as_str(), expected, "no webhook sends to the platform's address", &next)
            }
        },
    });
    for gap in of(&app.db, repository, Some(app.clock.now() - SHOWN)).await? {
        let found = format!("{}: {}", gap.started_at.format("%Y-%m-%d"), gap.sentence());
        let (level, next) = if gap.given_up > 0 {
            (Level::Warning, "`Recent Deliveries` of the webhook shows what else happened then")
        } else {
            (Level::Note, "")
        };
        out.push(finding(level, format!("gap of {}", repository.name), "none", found, next));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_gap_is_one_sentence() {
        let at = |day, hour, minute| {
            Utc.with_ymd_and_hms(2026, 3, day, hour, minute, 30).single().expect("a point in time")
        };
        let gap = |started_at, ended_at, counts: [i64; 5]| {
            let [redelivered, fetched, reconciled, given_up, open] = counts;
            let gap_id = Uuid::nil();
            Gap { gap_id, started_at, ended_at, reconciled, redelivered, fetched, given_up, open }.sentence()
        };
        assert_eq!(
            gap(at(4, 14, 2), at(4, 14, 9), [2, 1, 1, 0, 0]),
            "gap 14:02–14:09, 3 deliveries recovered, 1 label reconciled"
        );
        assert_eq!(gap(at(4, 14, 2), at(4, 14, 2), [1, 0, 0, 0, 0]), "gap 14:02, 1 delivery recovered");
        assert_eq!(
            gap(at(4, 23, 50), at(5, 0, 9), [0, 0, 2, 1, 3]),
            "gap 23:50–00:09 (+1 d), 2 labels reconciled, 1 delivery could not be recovered, 3 deliveries are still asked for"
        );
    }
}
