//! What each step comes to, told as it happens.

use forge::ForgeError;
use proto::admin::{SetupStep, setup_step::Outcome};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{envelope::EnvelopeError, serving::internal};

/// Steps on their way to whoever asked. Nobody has to listen: the work goes on.
#[derive(Clone, Debug)]
pub(crate) struct Progress(pub(crate) mpsc::Sender<Result<SetupStep, Status>>);

impl Progress {
    /// Tells a step.
    pub(super) async fn say(&self, step: SetupStep) {
        drop(self.0.send(Ok(step)).await);
    }

    /// Tells why it ended early.
    pub(crate) async fn end(&self, halt: Halt) {
        let last = match halt {
            Halt::Refused(step) => Ok(step),
            Halt::Database(error) => Err(internal("admin.repository", &error)),
            Halt::Secret(error) => Err(internal("admin.repository", &error)),
        };
        drop(self.0.send(last).await);
    }
}

/// Why the steps after this one are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    /// A person has to do something first.
    #[error("{}", .0.found)]
    Refused(SetupStep),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Secret(#[from] EnvelopeError),
}

fn step(outcome: Outcome, step: &str, found: impl Into<String>, next_step: impl Into<String>) -> SetupStep {
    SetupStep {
        outcome: outcome.into(),
        step: step.to_owned(),
        found: found.into(),
        next_step: next_step.into(),
    }
}

/// It was done.
pub(super) fn done(name: &str, found: impl Into<String>) -> SetupStep {
    step(Outcome::Done, name, found, "")
}

/// It was so already, or is not needed.
pub(super) fn unchanged(name: &str, found: impl Into<String>) -> SetupStep {
    step(Outcome::Unchanged, name, found, "")
}

/// It would be done.
pub(super) fn planned(name: &str, found: impl Into<String>) -> SetupStep {
    step(Outcome::Planned, name, found, "")
}

/// It works, and a person should know something.
pub(super) fn warning(name: &str, found: impl Into<String>, next: impl Into<String>) -> SetupStep {
    step(Outcome::Warning, name, found, next)
}

/// It could not be done.
pub(super) fn failed(name: &str, found: impl Into<String>, next: impl Into<String>) -> SetupStep {
    step(Outcome::Failed, name, found, next)
}

/// Nothing after it is done.
pub(super) fn refused(name: &str, found: impl Into<String>, next: impl Into<String>) -> Halt {
    Halt::Refused(failed(name, found, next))
}

/// A failure of the code host that the same command gets over, or a person.
pub(super) fn unanswered(name: &str, error: &ForgeError) -> Halt {
    let next = match error {
        ForgeError::Limited { .. }
        | ForgeError::BadCredential { .. }
        | ForgeError::Outage { .. }
        | ForgeError::Conflict { .. } => "run the same again; what is done stays",
        ForgeError::Denied { .. } | ForgeError::Missing { .. } => {
            "give the credential the right, then run the same again"
        }
        ForgeError::Invalid { .. } => {
            "look at public_url in the configuration: the code host has to be able to reach it"
        }
        ForgeError::Unsupported { .. } => "do it by hand on the code host",
    };
    refused(name, error.to_string(), next)
}
