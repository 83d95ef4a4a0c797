//! `kill -9` before and after every step that writes, with real processes. Each platform kills
//! itself at the named point (SIGKILL, no handler runs), is started again, and the story has
//! to end as if nothing had happened.

use std::sync::Mutex;

use futures::StreamExt;
use proto::{
    admin::{
        AddRepositoryRequest, EffectActionRequest, OrderWorkerRequest, RepositoryRequest,
        RotateSecretRequest, SyncLabelsRequest, order_worker_request::Order,
    },
    v1::{
        AdoptRequest, AttemptEnded, AttemptWaits, ClusterObject, Declaration, JudgeRequest, LeaseRequest,
        ReportRequest,
        attempt_ended::{Cause, Outcome},
        judge_response::Verdict,
        report_request::What,
    },
};
use serde_json::json;
use telemetry::steps::Step;
use webhook_simulator::Fault;

use crate::harness::{FIRST_PROCESS, Plan, REPOSITORY, SECOND_PROCESS, Server, Site};

const COMMENT: &str = "POST /repos/{owner}/{repo}/issues/{number}/comments";
const COMMIT: &str = "POST /repos/{owner}/{repo}/git/commits";

/// Stories told at the same time.
const LANES: usize = 3;

/// What has to happen for a step to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// The platform starts, and an issue is labelled.
    Label,
    /// The agent hangs, and a person cancels.
    Cancel,
    /// The agent works for long, and a person cancels.
    LongWork,
    /// The agent fails, and a person retries.
    Retry,
    /// The agent hangs until its time is over.
    OutOfTime,
    /// The agent writes more than it may.
    TooMuchOutput,
    /// The runner dies, and the run is tried again.
    RunnerDies,
    /// The lease is lost while the worker is paused, and the worker comes back.
    LateWord,
    /// Everything is over for longer than it is kept.
    OldAge,
    /// An agent works long enough for a checkpoint.
    Checkpoint,
    /// It is killed, and goes on from its checkpoint.
    Restore,
    /// It is killed, and its checkpoint is damaged.
    RestoreFails,
    /// Protected files are held, and a person releases them.
    Release,
    /// Everything is paused before the label and resumed after it.
    Pause,
    /// An issue is labelled, and the code host refuses the first request of this kind.
    Refused(&'static str, u16),
    /// The code host will not take the commit, and a person has it tried again.
    OutboxRetry,
    /// The code host will not take the commit, and a person drops it.
    OutboxDrop,
    /// The result is asked for again, on its pull request.
    Revise,
    /// The pull request is reviewed.
    Review,
    /// A run is asked for by a command in a comment.
    Command,
    /// A person has the repository's labels brought up to date.
    SyncLabels,
    /// A delivery of a label finds nobody; then the code host can reach the platform again.
    Missed,
    /// A delivery of a label finds nobody, and the code host cannot reach the platform.
    Unreachable,
    /// No delivery is ever made of a label.
    Unsaid,
    /// The repository was out of reach, and is not any more.
    AccessBack,
    /// A person adds another repository, rotates its secret, and removes it.
    SetUp,
    /// The local worker is cordoned, and one of a cluster makes an object for the attempt.
    Cluster,
    /// A worker makes a pod: told on a real cluster, in `cluster/restarts.rs`.
    Pod,
}

