//! Every kind of effect, and everything GitHub may answer it with. Whatever that is: at the end
//! there is one of everything, or one sentence that tells a person what is missing and why.
//!
//! Each fault has an issue of its own, on which all kinds meet it: a run, its revision, a review.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use proto::admin::{EffectActionRequest, ListEffectsRequest, RunDetail, list_effects_request::Wanted};
use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};
use telemetry::steps::Step;
use webhook_simulator::{Fault, Script};

use crate::harness::{GO, REPOSITORY, Seen, Setup, World, filtered, violations};

/// What passes by itself: everything is done once, and nobody has to do anything.
const PASSING: [Fault; 6] = [
    Fault::Refuse(500),
    Fault::AppliedThen(502),
    Fault::LoseAnswer,
    Fault::SecondaryLimit(30),
    Fault::PrimaryLimit(90),
    Fault::Refuse(401),
];

/// What does not pass by waiting: it is left out, or a person decides.
const LASTING: [Fault; 6] = [
    Fault::PermissionTaken,
    Fault::Refuse(404),
    Fault::Refuse(410),
    Fault::AlreadyExists,
    Fault::Invalid,
    Fault::Refuse(409),
];

/// Stories told at the same time.
const LANES: usize = 3;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(240);

/// The request of each kind of effect in the story of an issue, and a text in it.
fn requests(told: &Told) -> Vec<(Step, String, Option<String>)> {
    let Told { issue, pull, branch, run, comment, .. } = told;
    let here = format!("/repos/{REPOSITORY}");
    let any = "/repos/{owner}/{repo}";
    let status = if told.revises {
        (format!("PATCH {any}/issues/comments/{{comment}}"), Some(run.clone()))
    } else {
        (format!("POST {here}/issues/{issue}/comments"), None)
    };
    vec![
        (Step::CallStatusComment, status.0, status.1),
        (
            Step::CallComment,
            format!("POST {any}/issues/{{number}}/comments"),
            Some(format!("callboard:report={run}")),
        ),
        (Step::CallSoleComment, format!("DELETE {here}/issues/comments/{comment}"), None),
        (Step::CallRemoveLabel, format!("DELETE {here}/issues/{issue}/labels/*"), None),
        (Step::CallAddLabels, format!("POST {here}/issues/{issue}/labels"), None),
        (Step::CallReact, format!("POST {here}/issues/{issue}/reactions"), None),
        (Step::CallReactToComment, format!("POST {any}/issues/comments/{{comment}}/reactions"), None),
        (Step::CallCommit, format!("POST {any}/git/commits"), Some(run.clone())),
        (Step::CallBranch, format!("POST {any}/git/refs"), Some(format!("callboard/{issue}-dev\""))),
        (Step::CallPullRequest, format!("POST {any}/pulls"), Some(run.clone())),
        (Step::CallMoveBranch, format!("PATCH {here}/git/refs/heads/{branch}"), None),
        (Step::CallUpdatePullRequest, format!("PATCH {here}/pulls/{pull}"), None),
        (Step::CallReview, format!("POST {here}/pulls/{pull}/reviews"), None),
        (Step::CallProgress, format!("POST {any}/statuses/{{sha}}"), Some(format!("dev for #{issue}: done"))),
    ]
}

/// One fault's story.
#[derive(Clone, Debug)]
struct Told {
    fault: Fault,
    issue: u64,
    /// The newest run.
    run: String,
    revises: bool,
    /// The pull request and its branch, once there is one.
    pull: u64,
    branch: String,
    /// A second comment.
    comment: u64,
}

impl Told {
    fn new(fault: Fault, issue: u64) -> Self {
        Self { fault, issue, run: String::new(), revises: false, pull: 0, branch: String::new(), comment: 0 }
    }

    fn lasts(&self) -> bool {
        LASTING.contains(&self.fault)
    }
}

/// What became of kinds of effects: a sentence, and the kinds it was said of.
type Outcomes = BTreeMap<(String, String), BTreeSet<String>>;

/// The world of all stories, and what was said in them.
struct Matrix {
    world: World,
    db: PgPool,
    /// Steps whose request met the fault.
    met: Mutex<BTreeSet<(&'static str, String)>>,
    outcomes: Mutex<Outcomes>,
}

impl Matrix {
    async fn start() -> Self {
        let config = json!({ "executor": { "local": { "capacity": 3 } } });
        let world = World::with(Setup { config, ..Setup::default() }).await;
        let db =
            PgPoolOptions::new().max_connections(2).connect(&world.database.url).await.expect("Postgres");
        Self { world, db, met: Mutex::new(BTreeSet::new()), outcomes: Mutex::new(Outcomes::new()) }
    }

