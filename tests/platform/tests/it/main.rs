//! Stories on the whole platform in one process: real Postgres, real sandbox, real git, the
//! stand-in for GitHub, and a clock that tests move.

mod harness;

mod app;
mod approvals;
mod audit;
mod backup;
mod calls;
mod canaries;
mod changesets;
mod checkpoints;
mod codex;
mod contract;
mod crash_matrix;
mod deliveries;
mod discussion;
mod effects;
mod endings;
mod fault_matrix;
mod held;
mod histories;
mod hostile;
mod identities;
mod label_to_pull_request;
mod leases;
mod limits;
mod memory;
mod migrations;
mod out_of_reach;
mod outage;
mod pause;
mod payloads;
mod policies;
mod processes;
mod progress;
mod recovery;
mod refusals;
mod repositories;
mod retention;
mod review;
mod revise;
mod status_comments;
mod transcripts;
mod triggers;
mod two_of_each;
mod whole_process;