/// The row of every step. A new step does not compile before it has one.
fn story_of(step: Step) -> Story {
    match step {
        Step::RunTokenKeyMade
        | Step::AuditKeyMade
        | Step::EventsSealed
        | Step::MonthMade
        | Step::CheckpointWritten
        | Step::RetentionApplied
        | Step::TranscriptCompacted
        | Step::ProjectsApplied
        | Step::WorkerEnrolled
        | Step::WorkerArrived
        | Step::WorkerSeen
        | Step::DeliveryStored
        | Step::DeliveryDecided
        | Step::PolicyRead
        | Step::RunLeased
        | Step::LeaseRenewed
        | Step::ObjectStored
        | Step::RunPrepared
        | Step::AttemptLaunched
        | Step::AttemptStarted
        | Step::AttemptGreeted
        | Step::TranscriptStored
        | Step::ResultReturned
        | Step::EffectTried
        | Step::EffectRecorded
        | Step::CallStatusComment
        | Step::CallComment
        | Step::CallRemoveLabel
        | Step::CallAddLabels
        | Step::CallReact
        | Step::CallCommit
        | Step::CallBranch
        | Step::CallPullRequest
        | Step::CallProgress
        | Step::RecoveryHookNoted => Story::Label,
        Step::CallMoveBranch | Step::CallUpdatePullRequest => Story::Revise,
        Step::CallReview => Story::Review,
        Step::MonthDropped | Step::ObjectDeleted => Story::OldAge,
        Step::CheckpointStored => Story::Checkpoint,
        Step::RestoreDecided => Story::Restore,
        Step::RestoreFailed => Story::RestoreFails,
        Step::RunCancelled => Story::Cancel,
        Step::StatusRefreshed => Story::LongWork,
        Step::RunRetried => Story::Retry,
        Step::RunReleased => Story::Release,
        Step::WorkPaused | Step::WorkResumed => Story::Pause,
        Step::AttemptSettled => Story::OutOfTime,
        Step::AttemptFailed => Story::TooMuchOutput,
        Step::AttemptEnded => Story::RunnerDies,
        Step::LateWordNoted => Story::LateWord,
        Step::DeliveryPutOff => {
            Story::Refused("GET /repos/{owner}/{repo}/collaborators/{username}/permission", 502)
        }
        Step::RunNotPrepared => Story::Refused("GET /repos/{owner}/{repo}/issues/{number}/comments", 502),
        Step::EffectPutOff | Step::CallSoleComment => Story::Refused(COMMENT, 502),
        Step::EffectGivenUp => Story::Refused("POST /repos/{owner}/{repo}/issues/{number}/reactions", 422),
        Step::DeliveriesLooked
        | Step::CallRedeliver
        | Step::RedeliveryAsked
        | Step::MissedSettled
        | Step::GapClosed => Story::Missed,
        Step::DeliveryFetched => Story::Unreachable,
        Step::LabelReconciled | Step::LabelsLooked => Story::Unsaid,
        Step::CallReactToComment => Story::Command,
        Step::CallLabel | Step::LabelsSynced => Story::SyncLabels,
        Step::AccessNoted => Story::AccessBack,
        Step::RepositoryAdded
        | Step::CallHook
        | Step::HookRecorded
        | Step::CallPing
        | Step::SecretRotated
        | Step::RotationFinished
        | Step::SecretShown
        | Step::RepositoryRemoved => Story::SetUp,
        Step::ObjectPlanned
        | Step::ObjectCreated
        | Step::AttemptWaits
        | Step::AttemptsAdopted
        | Step::ForeignObjectNoted
        | Step::WorkerOrdered
        | Step::NoWorkerNoted => Story::Cluster,
        Step::AgentRunMade | Step::ChildrenApplied | Step::AgentRunShown | Step::ObjectsDeleted => Story::Pod,
        Step::EffectRetried => Story::OutboxRetry,
        Step::EffectDropped => Story::OutboxDrop,
    }
}

/// It is taken by a worker with a cluster; its rows are in `cluster::restarts`.
pub(crate) fn is_the_clusters(step: Step) -> bool {
    story_of(step) == Story::Pod
}

/// Sets a second repository up, rotates its secret and removes it; each command is given again
/// until it comes to its end.
async fn set_up_another(site: &Site) -> Result<(), String> {
    const ANOTHER: &str = "octocat/another";
    site.github.create_repository(ANOTHER, true, &[("README.md", "# Another\n")]).await.expect("made");
    let repository = ANOTHER.to_owned();
    let add = AddRepositoryRequest { repository: repository.clone(), ..AddRepositoryRequest::default() };
    site.steps("repo add", async |mut c| c.add_repository(add.clone()).await).await;
    let named = RepositoryRequest { repository: repository.clone() };
    let secret = async || {
        let shown = site.command("its secret", async |mut c| c.webhook_secret(named.clone()).await).await;
        shown.map(|answer| answer.into_inner().secret)
    };
    let first = secret().await?;
    let rotate = |finish| RotateSecretRequest { repository: repository.clone(), finish };
    site.steps("rotate-secret", async |mut c| c.rotate_secret(rotate(false)).await).await;
    let second = secret().await?;
    site.steps("--finish", async |mut c| c.rotate_secret(rotate(true)).await).await;
    if first == second || secret().await? != second {
        return Err("the secret was not changed exactly once".to_owned());
    }
    // The webhook has it: a test delivery is verified with it.
    site.steps("repo add again", async |mut c| c.add_repository(add.clone()).await).await;
    site.steps("repo remove", async |mut c| c.remove_repository(named.clone()).await).await;
    let hooks = site.github.hooks(ANOTHER);
    if hooks.len() != 1 {
        return Err(format!("{} webhooks", hooks.len()));
    }
    Ok(())
}

