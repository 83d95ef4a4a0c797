//! One attempt on this machine, from lease to report.

use std::time::Duration;

use domain::ids::AttemptId;
use proto::v1::{AttemptEnded, AttemptLease, AttemptStarted, attempt_ended::Outcome, report_request::What};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Executor, Exit, Task};
use crate::{
    control_plane::Reported,
    leasing::{Order, Stop, Worker},
};

/// How long a runner may take to come to its end by itself once the worker is going down: it
/// takes a last checkpoint.
const PARTING: Duration = Duration::from_secs(5);
/// How long reports may take after that.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// `128 + signal` is how a shell and bubblewrap pass on that a program was killed.
const KILLED: i32 = 128;
/// How often the free space is looked at.
const DISK_CHECKS: Duration = Duration::from_secs(2);
/// How much of what a runner wrote goes into a report.
const MESSAGE_CHARACTERS: usize = 500;

/// Why we stop waiting for an attempt.
enum Cause {
    Exited(Exit),
    Stopped(String),
    /// With a sentence.
    DiskFull(String),
    /// The worker goes down or is drained.
    Shutdown,
}

/// Runs the leased attempt and reports its start and its end. False when processes of it
/// remain, so that its slot must not be used again.
pub(crate) async fn run(
    worker: &Worker,
    executor: &Executor,
    lease: AttemptLease,
    slot: u32,
    stop: Stop,
) -> bool {
    let (attempt_id, fence) = (lease.attempt_id.clone(), lease.fence);
    tracing::info!(stage = lease.stage, number = lease.number, slot, "attempt leased");

    let give_up = CancellationToken::new();
    let (shutdown, out_of_time) = (worker.shutdown.clone(), give_up.clone());
    let patience = tokio::spawn(async move {
        shutdown.cancelled().await;
        tokio::time::sleep(PARTING + LAST_WORDS).await;
        out_of_time.cancel();
    });
    let (ended, nothing_left) = execute(worker, executor, lease, slot, &stop, &give_up).await;
    tracing::info!(
        outcome = ended.outcome().as_str_name(),
        exit_code = ended.exit_code,
        reason = ended.message,
        "attempt ended"
    );
    match worker.control_plane.report(&attempt_id, fence, What::Ended(ended), &give_up).await {
        Reported::Accepted { .. } => {}
        Reported::Over => tracing::info!("the control plane had given the attempt up"),
        Reported::Refused | Reported::Left => {
            tracing::warn!("the end of the attempt was not reported; its lease will run out");
        }
    }
    patience.abort();
    nothing_left
}

/// The report, and whether nothing of the attempt is left.
async fn execute(
    worker: &Worker,
    executor: &Executor,
    lease: AttemptLease,
    slot: u32,
    stop: &Stop,
    give_up: &CancellationToken,
) -> (AttemptEnded, bool) {
    let deadline = Instant::now() + Duration::from_secs(u64::from(lease.deadline_seconds));
    let Ok(attempt) = lease.attempt_id.parse::<AttemptId>() else {
        return (ended(Outcome::NotStarted, "The control plane sent an attempt without a valid id."), true);
    };
    let limits = lease.limits.unwrap_or_default();
    let task = Task { attempt, token: lease.run_token.into(), slot, limits };
    let mut process = match executor.start(task).await {
        Ok(process) => process,
        // Whatever may be left is looked for before the slot's next attempt.
        Err(refused) => return (ended(Outcome::NotStarted, refused.to_string()), true),
    };
    let started =
        AttemptStarted { isolation: process.isolation().to_owned(), unsandboxed: process.unsandboxed() };
    tracing::info!(isolation = started.isolation, unsandboxed = started.unsandboxed, "attempt started");

    let report = worker.control_plane.report(&lease.attempt_id, lease.fence, What::Started(started), give_up);
    tokio::pin!(report);
    let mut reported = false;
    let mut disk_checks = tokio::time::interval(DISK_CHECKS);
    disk_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let cause = loop {
        tokio::select! {
            exit = process.exited() => break Cause::Exited(exit),
            order = stop.ordered() => break match order {
                Order::Stop(reason) => Cause::Stopped(reason),
                // It goes on on another worker: it parts as when this one goes down.
                Order::Drain => Cause::Shutdown,
            },
            // The control plane watches the deadline too; this holds while it is away.
            () = tokio::time::sleep_until(deadline) => break Cause::Stopped("deadline".to_owned()),
            () = worker.shutdown.cancelled() => break Cause::Shutdown,
            _ = disk_checks.tick() => {
                if let Some(shortage) = executor.disk_shortage() {
                    break Cause::DiskFull(shortage);
                }
            }
            answer = &mut report, if !reported => {
                reported = true;
                if answer == Reported::Over {
                    break Cause::Stopped("lease lost".to_owned());
                }
            }
        }
    };
    if let Cause::Shutdown = cause {
        process.ask_to_end(PARTING).await;
    }
    let leftovers = process.end().await;
    if !reported {
        // The end must not overtake the start.
        report.await;
    }
    let output = process.output();
    if !output.is_empty() {
        tracing::info!(output, "what the runner wrote");
    }
    let mut ended = describe(cause, &output);
    if let Err(remains) = &leftovers {
        tracing::error!(reason = remains, "something of the attempt may still run");
        ended.message = format!("{} {remains}", ended.message);
    }
    (ended, leftovers.is_ok())
}

