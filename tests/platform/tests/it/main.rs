//! Stories on the whole platform in one process: real Postgres, real sandbox, real git, the
//! stand-in for GitHub, and a clock that tests move.

mod harness;

mod changesets;
mod codex;
mod crash_matrix;
mod deliveries;
mod effects;
mod endings;
mod histories;
mod hostile;
mod identities;
mod label_to_pull_request;
mod migrations;
mod outage;
mod payloads;
mod processes;
mod refusals;
mod two_of_each;
