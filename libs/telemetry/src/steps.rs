//! Every step of ours that writes: to Postgres, to the object store, to the code host, to a
//! worker's machine. A step is where a crash matters, so each has a name, and each is taken
//! through [`around`] (a future) or a function of its crate that does the same for a commit.
//!
//! With the feature `crash-points` a process ends itself by `SIGKILL` right before or after a
//! named step. The crash matrix in `tests/platform` goes through [`Step::ALL`].

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A step that writes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl Step {
            /// Every step there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

steps! {
    /// The key that signs run tokens is made, at the first start.
    RunTokenKeyMade = "run_token_key_made",
    /// The projects of the configuration are applied, at every start.
    ProjectsApplied = "projects_applied",
    /// A worker is enrolled; the local one at every start.
    WorkerEnrolled = "worker_enrolled",
    /// A sign of life of a worker.
    WorkerSeen = "worker_seen",
    /// A process of a worker is here for the first time.
    WorkerArrived = "worker_arrived",
    /// A delivery is stored.
    DeliveryStored = "delivery_stored",
    /// A decision on a delivery is put off.
    DeliveryPutOff = "delivery_put_off",
    /// A decision stands, with everything that follows from it.
    DeliveryDecided = "delivery_decided",
    /// A worker gets an attempt.
    RunLeased = "run_leased",
    /// A lease is kept alive.
    LeaseRenewed = "lease_renewed",
    /// A prompt, changeset or session is put into the object store.
    ObjectStored = "object_stored",
    /// Commit, issue and prompt of a run are fixed.
    RunPrepared = "run_prepared",
    /// A run could not be prepared.
    RunNotPrepared = "run_not_prepared",
    /// The worker starts the attempt's process.
    AttemptLaunched = "attempt_launched",
    /// The worker said that it started the attempt.
    AttemptStarted = "attempt_started",
    /// The runner said hello.
    AttemptGreeted = "attempt_greeted",
    /// A part of the transcript is stored.
    TranscriptStored = "transcript_stored",
    /// The object of a transcript replaces its parts.
    TranscriptCompacted = "transcript_compacted",
    /// A checkpoint of an attempt replaces the one before.
    CheckpointStored = "checkpoint_stored",
    /// An attempt goes on from a checkpoint, or starts afresh.
    RestoreDecided = "restore_decided",
    /// The runner could not restore a checkpoint.
    RestoreFailed = "restore_failed",
    /// An attempt ends because of what it did.
    AttemptFailed = "attempt_failed",
    /// The runner returned its result, and it was judged.
    ResultReturned = "result_returned",
    /// The worker said which object it is going to make for an attempt.
    ObjectPlanned = "object_planned",
    /// The worker said what the cluster calls it.
    ObjectCreated = "object_created",
    /// The worker said why an attempt does not run yet.
    AttemptWaits = "attempt_waits",
    /// A new process of a worker takes over the attempts of the one before.
    AttemptsAdopted = "attempts_adopted",
    /// An object in a cluster that nobody asked for is noted.
    ForeignObjectNoted = "foreign_object_noted",
    /// A person cordons, uncordons or drains a worker.
    WorkerOrdered = "worker_ordered",
    /// It is noted that there is no worker for a queued run, or that there is one again; or the
    /// run fails because there was none for too long.
    NoWorkerNoted = "no_worker_noted",
    /// The worker said that an attempt's process ended.
    AttemptEnded = "attempt_ended",
    /// Word of an attempt comes after its end, and changes nothing.
    LateWordNoted = "late_word_noted",
    /// The watchdog ends an attempt that is silent or out of time.
    AttemptSettled = "attempt_settled",
    /// An effect's call is about to go out.
    EffectTried = "effect_tried",
    /// An effect waits for another try.
    EffectPutOff = "effect_put_off",
    /// What an effect made is known.
    EffectRecorded = "effect_recorded",
    /// An effect is given up.
    EffectGivenUp = "effect_given_up",
    /// A person has an effect tried again that was given up.
    EffectRetried = "effect_retried",
    /// A person drops an effect that was given up.
    EffectDropped = "effect_dropped",
    /// The status comment of a run whose agent works is to be brought up to date.
    StatusRefreshed = "status_refreshed",
    /// The status comment is written or edited at the code host.
    CallStatusComment = "call_status_comment",
    /// Another comment is written at the code host.
    CallComment = "call_comment",
    /// A second comment of ours is looked for at the code host, and deleted.
    CallSoleComment = "call_sole_comment",
    /// A label is taken off at the code host.
    CallRemoveLabel = "call_remove_label",
    /// Labels are put on at the code host.
    CallAddLabels = "call_add_labels",
    /// A reaction is made at the code host.
    CallReact = "call_react",
    /// A reaction to a comment is made at the code host.
    CallReactToComment = "call_react_to_comment",
    /// Blobs, tree and commit are made at the code host.
    CallCommit = "call_commit",
    /// A branch is made at the code host.
    CallBranch = "call_branch",
    /// A pull request is opened at the code host.
    CallPullRequest = "call_pull_request",
    /// The branch of a pull request goes on at the code host.
    CallMoveBranch = "call_move_branch",
    /// The text of a pull request grows at the code host.
    CallUpdatePullRequest = "call_update_pull_request",
    /// A review is posted at the code host.
    CallReview = "call_review",
    /// Progress is shown on a commit at the code host.
    CallProgress = "call_progress",
    /// A person cancels a run.
    RunCancelled = "run_cancelled",
    /// A person retries a run.
    RunRetried = "run_retried",
    /// The key that signs checkpoints of the log is made, at the first start.
    AuditKeyMade = "audit_key_made",
    /// Events get their numbers, and their chains a seal.
    EventsSealed = "events_sealed",
    /// A month to come gets its partition.
    MonthMade = "month_made",
    /// The ends of the chains are signed.
    CheckpointWritten = "checkpoint_written",
    /// A month is dropped from the log, after a checkpoint in the same transaction.
    MonthDropped = "month_dropped",
    /// A batch of what is old enough is deleted, or named as no longer needed.
    RetentionApplied = "retention_applied",
    /// An object that no row needs is deleted.
    ObjectDeleted = "object_deleted",
    /// A person releases a held changeset.
    RunReleased = "run_released",
    /// A person lets nothing start.
    WorkPaused = "work_paused",
    /// A person lets it start again.
    WorkResumed = "work_resumed",
    /// A project's rules are read from its default branch.
    PolicyRead = "policy_read",
    /// It is noted how a repository stands at the code host, where a call or a question told.
    AccessNoted = "access_noted",
    /// A label of a repository is made or changed at the code host, for `repo sync-labels`.
    CallLabel = "call_label",
    /// It is recorded that a repository's labels were brought up to date.
    LabelsSynced = "labels_synced",
    /// It is recorded which webhook's deliveries are looked through.
    RecoveryHookNoted = "recovery_hook_noted",
    /// What the code host sent is compared with what is here; what is missing is written down.
    DeliveriesLooked = "deliveries_looked",
    /// The code host is asked to send a delivery again.
    CallRedeliver = "call_redeliver",
    /// It is recorded that it was asked.
    RedeliveryAsked = "redelivery_asked",
    /// A missed delivery that was fetched is stored.
    DeliveryFetched = "delivery_fetched",
    /// A missed delivery came, or is given up.
    MissedSettled = "missed_settled",
    /// An event is made of an issue's history, and stored.
    LabelReconciled = "label_reconciled",
    /// It is recorded up to when issues were looked through for labels without a decision.
    LabelsLooked = "labels_looked",
    /// A gap is over, and reported.
    GapClosed = "gap_closed",
    /// A repository is added by command, with a webhook secret of its own.
    RepositoryAdded = "repository_added",
    /// A repository's webhook is made or changed at the code host.
    CallHook = "call_hook",
    /// It is recorded which webhook has which secret.
    HookRecorded = "hook_recorded",
    /// A test delivery is asked for at the code host.
    CallPing = "call_ping",
    /// A new webhook secret holds, and the previous one still does.
    SecretRotated = "secret_rotated",
    /// The previous webhook secret is deleted.
    RotationFinished = "rotation_finished",
    /// A person reads a webhook secret, to set it by hand.
    SecretShown = "secret_shown",
    /// A repository that was added by command is switched off.
    RepositoryRemoved = "repository_removed",
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Takes a step that is one future. Ends the process before or after it where a test says so.
pub async fn around<T>(step: Step, action: impl Future<Output = T>) -> T {
    point(step, Moment::Before);
    let done = action.await;
    point(step, Moment::After);
    done
}

/// On which side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is written yet.
    Before,
    /// It is written, and nobody was told.
    After,
}

/// Where a step is not one future: call it on both sides.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_: Step, _: Moment) {}

#[cfg(feature = "crash-points")]
pub use crash::{point, without};

#[cfg(feature = "crash-points")]
mod crash {
    //! Dying on request, for tests.

    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    use rustix::process::Signal;

    use super::{Moment, Step};

    /// `CRASH_POINT=effect_recorded:after:2`: at the second time. `…:2:stop`: it hangs instead.
    struct Wanted {
        step: Step,
        moment: Moment,
        left: AtomicU32,
        signal: Signal,
    }

    static WANTED: LazyLock<Option<Wanted>> = LazyLock::new(|| {
        let text = std::env::var("CRASH_POINT").ok()?;
        let mut words = text.split(':');
        let name = words.next()?;
        let step = Step::ALL.iter().copied().find(|s| s.name() == name);
        let moment = match words.next() {
            Some("before") => Some(Moment::Before),
            Some("after") => Some(Moment::After),
            Some(_) | None => None,
        };
        let times = words.next().map_or(Some(1), |n| n.parse().ok());
        let signal = match words.next() {
            None => Some(Signal::KILL),
            Some("stop") => Some(Signal::STOP),
            Some(_) => None,
        };
        match (step, moment, times, signal) {
            (Some(step), Some(moment), Some(times), Some(signal)) => {
                Some(Wanted { step, moment, left: AtomicU32::new(times), signal })
            }
            // A typo must not look like a crash that did no harm.
            (_, _, _, _) => {
                eprintln!("CRASH_POINT={text}: expected <step>:before|after[:<times>[:stop]]");
                std::process::exit(2)
            }
        }
    });

    static WITHOUT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("WITHOUT_CHECK").ok());

    /// Is a check of ours switched off, to see that the tests notice?
    pub fn without(check: &str) -> bool {
        WITHOUT.as_deref() == Some(check)
    }

    /// Where a step is not one future: call it on both sides.
    pub fn point(step: Step, moment: Moment) {
        let Some(wanted) = WANTED.as_ref() else { return };
        if wanted.step == step && wanted.moment == moment && wanted.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            eprintln!("crash point: {step} {moment:?}");
            // As `kill -9` does it: no destructor, no flush, no goodbye. A stopped one goes on here.
            if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), wanted.signal) {
                eprintln!("crash point: {error}");
            }
        }
    }
}

/// Is a check of ours switched off, to see that the tests notice? Never in a release.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn without(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Step::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(names.len(), Step::ALL.len());
    }

    #[tokio::test]
    async fn a_step_is_its_action() {
        assert_eq!(around(Step::RunLeased, async { 7 }).await, 7);
    }
}