/// A worker of a cluster, played by this test, gets the only run, since the local one is cordoned. It
/// says everything again until it is heard, is started again in the middle, and cannot have its image.
async fn play_a_cluster(site: &Site) -> Result<(), String> {
    let cordon = OrderWorkerRequest { name: "local".to_owned(), order: Order::Cordon.into() };
    site.command("worker cordon", async |mut c| c.order_worker(cordon.clone()).await).await?;
    let issue = site.issue("Say hello", None);
    site.label(issue, "run:dev");
    let run = site.run_of(issue).await;
    site.until("it to say that there is no worker", async || {
        site.has_event(&run, "no_worker").await.then_some(())
    })
    .await;
    let worker = site.enroll("played").await?;
    let declaration = Some(Declaration { cluster: true, ..Declaration::default() });
    let adopt = async |process: &str| {
        let request = AdoptRequest { process_id: process.to_owned(), declaration: declaration.clone() };
        let call = async || worker.clone().adopt(request.clone()).await.ok().map(tonic::Response::into_inner);
        site.until("adoption", call).await.attempts
    };
    adopt(FIRST_PROCESS).await;
    let request = LeaseRequest { wait_ms: 1000, process_id: FIRST_PROCESS.to_owned(), declaration: None };
    let lease = async || worker.clone().lease(request.clone()).await.ok()?.into_inner().lease;
    let lease = site.until("a lease", lease).await;
    let object = |uid: &str| ClusterObject {
        namespace: lease.namespace.clone(),
        name: format!("attempt-{}", lease.attempt_id),
        digest: "a".repeat(64),
        uid: uid.to_owned(),
    };
    let report = async |fence: i64, what: What| {
        let attempt_id = lease.attempt_id.clone();
        let request = ReportRequest { attempt_id, fence, what: Some(what) };
        let call =
            async || worker.clone().report(request.clone()).await.ok().map(|a| a.into_inner().accepted);
        site.until("a report", call).await
    };
    let mut heard = report(lease.fence, What::Planned(object(""))).await;
    heard &= report(lease.fence, What::Created(object("u-1"))).await;
    let waits = AttemptWaits { message: "No node has room for it: 0/3 nodes are available".to_owned() };
    heard &= report(lease.fence, What::Waits(waits)).await;
    let adopted = adopt(SECOND_PROCESS).await.pop().and_then(|adopted| adopted.lease);
    let adopted = adopted.ok_or("nothing was adopted")?;
    let request = JudgeRequest {
        found: Some(ClusterObject { name: "forged".to_owned(), ..object("u-2") }),
        process_id: SECOND_PROCESS.to_owned(),
    };
    let judge = async || worker.clone().judge(request.clone()).await.ok().map(|a| a.into_inner().verdict());
    let verdict = site.until("a verdict", judge).await;
    let ended = AttemptEnded {
        outcome: Outcome::NotStarted.into(),
        cause: Cause::Image.into(),
        message: "Its image cannot be fetched".to_owned(),
        exit_code: None,
    };
    heard &= report(adopted.fence, What::Ended(ended)).await;
    if heard && verdict == Verdict::Foreign { Ok(()) } else { Err(format!("heard: {heard}, {verdict:?}")) }
}