/// The report for how an attempt ended; `output` is the last the runner wrote.
fn describe(cause: Cause, output: &str) -> AttemptEnded {
    let last_line = output.lines().rev().map(presentable).find(|line| !line.is_empty());
    let last_line = last_line.as_deref().unwrap_or("It wrote nothing.");
    match cause {
        Cause::Stopped(reason) => ended(Outcome::Stopped, format!("Stopped: {reason}.")),
        Cause::DiskFull(shortage) => ended(Outcome::Died, shortage),
        Cause::Shutdown => {
            ended(Outcome::Shutdown, "The attempt was asked to leave the worker, and was ended.")
        }
        Cause::Exited(Exit { code: Some(0) }) => {
            AttemptEnded { exit_code: Some(0), ..ended(Outcome::Exited, "The runner came to its end.") }
        }
        Cause::Exited(Exit { code: Some(code) }) if code < KILLED => {
            // Only bubblewrap itself writes this, before the runner has started.
            let (outcome, what) = if output.starts_with("bwrap: ") {
                (Outcome::NotStarted, "The sandbox could not be started")
            } else {
                (Outcome::Exited, "The runner ended without returning a result")
            };
            AttemptEnded {
                exit_code: Some(code),
                ..ended(outcome, format!("{what} (exit code {code}): {last_line}"))
            }
        }
        Cause::Exited(Exit { code }) => {
            let signal = code.map_or_else(String::new, |code| format!(" by signal {}", code - KILLED));
            AttemptEnded {
                exit_code: code,
                ..ended(Outcome::Died, format!("The runner was killed{signal}."))
            }
        }
    }
}

/// The beginning of a line an agent may have written, without control characters.
fn presentable(line: &str) -> String {
    let plain: String = line.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARACTERS).collect();
    plain.trim().to_owned()
}

fn ended(outcome: Outcome, message: impl Into<String>) -> AttemptEnded {
    AttemptEnded { outcome: outcome.into(), message: message.into(), ..AttemptEnded::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_for_people() {
        let exit = |code| Cause::Exited(Exit { code });
        assert_eq!(describe(exit(Some(0)), "").outcome(), Outcome::Exited);
        let failed = describe(exit(Some(1)), "one\nthe gateway does not answer\n");
        assert_eq!(failed.outcome(), Outcome::Exited);
        assert!(failed.message.ends_with("(exit code 1): the gateway does not answer"), "{}", failed.message);
        let hostile = format!("the cause\0 {}\n\0\n", "x".repeat(64 * 1024));
        let message = describe(exit(Some(1)), &hostile).message;
        assert!(message.contains("(exit code 1): the cause xxx") && message.len() < 600, "{message}");
        let full = describe(Cause::DiskFull("The disk is nearly full.".into()), "");
        assert_eq!((full.outcome(), full.message.as_str()), (Outcome::Died, "The disk is nearly full."));
        let refused = describe(exit(Some(1)), "bwrap: Can't find source path /x\n");
        assert_eq!(refused.outcome(), Outcome::NotStarted);
        let killed = describe(exit(Some(137)), "");
        assert_eq!(
            (killed.outcome(), killed.message.as_str()),
            (Outcome::Died, "The runner was killed by signal 9.")
        );
        assert_eq!(describe(exit(None), "").outcome(), Outcome::Died);
        assert_eq!(describe(Cause::Stopped("cancelled".into()), "").message, "Stopped: cancelled.");
    }
}
