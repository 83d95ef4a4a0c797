//! What agents are asked, as they read it.

mod data;
mod projects;
mod reading;
