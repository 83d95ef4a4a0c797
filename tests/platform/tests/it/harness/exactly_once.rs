//! What must be so once everything is settled, whatever was killed on the way: nothing lost,
//! nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgPool;
use webhook_simulator::Simulator;

/// Where the end is looked at.
pub(crate) struct Seen<'a> {
    pub(crate) github: &'a Simulator,
    pub(crate) hook: u64,
    pub(crate) db: &'a PgPool,
}

#[derive(Debug, sqlx::FromRow)]
struct RunRow {
    id: String,
    repository: String,
    kind: String,
    /// Where its status comment is.
    thread: i64,
    state: String,
    class: Option<String>,
    publication: Option<String>,
    pull_request: Option<i64>,
}

/// Sentences about what is not as it must be.
pub(crate) async fn violations(site: &Seen<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let runs: Vec<RunRow> = sqlx::query_as(
        "select r.run_id::text as id, o.full_name as repository, r.kind, case r.kind when 'review' then r.pull_request else r.issue_number end as thread, r.state, r.state_kind as class, p.state as publication,
                p.pull_request_number as pull_request
         from runs r join repositories o using (repository_id) left join lateral
           (select * from publications p where p.run_id = r.run_id order by p.created_at desc limit 1) p on true
         order by r.created_at",
    )
    .fetch_all(site.db)
    .await
    .expect("the runs");
    wrong.extend(untold_moves(site).await);
    let repositories: BTreeSet<&str> = runs.iter().map(|run| run.repository.as_str()).collect();
    let mut pulls = Vec::new();
    for repository in repositories {
        let here = site.github.pull_requests(repository);
        let mut by_head: BTreeMap<&str, u32> = BTreeMap::new();
        for pull in &here {
            *by_head.entry(&pull.head).or_default() += 1;
        }
        wrong.extend(
            by_head.iter().filter(|(_, n)| **n > 1).map(|(head, n)| format!("{n} pull requests of {head}")),
        );
        pulls.extend(here);
    }

    for run in &runs {
        let mark = format!("<!-- callboard:run={} -->", run.id);
        let thread = u64::try_from(run.thread).expect("a number");
        let comments: Vec<String> = site
            .github
            .comments(&run.repository, thread)
            .into_iter()
            .filter(|c| c.author == "octocat" && c.body.contains(&mark))
            .map(|c| c.body)
            .collect();
        if comments.len() != 1 {
            wrong.push(format!("run {} ({}) has {} comments of its own", run.id, run.state, comments.len()));
        }
        let headline = match run.state.as_str() {
            // The answer itself.
            "succeeded" if run.kind == "discussion" => "",
            "succeeded" => "✅",
            "cancelled" => "🛑",
            "waiting" => "✋",
            "failed" => match run.class.as_deref() {
                Some("timed_out") => "⌛",
                Some("policy") => "🚫",
                _ => "❌",
            },
            other => {
                wrong.push(format!("run {} is {other}", run.id));
                ""
            }
        };
        if comments.first().is_some_and(|text| !text.contains(headline)) {
            wrong.push(format!("the comment of run {} ({}) says: {}", run.id, run.state, comments[0]));
        }
        let mine: Vec<_> = pulls.iter().filter(|p| p.body.contains(&mark)).collect();
        let published = run.publication.as_deref() == Some("published");
        if mine.len() > 1 || (published && mine.len() != 1) {
            wrong.push(format!("run {} ({}) has {} pull requests", run.id, run.state, mine.len()));
        }
        if mine.len() == 1 && run.pull_request != i64::try_from(mine[0].number).ok() {
            wrong.push(format!("run {} does not know its pull request {}", run.id, mine[0].number));
        }
        if published {
            let report = format!("<!-- callboard:report={} -->", run.id);
            let number = run.pull_request.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
            let reports = site.github.comments(&run.repository, number);
            let reports = reports.iter().filter(|c| c.body.contains(&report)).count();
            if reports != 1 {
                wrong.push(format!("run {} has {reports} reports", run.id));
            }
        }
    }
    wrong.extend(labels_without_a_decision(site).await);
    wrong.extend(one_decision_each(site).await);
    wrong.extend(dead(site).await);
    wrong
}

/// A trigger label that still stands means: no decision yet.
async fn labels_without_a_decision(site: &Seen<'_>) -> Vec<String> {
    let issues: Vec<(String, i64)> = sqlx::query_as(
        "select distinct full_name, issue_number from decisions join repositories using (repository_id)
         where issue_number is not null order by full_name, issue_number",
    )
    .fetch_all(site.db)
    .await
    .expect("decisions");
    issues
        .into_iter()
        .filter_map(|(repository, issue)| {
            let labels = site.github.labels(&repository, u64::try_from(issue).expect("a number"));
            let triggers = |l: &String| l.starts_with("run:") || l == "need:reviewer";
            let standing: Vec<_> = labels.into_iter().filter(triggers).collect();
            (!standing.is_empty()).then(|| format!("on issue {repository}#{issue} still stands {standing:?}"))
        })
        .collect()
}

/// Every delivery of GitHub's is stored once and decided once.
async fn one_decision_each(site: &Seen<'_>) -> Vec<String> {
    let sent: BTreeSet<String> =
        site.github.deliveries(site.hook).into_iter().filter(|d| d.event != "ping").map(|d| d.guid).collect();
    let decided: Vec<String> =
        sqlx::query_scalar("select guid from deliveries join decisions using (delivery_id)")
            .fetch_all(site.db)
            .await
            .expect("decisions");
    let once: BTreeSet<String> = decided.iter().cloned().collect();
    let mut wrong: Vec<_> = sent.difference(&once).map(|guid| format!("delivery {guid} was lost")).collect();
    if once.len() != decided.len() {
        wrong.push(format!("{} deliveries have {} decisions", once.len(), decided.len()));
    }
    wrong
}

async fn dead(site: &Seen<'_>) -> Vec<String> {
    sqlx::query_scalar("select 'effect ' || kind || ' was given up: ' || coalesce(last_error, '') from effects where state = 'dead'")
        .fetch_all(site.db)
        .await
        .expect("effects")
}

/// Moves of runs that the log of events does not tell: each goes on from where the one before
/// ended, and the last one ends where the run is.
async fn untold_moves(site: &Seen<'_>) -> Vec<String> {
    sqlx::query_scalar(
        "with moves as (
           select run_id, ordinal, detail ->> 'from' as went_from, detail ->> 'to' as went_to,
                  coalesce(lag(detail ->> 'to') over (partition by run_id order by ordinal), 'queued') as was
           from events where action like 'run.%' and detail ? 'from' and detail ? 'to')
         select 'run ' || run_id || ' went from ' || went_from || ' and was ' || was from moves where went_from <> was
         union all
         select 'run ' || r.run_id || ' is ' || r.state || ', and the log tells of ' || coalesce(l.went_to, 'queued')
         from runs r left join lateral
           (select went_to from moves m where m.run_id = r.run_id order by ordinal desc limit 1) l on true
         where coalesce(l.went_to, 'queued') not like r.state || '%'",
    )
    .fetch_all(site.db)
    .await
    .expect("the moves")
}
