//! The `callboard` command: configuration, the whole platform in one process, and the
//! commands people use every day.

pub mod commands;
pub mod config;
mod data_dir;
mod platform;
mod serve;
#[cfg(feature = "simulator")]
mod stand_in;

pub use self::platform::{Options, Platform};
