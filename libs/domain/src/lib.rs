//! What Callboard knows and decides, without I/O and without async.
//!
//! Ids, labels, stages, decisions, states and their moves, rights, and the checks a
//! changeset has to pass. Everything here is a pure function of its arguments; clock and
//! randomness come in through [`clock::Clock`] and [`ids::Ids`].

pub mod censor;
pub mod changeset;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod decision;
pub mod hostile;
pub mod ids;
pub mod names;
pub mod neutralise;
pub mod outbox;
pub mod recovery;
pub mod retention;
pub mod retry;
pub mod review;
pub mod rights;
pub mod run;
pub mod stage;
pub mod tick;
pub mod workers;
