//! `callboard pause` and `callboard resume`

use clap::Args;
use proto::admin::PauseRequest;

use super::{
    Result,
    connection::Connection,
    output::{Format, plain, print},
};

/// What is paused or resumed.
#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// A project's or a stage's name, project:NAME or stage:NAME; without it the whole platform.
    #[arg(value_name = "PROJECT|STAGE")]
    subject: Option<String>,
    /// Shown on the issues that wait, and kept in the audit log.
    #[arg(long, default_value = "")]
    reason: String,
}

impl From<Subject> for PauseRequest {
    fn from(asked: Subject) -> Self {
        Self { subject: asked.subject.unwrap_or_default(), reason: asked.reason }
    }
}

pub(crate) async fn pause(connection: &Connection, asked: Subject, format: Format) -> Result<()> {
    let done = connection.client().pause(PauseRequest::from(asked)).await;
    print(format, &done.map_err(|s| connection.explain(&s))?.into_inner(), |d| plain(&d.message))
}

pub(crate) async fn resume(connection: &Connection, asked: Subject, format: Format) -> Result<()> {
    let done = connection.client().resume(PauseRequest::from(asked)).await;
    print(format, &done.map_err(|s| connection.explain(&s))?.into_inner(), |d| plain(&d.message))
}