/// Tells the story on a platform that kills itself at the point; returns what went wrong.
async fn tell(server: &Server, step: Step, moment: &str) -> Result<(), String> {
    let story = story_of(step);
    let config = match story {
        Story::OutOfTime => json!({ "agents": { "time_limit_seconds": 2 } }),
        Story::Checkpoint | Story::Restore | Story::RestoreFails => {
            json!({ "agents": { "checkpoint_seconds": 1 } })
        }
        Story::TooMuchOutput => json!({ "executor": { "local": { "output_mib": 1 } } }),
        Story::Label
        | Story::Cancel
        | Story::LongWork
        | Story::Retry
        | Story::RunnerDies
        | Story::LateWord
        | Story::OldAge
        | Story::Release
        | Story::Pause
        | Story::Refused(..)
        | Story::OutboxRetry
        | Story::OutboxDrop
        | Story::Revise
        | Story::Review
        | Story::Command
        | Story::SyncLabels
        | Story::Missed
        | Story::Unreachable
        | Story::Unsaid
        | Story::AccessBack
        | Story::SetUp
        | Story::Cluster
        | Story::Pod => {
            json!({})
        }
    };
    let point = format!("{step}:{moment}");
    // Something happens while the platform is up, and the next process crashes.
    let second = matches!(
        story,
        Story::OldAge
            | Story::Restore
            | Story::RestoreFails
            | Story::Revise
            | Story::Review
            | Story::Missed
            | Story::Unreachable
            | Story::Unsaid
    );
    let first = if second { Vec::new() } else { vec![("CRASH_POINT", point.clone())] };
    let kills = if second { 2 } else { 1 };
    let plan = Plan { config, first, ..Plan::default() };
    let site = Site::start(&server.database(), &plan).await;
    site.ready().await;
    let expected = match story {
        Story::Label => {
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            "succeeded"
        }
        Story::Cancel | Story::LongWork => {
            let issue =
                site.issue("Take your time", Some(&json!([{ "print": "working" }, { "hang": true }])));
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            site.until_said(&run, "working").await;
            if story == Story::LongWork {
                site.until_refreshed(&run).await;
            }
            // After a crash the first call may have been the one that did it.
            drop(site.cancel(&run).await);
            "cancelled"
        }
        Story::Retry => {
            let issue = site.issue("Fail", Some(&json!([{ "exit": 3 }])));
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            site.settled().await;
            drop(site.retry(&run).await);
            "failed"
        }
        Story::OutOfTime => {
            let issue = site.issue("Take your time", Some(&json!([{ "hang": true }])));
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            "failed"
        }
        Story::TooMuchOutput => {
            let issue = site.issue("Talk", Some(&json!([{ "print_many": 200_000 }, { "hang": true }])));
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            "failed"
        }
        Story::RunnerDies => {
            let steps = json!([{ "print": "working" }, { "write": { "path": "a.txt", "content": "a\n" } }, { "wait_for_file": "/tmp/go" }]);
            let issue = site.issue("Take your time", Some(&steps));
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            site.until_said(&run, "working").await;
            site.kill_runners();
            site.until("a second attempt", async || (site.attempts(&run).await >= 2).then_some(())).await;
            drop(site.cancel(&run).await);
            "cancelled"
        }
        Story::LateWord => {
            let issue =
                site.issue("Take your time", Some(&json!([{ "print": "working" }, { "hang": true }])));
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            site.until_said(&run, "working").await;
            site.until("a second attempt", async || {
                site.expire_leases().await;
                (site.attempts(&run).await >= 2).then_some(())
            })
            .await;
            drop(site.cancel(&run).await);
            "cancelled"
        }
        Story::OldAge => {
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            site.settled().await;
            site.grow_old().await;
            site.platform().kill_and_crash_at(point);
            "succeeded"
        }
        Story::Checkpoint | Story::RestoreFails => {
            let steps = json!([
                { "print": "working" }, { "write": { "path": "a.txt", "content": "a\n" } }, { "hang": true },
            ]);
            let issue = site.issue("Take your time", Some(&steps));
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            if story == Story::RestoreFails {
                site.until_checkpoint(&run).await;
                site.damage_checkpoints();
                site.platform().kill_and_crash_at(point);
            }
            site.until_killed(kills).await;
            site.until("another attempt", async || (site.attempts(&run).await >= 2).then_some(())).await;
            drop(site.cancel(&run).await);
            "cancelled"
        }
        Story::Restore => {
            let steps = json!([
                { "write": { "path": "a.txt", "content": "a\n" } },
                { "unless_restored": [{ "hang": true }] },
            ]);
            let issue = site.issue("Take your time", Some(&steps));
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            site.until_checkpoint(&run).await;
            site.platform().kill_and_crash_at(point);
            "succeeded"
        }
        Story::Release => {
            let issue = site.issue(
                "Steer",
                Some(&json!([{ "write": { "path": "AGENTS.md", "content": "Be kind.\n" } }])),
            );
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            site.until("it to be held", async || site.has_event(&run, "waiting").await.then_some(())).await;
            // After a crash the first call may have been the one that did it.
            drop(site.release(&run).await);
            "succeeded"
        }
        Story::Pause => {
            site.pause().await;
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            let run = site.run_of(issue).await;
            if site.attempts(&run).await > 0 {
                return Err("it started although everything is paused".to_owned());
            }
            site.resume().await;
            "succeeded"
        }
        Story::Revise | Story::Review => {
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            site.settled().await;
            site.platform().kill_and_crash_at(point);
            site.until_killed(1).await;
            site.ready().await;
            let pull = site.github.pull_requests(REPOSITORY).pop().expect("a pull request").number;
            if story == Story::Revise {
                site.label(issue, "run:dev:revise");
            } else {
                site.label(pull, "need:reviewer");
            }
            site.until("a second run", async || (site.runs().await >= 2).then_some(())).await;
            "succeeded"
        }
        Story::Missed | Story::Unreachable | Story::Unsaid => {
            let issue = site.issue("Say hello", None);
            if story == Story::Unsaid {
                site.change_hook(false, &site.webhook()).await;
                site.set_a_while_ago(issue, "run:dev").await;
            } else {
                site.change_hook(true, Site::NOWHERE).await;
                site.label(issue, "run:dev");
                site.until_a_delivery_failed().await;
            }
            if story == Story::Missed {
                site.change_hook(true, &site.webhook()).await;
            }
            site.platform().kill_and_crash_at(point);
            site.until_killed(kills).await;
            site.until("a run", async || (site.runs().await == 1).then_some(())).await;
            site.change_hook(true, &site.webhook()).await;
            "succeeded"
        }
        Story::Refused(request, status) => {
            site.github.fault(Fault::Refuse(status), request, 1);
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            "succeeded"
        }
        Story::Command => {
            let issue = site.issue("Say hello", None);
            site.github.add_comment(REPOSITORY, issue, "mona", "/callboard run dev").expect("a comment");
            site.run_of(issue).await;
            "succeeded"
        }
        Story::SyncLabels => {
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            let request = SyncLabelsRequest::default();
            drop(site.command("sync-labels", async |mut c| c.sync_labels(request.clone()).await).await);
            "succeeded"
        }
        Story::AccessBack => {
            let away = "update repositories set no_access_why = 'gone for a while', no_access_since = now() - interval '1 hour'";
            sqlx::query(away).execute(&site.db).await.expect("out of reach");
            site.until_killed(kills).await;
            site.ready().await;
            let back = "select count(*) = 0 from repositories where no_access_since is not null";
            site.until("access to be back", async || {
                sqlx::query_scalar::<_, bool>(back)
                    .fetch_one(&site.db)
                    .await
                    .expect("an answer")
                    .then_some(())
            })
            .await;
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            "succeeded"
        }
        Story::Cluster => {
            play_a_cluster(&site).await?;
            "failed"
        }
        Story::Pod => return Err("it is told on a cluster".to_owned()),
        Story::SetUp => {
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            site.run_of(issue).await;
            set_up_another(&site).await?;
            "succeeded"
        }
        Story::OutboxRetry | Story::OutboxDrop => {
            site.github.fault(Fault::Refuse(403), COMMIT, 1);
            let issue = site.issue("Say hello", None);
            site.label(issue, "run:dev");
            let request = EffectActionRequest { id: site.given_up().await };
            let again = story == Story::OutboxRetry;
            // After a crash the first call may have been the one that did it.
            drop(
                site.command("outbox", async |mut c| {
                    if again {
                        c.retry_effect(request.clone()).await
                    } else {
                        c.drop_effect(request.clone()).await
                    }
                })
                .await,
            );
            if again { "succeeded" } else { "failed" }
        }
    };
    site.until_killed(kills).await;
    site.settled().await;
    if site.platform().killed() != kills {
        return Err(format!("the point was not reached: killed {} times", site.platform().killed()));
    }
    let wrong = site.violations().await;
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let states: Vec<String> =
        sqlx::query_scalar("select state from runs").fetch_all(&site.db).await.expect("the runs");
    if states.is_empty() || states.iter().any(|s| s != expected) {
        return Err(format!("the runs are {states:?}, expected {expected}"));
    }
    if expected == "succeeded" && site.github.pull_requests(REPOSITORY).len() != 1 {
        return Err(format!("{} pull requests", site.github.pull_requests(REPOSITORY).len()));
    }
    site.github.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_survives_a_kill_before_and_after_it() {
    let server = Server::start(false);
    // `CRASH_MATRIX=effect_recorded` tells the rows of one step.
    let only = std::env::var("CRASH_MATRIX").ok();
    let rows: Vec<(Step, &str)> = Step::ALL
        .iter()
        .filter(|step| only.as_ref().is_none_or(|name| name == step.name()))
        .filter(|step| !is_the_clusters(**step))
        .flat_map(|step| [(*step, "before"), (*step, "after")])
        .collect();
    assert!(!rows.is_empty(), "no step has this name");
    let failed = Mutex::new(Vec::new());
    futures::stream::iter(&rows)
        .for_each_concurrent(LANES, async |(step, moment)| {
            let began = std::time::Instant::now();
            let told = tell(&server, *step, moment).await;
            eprintln!("{step}:{moment} {:?} {:.1} s", told, began.elapsed().as_secs_f64());
            if let Err(why) = told {
                failed.lock().expect("no panic").push(format!("{step}:{moment}: {why}"));
            }
        })
        .await;
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{} of {} rows:\n{}", failed.len(), rows.len(), failed.join("\n"));
}
