//! Stories on the whole platform in one process: real Postgres, real sandbox, real git, the
//! stand-in for GitHub, and a clock that tests move.

mod harness;

mod changesets;
mod checkpoints;
mod codex;
mod deliveries;
mod endings;
mod hostile;
mod identities;
mod label_to_pull_request;
mod migrations;
mod payloads;
mod processes;
mod refusals;
mod transcripts;
