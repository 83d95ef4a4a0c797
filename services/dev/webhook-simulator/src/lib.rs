//! A stand-in for GitHub, as far as Callboard uses it: octocrab and plain git cannot tell
//! them apart.
//!
//! REST under `/api/v3` (as GitHub Enterprise Server has it), repositories over smart HTTP,
//! signed deliveries to repository hooks, and small pages for people. State is in memory
//! behind one lock; git data is in real bare repositories. In a test, [`Simulator::start`]
//! one and speak to it in the field's terms; from outside, use the `webhook-simulator`
//! program, which does the same through `/_stand-in/`.

mod actions;
mod apps;
mod caller;
mod control;
mod delivery;
mod echo;
mod etag;
mod exchange;
mod fault;
mod gate;
mod git;
mod limits;
mod pages;
mod payload;
mod pulls;
mod refusal;
mod repositories;
mod rest;
mod seed;
mod simulator;
mod smart_http;
mod world;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use domain::{clock::Clock, ids::Ids};

pub use apps::{Accepted, Level, MintedToken, NewApp as App, ROUTES, Route, USUAL as USUAL_PERMISSIONS};
pub use delivery::{Answer, Delivery};
pub use exchange::{Asker, Content, Exchange};
pub use fault::{DeliveryFault, Fault, Script, UnknownFault};
pub use gate::{Feature, LoggedRequest};
pub use seed::{Seed, SeedHook, SeedRepository, SeedUser};
pub use simulator::Simulator;
pub use world::{
    CheckRun, Comment, CommitStatus, Label, PullRequest, Reaction, Remark, Review, ReviewState, Side,
};

/// How to start a [`Simulator`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder for the bare repositories. State is not read back from it: give an empty one.
    pub data: PathBuf,
    /// Dates of everything that happens.
    pub clock: Arc<dyn Clock>,
    /// Delivery GUIDs, request ids and tokens.
    pub ids: Ids,
}

impl Options {
    /// Listens on a free port of 127.0.0.1.
    pub fn new(data: impl Into<PathBuf>, clock: Arc<dyn Clock>, ids: Ids) -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), data: data.into(), clock, ids }
    }
}