    /// The next request of each of these steps goes wrong.
    fn strike(&self, told: &Told, steps: &[Step]) {
        for (step, request, holding) in requests(told) {
            if steps.contains(&step) {
                let script = Script::new(told.fault, &request);
                self.world.github.script(holding.iter().fold(script, |script, text| script.holding(text)));
                self.met.lock().expect("no panic").insert((step.name(), told.fault.to_string()));
            }
        }
    }

    fn say(&self, told: &Told, kind: &str, outcome: &str) {
        let key = (told.fault.to_string(), outcome.to_owned());
        self.outcomes.lock().expect("no panic").entry(key).or_default().insert(kind.to_owned());
    }

    async fn dead(&self, run: &str) -> Vec<proto::admin::OutboxEffect> {
        let request = ListEffectsRequest { wanted: Wanted::Dead.into() };
        let all = self.world.admin().list_effects(request).await.expect("effects").into_inner().effects;
        all.into_iter().filter(|effect| effect.run_id == run).collect()
    }

    async fn pending(&self, run: &str) -> i64 {
        let count = "select count(*) from effects where run_id = $1::uuid and state = 'pending'";
        sqlx::query_scalar(count).bind(run).fetch_one(&self.db).await.expect("a count")
    }

    /// A person who reads what is said and has it tried again, until the run is over.
    async fn see_through(&self, told: &Told) -> RunDetail {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let detail = self.world.get(&told.run).await;
            let run = detail.run.clone().expect("a run");
            let dead = self.dead(&told.run).await;
            let over = run.state == "succeeded" && self.pending(&told.run).await == 0;
            if over && dead.is_empty() {
                // With what was said of its last effects since it was read.
                return self.world.get(&told.run).await;
            }
            let waits = run.state == "waiting";
            for effect in dead {
                if waits == (effect.kind != "status_comment") && (waits || over) {
                    if waits {
                        assert!(run.message.contains(&effect.last_error), "{run:#?} {effect:#?}");
                        assert!(run.message.contains("callboard outbox retry"), "{run:#?}");
                    }
                    let request = EffectActionRequest { id: effect.id.clone() };
                    self.world.admin().retry_effect(request).await.expect("retried");
                }
            }
            assert!(
                tokio::time::Instant::now() < until,
                "{}: {detail:#?} {:#?}",
                told.fault,
                self.world.platform().control_plane().work_left().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the run's events and outbox say of effects that were not simply done.
    async fn note(&self, told: &Told, detail: &RunDetail) {
        let mut said: BTreeSet<(String, String)> = BTreeSet::new();
        for event in &detail.events {
            let (kind, sentence) = event.text.split_once(": ").unwrap_or_default();
            match event.kind.as_str() {
                "effect_skipped" => said.insert((kind.to_owned(), format!("left out: {sentence}"))),
                "effect_dead" => said.insert((kind.to_owned(), format!("a person decides: {sentence}"))),
                _ => false,
            };
        }
        let pointless: Vec<(String, String)> = sqlx::query_as(
            "select kind, 'left out: ' || last_error from effects
             where run_id = $1::uuid and state = 'skipped' and last_error = 'the status comment was deleted by a person'",
        )
        .bind(&told.run)
        .fetch_all(&self.db)
        .await
        .expect("effects");
        said.extend(pointless);
        for (kind, outcome) in &said {
            self.say(told, kind, outcome);
        }
        if told.lasts() {
            return;
        }
        assert!(said.is_empty(), "{} passes by itself: {said:#?}", told.fault);
    }

    async fn tell(&self, fault: Fault) {
        let world = &self.world;
        let steps = json!([
            { "wait_for_file": GO },
            { "write": { "path": format!("greeting-{fault}.txt"), "content": "hello\n" } },
        ]);
        let issue = world.scripted_issue(&format!("Greet {fault}"), &steps);
        let mut told = Told::new(fault, issue);
        self.strike(
            &told,
            &[
                Step::CallStatusComment,
                Step::CallRemoveLabel,
                Step::CallReact,
                Step::CallAddLabels,
                Step::CallBranch,
            ],
        );
        world.label(issue, "run:dev");
        let first = world.next_run(issue, &[]).await.id;
        told.run.clone_from(&first);
        self.strike(&told, &[Step::CallCommit, Step::CallPullRequest, Step::CallComment, Step::CallProgress]);
        self.work(&told).await;
        let mine = |pull: &webhook_simulator::PullRequest| pull.body.contains(&told.run);
        let pull = world.github.pull_requests(REPOSITORY).into_iter().find(mine).expect("a pull request");
        (told.pull, told.branch) = (pull.number, pull.head);

        let steps = json!([
            { "wait_for_file": GO },
            { "write": { "path": format!("greeting-{fault}.txt"), "content": "good day\n" } },
        ]);
        world.scripted_comment(issue, "Politely.", &steps);
        if told.lasts() {
            // Nobody could take it off but a person.
            world.github.remove_label(REPOSITORY, issue, "run:dev", "mona").expect("it stands");
        }
        world.label(issue, "run:dev:revise");
        told.run = world.next_run(issue, &[&first]).await.id;
        let second = told.run.clone();
        told.revises = true;
        world.until_waiting(&told.run, 1).await;
        self.until_said(&told).await;
        self.strike(&told, &[Step::CallStatusComment, Step::CallMoveBranch, Step::CallUpdatePullRequest]);
        self.work(&told).await;
        let file = world.file(&told.branch, &format!("greeting-{fault}.txt"));
        assert_eq!(file.as_deref(), Some("good day\n"), "{fault}");

        let findings = json!({ "summary": "One remark.", "findings": [
            { "path": format!("greeting-{fault}.txt"), "line": 1, "severity": "minor", "body": "Says little." },
        ] });
        world.scripted_comment(told.pull, "Have a look.", &json!([{ "findings": findings }]));
        self.strike(&told, &[Step::CallReview]);
        world.label(told.pull, "need:reviewer");
        told.run = world.next_run(issue, &[&first, &second]).await.id;
        let detail = self.see_through(&told).await;
        self.note(&told, &detail).await;
        assert_eq!(world.github.reviews(REPOSITORY, told.pull).len(), 1, "{fault}: one review");
        let branches = self.branches(issue);
        assert_eq!(branches.len(), 1, "{fault}: one branch: {branches:?}");
        // Where the first was left out, the one of the revision stands.
        assert_eq!(world.github.reactions(REPOSITORY, issue).len(), 1, "{fault}: one reaction");
    }

    /// The agent works, and what comes of it is published.
    async fn work(&self, told: &Told) {
        self.world.until_waiting(&told.run, 1).await;
        self.world.let_go(&told.run).await;
        let detail = self.see_through(told).await;
        self.note(told, &detail).await;
    }

    /// Until the run has its status comment.
    async fn until_said(&self, told: &Told) {
        let mark = format!("<!-- callboard:run={} -->", told.run);
        let said = |g: &webhook_simulator::Simulator| {
            g.comments(REPOSITORY, told.issue).iter().any(|c| c.body.contains(&mark)).then_some(())
        };
        self.world.until("its status comment", said).await;
    }

    fn branches(&self, issue: u64) -> Vec<String> {
        let repository = self.world.folder().join("github").join(format!("{REPOSITORY}.git"));
        let pattern = format!("refs/heads/callboard/{issue}-*");
        let listed = subprocess::command("git", self.world.folder())
            .arg("--git-dir")
            .arg(repository)
            .args(["for-each-ref", "--format=%(refname)", &pattern])
            .output()
            .expect("git runs");
        String::from_utf8(listed.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    /// A command's small sign, with each fault in turn: a person sees it, or is told nothing.
    async fn signs(&self, faults: [Fault; 6]) {
        let issue = self.world.issue("Signs", "Please.");
        for fault in faults {
            let told = Told::new(fault, issue);
            self.strike(&told, &[Step::CallReactToComment]);
            let comment = self
                .world
                .github
                .add_comment(REPOSITORY, issue, "mona", "/callboard status")
                .expect("a comment");
            let number = i64::try_from(comment).expect("an id");
            let state = self
                .ended("kind = 'react_to_comment' and (payload ->> 'comment')::bigint = $1", number)
                .await;
            self.note_one(&told, "react_to_comment", &state);
            let comments = self.world.github.comments(REPOSITORY, issue);
            let reactions = &comments.iter().find(|c| c.id == comment).expect("it is there").reactions;
            assert_eq!(reactions.len(), usize::from(!told.lasts()), "{fault}");
        }
    }

    /// A second comment of ours is deleted, with each fault on an issue of its own.
    async fn second_comments(&self, faults: [Fault; 6]) {
        let mut stories = Vec::new();
        for fault in faults {
            let mut told = Told::new(fault, self.world.issue(&format!("Twice {fault}"), "Please."));
            let mark = format!("<!-- callboard:run={fault} -->");
            let write = |text: &str| {
                let text = format!("{mark}\n{text}");
                self.world.github.add_comment(REPOSITORY, told.issue, "octocat", &text).expect("a comment")
            };
            let keep = i64::try_from(write("one")).expect("an id");
            told.comment = write("two");
            self.strike(&told, &[Step::CallSoleComment]);
            let since = domain::clock::Clock::now(&*self.world.clock) - TimeDelta::hours(1);
            let payload = json!({
                "kind": "sole_comment", "number": told.issue, "mark": mark, "since": since, "keep": keep,
            });
            sqlx::query(
                "insert into effects (effect_id, repository_id, kind, payload, state, available_at, trace_id, created_at)
                 select gen_random_uuid(), repository_id, 'sole_comment', $1, 'pending', $2, 'matrix', $2
                 from repositories limit 1",
            )
            .bind(payload)
            .bind(since)
            .execute(&self.db)
            .await
            .expect("stored");
            stories.push((told, keep));
        }
        for (told, keep) in stories {
            let ended = self.ended("kind = 'sole_comment' and (payload ->> 'keep')::bigint = $1", keep).await;
            self.note_one(&told, "sole_comment", &ended);
            // One that is not there any more need not be deleted.
            let left = self.world.comments(told.issue).len();
            assert_eq!(left, if told.lasts() { 2 } else { 1 }, "{}", told.fault);
        }
    }

    /// How an effect without a run ended.
    async fn ended(&self, which: &str, value: i64) -> (String, String) {
        let until = tokio::time::Instant::now() + PATIENCE;
        let query = format!(
            "select state, coalesce(last_error, '') from effects where {which} and state <> 'pending'"
        );
        loop {
            let found: Option<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query.clone()))
                .bind(value)
                .fetch_optional(&self.db)
                .await
                .expect("effects");
            if let Some(found) = found {
                return found;
            }
            assert!(tokio::time::Instant::now() < until, "{which}: {value} never ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn note_one(&self, told: &Told, kind: &str, (state, error): &(String, String)) {
        match (told.lasts(), state.as_str()) {
            (false, _) | (true, "done") => assert_eq!(state, "done", "{kind} {}: {error}", told.fault),
            (true, _) => {
                assert_eq!(state, "skipped", "{kind} {}: {error}", told.fault);
                self.say(told, kind, &format!("left out: {error}"));
            }
        }
    }

    /// Time passes as long as something waits for it, and no sandbox is being set up: what is
    /// cloned into it has limits by the same clock.
    async fn pass_time(&self) -> std::convert::Infallible {
        loop {
            let now = domain::clock::Clock::now(&*self.world.clock);
            let next: Option<DateTime<Utc>> = sqlx::query_scalar(
                "select min(at) from (select available_at as at from effects where state = 'pending'
                   union all select retry_at from deliveries where decided_at is null) waiting
                 where at > $1 and not exists (select from attempts a where state in ('leased', 'preparing', 'running')
                   and not exists (select from transcript_chunks c where c.attempt_id = a.attempt_id))",
            )
            .bind(now)
            .fetch_one(&self.db)
            .await
            .expect("a time");
            if let Some(next) = next {
                self.world.clock.advance(next - now + TimeDelta::milliseconds(1));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_github_answers_there_is_one_of_everything_or_a_sentence() {
    let matrix = Matrix::start().await;
    // `FAULT_MATRIX=refuse=404` tells the story of one fault.
    let only = std::env::var("FAULT_MATRIX").ok();
    let wanted = |fault: &Fault| only.as_ref().is_none_or(|name| *name == fault.to_string());
    // A limit that one story meets has the others wait, too, and try again what another fault was for.
    for faults in [LASTING, PASSING] {
        let stories = async {
            futures::StreamExt::for_each_concurrent(
                futures::stream::iter(faults.into_iter().filter(wanted)),
                LANES,
                async |fault| {
                    let began = std::time::Instant::now();
                    matrix.tell(fault).await;
                    eprintln!("{fault}: {:.1} s", began.elapsed().as_secs_f64());
                },
            )
            .await;
        };
        let all = async { tokio::join!(stories, matrix.signs(faults), matrix.second_comments(faults)) };
        tokio::select! {
            ((), (), ()) = all => {}
            never = matrix.pass_time() => match never {},
        }
    }
    let world = &matrix.world;

    // Every kind met every fault, and every fault struck.
    let met = matrix.met.lock().expect("no panic").clone();
    let others = [Step::CallLabel, Step::CallRedeliver, Step::CallHook, Step::CallPing];
    let is_effect = |step: &&Step| step.name().starts_with("call_") && !others.contains(step);
    for step in Step::ALL.iter().filter(is_effect) {
        for fault in PASSING.into_iter().chain(LASTING).filter(wanted) {
            assert!(met.contains(&(step.name(), fault.to_string())), "{step} has no row for {fault}");
        }
    }
    let unused: Vec<String> =
        world.github.scripts().iter().filter(|s| !s.is_over()).map(ToString::to_string).collect();
    assert!(unused.is_empty(), "never asked for: {unused:#?}");

    let outcomes = matrix.outcomes.lock().expect("no panic").clone();
    let mut text = String::new();
    for ((fault, outcome), kinds) in outcomes {
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{fault}: {kinds}\n    {outcome}\n"));
    }
    if only.is_none() {
        filtered().bind(|| insta::assert_snapshot!("fault_matrix", text));
    }

    // One of everything, but for what was left out and is said to be. What our effects caused comes last.
    world.settled().await;
    let seen = Seen { github: &world.github, hook: world.hook, db: &matrix.db };
    let left_out = |wrong: &String| {
        // The report; and what the revision would have put into the text of its pull request.
        wrong.contains("has 0 reports") || wrong.contains("has 0 pull requests")
    };
    let (expected, wrong): (Vec<_>, Vec<_>) = violations(&seen).await.into_iter().partition(left_out);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let lasting = LASTING.iter().filter(|fault| wanted(fault)).count();
    assert_eq!(expected.len(), 2 * lasting, "a report and a text in each story: {expected:#?}");
    let log =
        world.admin().verify_audit(proto::admin::VerifyAuditRequest::default()).await.expect("verified");
    assert_eq!(log.into_inner().problems, Vec::<String>::new());

    matrix.db.close().await;
    matrix.world.end().await;
}

/// The token was revoked: nothing is lost or given up, both places say why nothing happens, and
/// everything goes on once the credential is good again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_our_credential_is_refused_everything_waits() {
    let world = World::start().await;
    let issue = world.scripted_issue(
        "Greet",
        &json!([{ "wait_for_file": GO }, { "write": { "path": "a.txt", "content": "a\n" } }]),
    );
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    world.until_waiting(&run.id, 1).await;
    world.github.fault(Fault::Refuse(401), "*", u32::MAX);
    let other = world.issue("Asked meanwhile", "Please.");
    world.label(other, "run:dev");
    world.let_go(&run.id).await;
    let until = tokio::time::Instant::now() + PATIENCE;
    let waits = loop {
        let request = ListEffectsRequest { wanted: Wanted::Pending.into() };
        let effects = world.admin().list_effects(request).await.expect("effects").into_inner().effects;
        let found = effects.into_iter().find(|e| e.kind == "commit" && !e.last_error.is_empty());
        if let Some(found) = found {
            break found;
        }
        assert!(tokio::time::Instant::now() < until, "{:#?}", world.get(&run.id).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    insta::assert_snapshot!(
        waits.last_error,
        @"the code host refuses our credential: Bad credentials. Put a credential in its place that works; what waits goes on by itself."
    );
    assert_eq!(waits.tries, 0, "it counts as no try");
    let check = world.admin().check(proto::admin::CheckRequest {}).await.expect("checked").into_inner();
    assert!(check.findings.iter().any(|f| f.found.contains("it refuses it")), "{check:#?}");
    // For hours, in which it is tried again and again: nothing is given up.
    let struck = |g: &webhook_simulator::Simulator| g.scripts()[0].struck();
    for _ in 0..5 {
        let before = struck(&world.github);
        world.clock.advance(TimeDelta::hours(1));
        world.until("another try", |g| (struck(g) > before).then_some(())).await;
    }
    let request = ListEffectsRequest { wanted: Wanted::Dead.into() };
    assert!(world.admin().list_effects(request).await.expect("effects").into_inner().effects.is_empty());

    world.github.heal();
    world.clock.advance(TimeDelta::minutes(2));
    let second = world.next_run(other, &[]).await;
    for id in [&run.id, &second.id] {
        assert_eq!(world.finished(id).await.run.expect("a run").state, "succeeded");
    }
    assert_eq!(world.github.pull_requests(REPOSITORY).len(), 2);
    world.end().await;
}
