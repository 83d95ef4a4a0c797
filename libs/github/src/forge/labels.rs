//! Labels that stand, and the histories that tell who set them.

use chrono::{DateTime, SecondsFormat, Utc};
use forge::{Issue, LabelEvent, Result};
use serde::Deserialize;
use serde_json::Value;

use super::issues::IssueBody;
use crate::client::{Endpoint, PER_PAGE, Scope};

/// Pages of a hundred issues that are read.
const ISSUE_PAGES: u32 = 30;
/// Of a longer history, its newest ten pages of a hundred.
const HISTORY_PAGES: u32 = 10;

#[derive(Deserialize)]
struct LabeledBody {
    id: u64,
    actor: Option<ActorBody>,
    label: Option<NameBody>,
    created_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct ActorBody {
    login: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct NameBody {
    name: String,
}

impl LabeledBody {
    fn event(self) -> Option<LabelEvent> {
        let actor_is_bot = self
            .actor
            .as_ref()
            .is_some_and(|actor| actor.kind.as_deref() == Some("Bot") || actor.login.ends_with("[bot]"));
        Some(LabelEvent {
            id: self.id,
            label: self.label?.name,
            actor: self.actor.map(|actor| actor.login),
            actor_is_bot,
            at: self.created_at,
        })
    }
}

/// The oldest change first, so that a change while the pages are read moves nothing out of them.
pub(super) async fn changed_since(repository: Scope<'_>, since: DateTime<Utc>) -> Result<Vec<Issue>> {
    let (since, per_page) = (since.to_rfc3339_opts(SecondsFormat::Secs, true), PER_PAGE.to_string());
    let mut issues = Vec::new();
    for page in 1..=ISSUE_PAGES {
        let number = page.to_string();
        let query = [
            ("state", "open"),
            ("since", since.as_str()),
            ("sort", "updated"),
            ("direction", "asc"),
            ("per_page", per_page.as_str()),
            ("page", number.as_str()),
        ];
        let answer = repository.get(Endpoint::Issues, &[], &query).await?;
        let read: Vec<IssueBody> = answer.json()?;
        let full = read.len() >= PER_PAGE;
        issues.extend(read.into_iter().map(Issue::from));
        if !answer.has_next_page(full) {
            return Ok(issues);
        }
    }
    tracing::warn!(pages = ISSUE_PAGES, since, "very many issues changed; the rest is read at the next look");
    Ok(issues)
}

pub(super) async fn label_events(repository: Scope<'_>, number: u64) -> Result<Vec<LabelEvent>> {
    let number = number.to_string();
    let mut events = Vec::new();
    let (mut page, mut end) = (1_u32, HISTORY_PAGES);
    while page <= end {
        let answer = repository.page(Endpoint::Timeline, &[&number], page).await?;
        let read: Vec<Value> = answer.json()?;
        let full = read.len() >= PER_PAGE;
        let labeled =
            read.into_iter().filter(|event| event.get("event").is_some_and(|kind| kind == "labeled"));
        // Another shape than GitHub documents tells us nothing.
        let labeled = labeled.filter_map(|event| serde_json::from_value::<LabeledBody>(event).ok());
        events.extend(labeled.filter_map(LabeledBody::event));
        if page == 1
            && let Some(Some(last)) = answer.linked_page("last")
            && last > HISTORY_PAGES
        {
            events.clear();
            (page, end) = (last - HISTORY_PAGES + 1, last);
            continue;
        }
        if !answer.has_next_page(full) {
            break;
        }
        page += 1;
    }
    Ok(events)
}
