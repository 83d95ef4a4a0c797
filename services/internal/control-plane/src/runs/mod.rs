//! Runs: queue, leases, attempts, deadlines, and how they end.

mod agent;
mod agent_runs;
mod attempt_calls;
pub(crate) mod attempts;
mod ending;
mod head_moved;
mod incoming;
mod lease;
mod no_worker;
mod pinning;
mod placement;
mod prepare;
mod reading;
mod reports;
mod start;
mod store;
mod templates;
mod waiting;
mod watchdog;
mod worker_calls;

pub(crate) use self::{
    attempt_calls::AttemptCalls,
    attempts::Attempt,
    ending::{cancel, end},
    head_moved::{again_on_new_head, input_changeset},
    incoming::Incoming,
    prepare::{NotPrepared, preview},
    start::{NewRun, start},
    store::{IssueSnapshot, Run, RunError, event, get, list, lock, move_run, of_issue},
    waiting::{behind, that_wait, under_way, waits},
    watchdog::spawn,
    worker_calls::WorkerCalls,
};
