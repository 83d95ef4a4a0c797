//! The agent gateway as a pod meets it, against a control plane that is played.

mod connections;
mod control_plane;
mod git;
mod model;
mod refusals;
mod runner;
mod tls;
mod world;
