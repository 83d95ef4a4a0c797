//! What would happen, without anything happening.

use domain::decision::{Decided, Event, Start};
use forge::ForgeError;
use prompts::AskedBy;

use super::{
    Unsettled,
    asked::{Asked, Question, ask, completed},
    deciding,
    sources::read_own,
    told::Came,
};
use crate::{
    App,
    projects::store::Repository,
    publishing::{self, Preview},
    runs::{self, RunError},
};

/// Outages are not waited for: whoever asks is there and can ask again.
const NO_PATIENCE: i32 = i32::MAX;

/// What an event would lead to.
#[derive(Debug)]
pub(crate) struct Simulated {
    pub(crate) decided: Decided,
    /// The thread it is about.
    pub(crate) number: Option<u64>,
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSimulated {
    #[error("the code host did not tell what the decision takes: {0}")]
    Forge(ForgeError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Unsettled> for NotSimulated {
    fn from(error: Unsettled) -> Self {
        match error {
            Unsettled::Run(error) => Self::Run(error),
            Unsettled::Database(error) => Self::Database(error),
            Unsettled::Forge(error) => Self::Forge(error),
            Unsettled::UnknownSetter => Self::Forge(ForgeError::Outage { message: error.to_string() }),
        }
    }
}

/// Decides on a payload as if it had just been delivered; changes nothing.
pub(crate) async fn simulate(
    app: &App,
    repository: Repository,
    name: &str,
    body: &[u8],
) -> Result<Simulated, NotSimulated> {
    let source = repository.source.clone();
    let found = repository;
    let (repository, event) = match read_own(Some(found), &source, name, body) {
        Ok(read) => read,
        Err(ignored) => {
            let number = ignored.event.and_then(|event| event.happening.number());
            return Ok(Simulated { decided: ignored.decided, number });
        }
    };
    let event: Event = completed(app, &repository, event, NO_PATIENCE, true).await?;
    let question = Question { repository: &repository, event: &event, tries: NO_PATIENCE, delivery: None };
    let asked = ask(app, question).await?;
    let mut tx = app.db.begin().await?;
    let (decided, _) =
        deciding::decided(&mut tx, app, &repository, &event, &asked, Came::just_now(app)).await?;
    // What was noted on the way is undone with the transaction.
    tx.rollback().await?;
    Ok(Simulated { decided, number: event.happening.number() })
}

/// What an agent has to work with.
const TOOLS: &[&str] =
    &["files and commands inside its sandbox", "the model, through the agent gateway; no other network"];
/// Stands where the comment's own mark comes in, once its decision has an id.
pub(super) const PREVIEW_MARK: &str = "<!-- callboard:preview -->";

/// The text of a preview.
pub(super) async fn preview_of(
    app: &App,
    repository: &Repository,
    asked: &Asked,
    decided: &Decided,
    start: &Start,
    event: &Event,
) -> String {
    let Some(definition) = asked.policy.get(&start.stage) else { return String::new() };
    let login = event.actor.as_ref().map(|actor| actor.login.clone()).unwrap_or_default();
    let asked_by = AskedBy { login, channel: "label".to_owned() };
    let prompt = runs::preview(app, repository, start, &asked.policy, asked_by).await;
    let why = prompt.as_ref().err().map(|error| telemetry::logging::chain(error).to_string());
    let prompt = match (&prompt, &why) {
        (Ok(prompt), _) => Ok(prompt.as_str()),
        (Err(_), Some(why)) => Err(why.as_str()),
        (Err(_), None) => Err(""),
    };
    let preview = Preview { decided, stage: &start.stage, definition, prompt, tools: TOOLS };
    publishing::preview(&preview, PREVIEW_MARK)
}
