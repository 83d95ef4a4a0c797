//! GitHub, and servers that speak its API: the [`forge::Forge`] over REST, and what its
//! webhooks say. The only crate that knows octocrab.

pub mod app;
mod client;
mod commit;
mod failure;
mod forge;
pub mod link;
pub mod payload;
pub mod webhook;

pub use self::{
    client::{Credential, Endpoint, GithubSettings, SetupError},
    forge::GithubForge,
};
