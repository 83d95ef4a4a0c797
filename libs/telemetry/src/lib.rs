//! What every process does the same way: logs, metrics, health, shutdown, the system
//! clock, and proving to each other who is calling.

pub mod address;
pub mod admin;
pub mod clock;
pub mod identity;
pub mod listener;
pub mod logging;
pub mod shutdown;
pub mod signing;
pub mod steps;
