//! What agents are asked, as they read it.

mod data;
mod documentation;
mod hostile;
mod projects;
mod reading;
