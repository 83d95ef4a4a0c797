//! Runs in every situation that people are told about, for the tests of these texts.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    changeset::{Change, Changeset, FileChange, Finding, FindingCode, Mode},
    ids::{AttemptId, DecisionId, Id, ProjectId, PublicationId, RepositoryId, RunId, WorkerId},
    names::CommitSha,
    run::{AttemptState, PublicationState, RunKind, RunState},
    stage::Policy,
};
use uuid::Uuid;

use crate::{
    publishing::{
        Publication,
        about::{About, Asked, How},
    },
    runs::{Attempt, IssueSnapshot, Run},
};

/// When the samples were asked for.
pub(super) fn began() -> DateTime<Utc> {
    "2026-11-22T14:02:10Z".parse().expect("a time")
}

pub(super) fn after(seconds: i64) -> DateTime<Utc> {
    began() + TimeDelta::seconds(seconds)
}

fn id<T: Id>(n: u128) -> T {
    T::from_uuid(Uuid::from_u128(0x0199_aa00_0000_7000_8000_0000_0000_0000 + n))
}

pub(super) fn run_id(n: u128) -> RunId {
    id(n)
}

pub(super) fn decision() -> DecisionId {
    id(0x40)
}

pub(super) fn sha(digit: char) -> CommitSha {
    digit.to_string().repeat(40).parse().expect("a hash")
}

/// A run of `dev` on issue 7, asked for by `mona`.
pub(super) fn run(state: RunState, message: &str) -> Run {
    Run {
        id: run_id(7),
        project: id::<ProjectId>(1),
        project_name: "demo".to_owned(),
        repository_id: id::<RepositoryId>(2),
        repository: "octocat/hello-world".parse().expect("a name"),
        issue_number: 7,
        stage: "dev".to_owned(),
        kind: RunKind::Work,
        pull_request: None,
        continues: None,
        behind: None,
        definition: Policy::built_in().get("dev").expect("a stage").clone(),
        model: None,
        reasoning: None,
        language: "en".to_owned(),
        chain: 0,
        steering_sha: None,
        review_base_sha: None,
        state,
        message: message.to_owned(),
        actor: "mona".to_owned(),
        trace_id: "t".to_owned(),
        retry_of: None,
        base_branch: Some("main".to_owned()),
        base_sha: Some(sha('a')),
        issue: Some(IssueSnapshot {
            title: "Say hello to the moon".to_owned(),
            body: "Please.".to_owned(),
            author: "octocat".to_owned(),
            url: "https://github.com/octocat/hello-world/issues/7".to_owned(),
        }),
        prompt_key: Some(format!("p/prompts/{}", "5".repeat(64))),
        input_changeset_key: None,
        no_worker: None,
        received_at: began(),
        created_at: after(1),
        finished_at: state.is_final().then(|| after(600)),
    }
}

/// The same as another kind of run, about pull request 12.
pub(super) fn run_of_kind(kind: RunKind, state: RunState, message: &str) -> Run {
    let stage = match kind {
        RunKind::Work | RunKind::Revise => "dev",
        RunKind::Review => "review",
        RunKind::Discussion => "discussion",
    };
    let pull_request = match kind {
        RunKind::Revise | RunKind::Review => Some(12),
        RunKind::Work | RunKind::Discussion => None,
    };
    let definition = Policy::built_in().get(stage).expect("a stage").clone();
    let continues = (kind == RunKind::Revise).then(|| run_id(5));
    Run { kind, stage: stage.to_owned(), pull_request, definition, continues, ..run(state, message) }
}

/// An attempt of that number; it begins a minute after the one before.
pub(super) fn attempt(number: i32, state: AttemptState, message: &str) -> Attempt {
    let leased = 3 + i64::from(number - 1) * 300;
    let ended = (!state.is_live()).then(|| after(leased + 280));
    let ran = !matches!(state, AttemptState::Leased | AttemptState::Preparing);
    Attempt {
        id: id::<AttemptId>(0x10 + u128::from(number.unsigned_abs())),
        run: run_id(7),
        number,
        worker: id::<WorkerId>(3),
        worker_name: "local".to_owned(),
        in_cluster: false,
        state,
        fence: i64::from(number),
        deadline_at: after(3600),
        isolation: Some("bubblewrap 0.11, uid 90001, cgroup limits".to_owned()),
        unsandboxed: false,
        message: message.to_owned(),
        waits_for: None,
        is_drained: false,
        summary: Some("Added a greeting for the moon.".to_owned()),
        restored_from: None,
        session_from: None,
        start_note: String::new(),
        leased_at: after(leased),
        running_at: ran.then(|| after(leased + 2)),
        returned_at: (state == AttemptState::Returned).then_some(ended).flatten(),
        ended_at: ended,
    }
}

/// What became of the result of an attempt.
pub(super) fn publication(attempt: &Attempt, state: PublicationState, findings: Vec<Finding>) -> Publication {
    let published = state == PublicationState::Published;
    Publication {
        id: id::<PublicationId>(0x20),
        attempt: attempt.id,
        state,
        findings,
        branch: published.then(|| "callboard/7-dev".to_owned()),
        commit: published.then(|| sha('c')),
        pull_request_number: published.then_some(12),
        pull_request_url: published.then(|| "https://github.com/octocat/hello-world/pull/12".to_owned()),
        created_at: attempt.ended_at.unwrap_or_else(began),
        published_at: published.then(|| after(600)),
        changeset_key: Some("p/changesets/d".to_owned()),
        head_moved_to: None,
        released_by: None,
    }
}

pub(super) fn protected() -> Finding {
    Finding {
        code: FindingCode::ProtectedPath,
        path: Some("AGENTS.md".to_owned()),
        sentence: "`AGENTS.md` is protected (what steers agents); a person has to look at it first."
            .to_owned(),
    }
}

/// Asked for by a label, nothing tried yet.
pub(super) fn about(attempts: Vec<Attempt>, publication: Option<Publication>) -> About {
    let url = Some("https://github.com/octocat/hello-world/issues/7".to_owned());
    About {
        attempts,
        publication,
        pause: None,
        asked: Asked { how: How::Label, url },
        policy: Policy::built_in().into(),
    }
}

pub(super) fn changeset() -> Changeset {
    let file = |path: &str, change| FileChange { path: path.as_bytes().to_vec(), change };
    let put = |content: &str| Change::Put { mode: Mode::Regular, content: content.as_bytes().to_vec() };
    Changeset {
        base: sha('a'),
        files: vec![
            file("src/greeting.rs", put("pub fn greet() {}\n")),
            file("src/main.rs", put("fn main() {}\n")),
            file("old.txt", Change::Delete),
        ],
    }
}
