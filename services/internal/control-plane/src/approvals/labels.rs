//! The labels the platform keeps on a thread, by its records.

use std::collections::BTreeSet;

use domain::{
    ids::{Id, RepositoryId},
    stage::Labels,
};
use sqlx::PgConnection;

use crate::{
    App,
    publishing::{self, Place},
};

/// What the newest result of an issue says.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    open: bool,
    merged: bool,
    approved: bool,
}

fn of_result(newest: Newest) -> Option<&'static str> {
    match newest {
        Newest { approved: true, open, merged } if open || merged => Some("approved"),
        Newest { open: true, .. } => Some("in-review"),
        Newest { .. } => None,
    }
}

/// The labels of ours that should be on an issue or pull request.
pub(crate) async fn kept(
    tx: &mut PgConnection,
    repository: RepositoryId,
    number: i64,
    labels: &Labels,
) -> sqlx::Result<BTreeSet<String>> {
    let newest = sqlx::query_as!(
        Newest,
        r#"select p.ended_at is null as "open!", p.merged,
                  exists (select from approvals a where a.repository_id = $1 and a.pull_request = p.pull_request_number
                          and a.withdrawn_at is null) as "approved!"
           from publications p join runs r using (run_id)
           where r.repository_id = $1 and r.issue_number = $2 and p.state = 'published' and p.pull_request_number is not null
           order by p.published_at desc, p.created_at desc limit 1"#,
        repository.uuid(),
        number
    )
    .fetch_optional(&mut *tx)
    .await?
    .unwrap_or_default();
    // It was asked which stage is meant, and nothing started since.
    let asked = sqlx::query_scalar!(
        r#"select exists (select from decisions d where d.repository_id = $1 and d.issue_number = $2 and d.reason = 'stage_ambiguous'
               and d.decided_at > coalesce((select max(r.created_at) from runs r
                 where r.repository_id = $1 and (r.issue_number = $2 or r.pull_request = $2)), '-infinity'))
             and not exists (select from publications p join runs r using (run_id)
               where r.repository_id = $1 and p.pull_request_number = $2 and p.ended_at is not null) as "asked!""#,
        repository.uuid(),
        number
    )
    .fetch_one(&mut *tx)
    .await?;
    let mut kept: BTreeSet<String> =
        of_result(newest).map(|name| labels.state_label(name)).into_iter().collect();
    if asked {
        kept.insert(labels.need_label("input"));
    }
    Ok(kept)
}

/// Has labels follow the records: what they say now, after what they said before.
pub(crate) async fn follow(
    tx: &mut PgConnection,
    app: &App,
    place: Place<'_>,
    labels: &Labels,
    before: &BTreeSet<String>,
) -> sqlx::Result<()> {
    let after = kept(tx, place.repository, place.number, labels).await?;
    let add: Vec<String> = after.difference(before).cloned().collect();
    let remove: Vec<String> = before.difference(&after).cloned().collect();
    publishing::change_labels(tx, app, place, &add, &remove).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_result_says_which_label_stands() {
        let of = |open, merged, approved| of_result(Newest { open, merged, approved });
        assert_eq!(of(true, false, false), Some("in-review"));
        assert_eq!(of(true, false, true), Some("approved"));
        assert_eq!(of(false, true, true), Some("approved"));
        assert_eq!(of(false, true, false), None);
        assert_eq!(of(false, false, true), None, "what was thrown away is not approved");
        assert_eq!(of(false, false, false), None);
    }
}
