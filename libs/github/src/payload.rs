//! What a webhook's body says, as far as decisions care.

use domain::{
    decision::{Account, Event, Happening},
    names::RepositoryName,
};
use serde::Deserialize;

/// A body that is not what its event has.
#[derive(Debug, thiserror::Error)]
#[error("the body of this `{event}` event does not read: {source}")]
pub struct UnreadablePayload {
    event: String,
    source: serde_json::Error,
}

/// What every event may say.
#[derive(Deserialize)]
struct Envelope {
    action: Option<String>,
    repository: Option<RepositoryBody>,
    installation: Option<InstallationBody>,
    sender: Option<SenderBody>,
}

#[derive(Deserialize)]
struct RepositoryBody {
    full_name: Option<RepositoryName>,
}

#[derive(Deserialize)]
struct InstallationBody {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct SenderBody {
    login: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl SenderBody {
    fn account(self) -> Option<Account> {
        let login = self.login?;
        let is_bot = self.kind.as_deref() == Some("Bot") || login.ends_with("[bot]");
        Some(Account { login, is_bot })
    }
}

#[derive(Deserialize)]
struct IssueLabeled {
    issue: IssueBody,
    label: Option<LabelBody>,
}

#[derive(Deserialize)]
struct IssueBody {
    number: u64,
    state: Option<String>,
    pull_request: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct PullRequestLabeled {
    pull_request: PullRequestBody,
    label: Option<LabelBody>,
}

#[derive(Deserialize)]
struct PullRequestBody {
    number: u64,
    head: Option<SideBody>,
    base: Option<SideBody>,
}

#[derive(Deserialize)]
struct SideBody {
    repo: Option<RepositoryBody>,
}

#[derive(Deserialize)]
struct LabelBody {
    name: String,
}

/// Reads the body of a delivery. Events and actions we do not know are [`Happening::Other`].
///
/// # Errors
/// [`UnreadablePayload`] when the body is not JSON, or what we read of it is not of the kind
/// GitHub documents.
pub fn parse(event_name: &str, body: &[u8]) -> Result<Event, UnreadablePayload> {
    let unreadable = |source| UnreadablePayload { event: event_name.chars().take(60).collect(), source };
    let envelope: Envelope = serde_json::from_slice(body).map_err(unreadable)?;
    let happening = match (event_name, envelope.action.as_deref()) {
        ("issues", Some("labeled")) => issue_labeled(serde_json::from_slice(body).map_err(unreadable)?),
        ("pull_request", Some("labeled")) => {
            pull_request_labeled(serde_json::from_slice(body).map_err(unreadable)?)
        }
        _ => Happening::Other,
    };
    Ok(Event {
        name: event_name.to_owned(),
        action: envelope.action,
        repository: envelope.repository.and_then(|repository| repository.full_name),
        installation: envelope.installation.and_then(|installation| installation.id),
        actor: envelope.sender.and_then(SenderBody::account),
        happening,
    })
}

fn issue_labeled(body: IssueLabeled) -> Happening {
    // The label is missing when it was deleted before the event was sent.
    let Some(LabelBody { name: label }) = body.label else { return Happening::Other };
    let IssueBody { number, state, pull_request } = body.issue;
    if pull_request.is_some() {
        return Happening::PullRequestLabeled { number, label, from_fork: false };
    }
    Happening::IssueLabeled { issue: number, label, open: state.as_deref() == Some("open") }
}

fn pull_request_labeled(body: PullRequestLabeled) -> Happening {
    let Some(LabelBody { name: label }) = body.label else { return Happening::Other };
    let PullRequestBody { number, head, base } = body.pull_request;
    let name = |side: Option<SideBody>| side?.repo?.full_name;
    // A head whose repository is gone or not said counts as a fork.
    let from_fork = match (name(head), name(base)) {
        (Some(head), Some(base)) => head != base,
        (None, _) | (_, None) => true,
    };
    Happening::PullRequestLabeled { number, label, from_fork }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(event: &str, body: &Value) -> Event {
        parse(event, body.to_string().as_bytes()).expect("readable")
    }

    fn labeled_issue() -> Value {
        json!({
            "action": "labeled",
            "issue": { "number": 7, "state": "open", "title": "Add a greeting", "user": { "login": "mona" } },
            "label": { "name": "run:dev", "color": "ededed" },
            "repository": { "full_name": "Octocat/Hello-World", "private": false },
            "installation": { "id": 42 },
            "sender": { "login": "mona", "type": "User" },
        })
    }

    #[test]
    fn a_labeled_issue() {
        let event = read("issues", &labeled_issue());
        assert_eq!(
            event.happening,
            Happening::IssueLabeled { issue: 7, label: "run:dev".into(), open: true }
        );
        assert_eq!(
            (event.name.as_str(), event.action.as_deref(), event.installation),
            ("issues", Some("labeled"), Some(42))
        );
        assert_eq!(event.repository, "octocat/hello-world".parse().ok());
        assert_eq!(event.actor, Some(Account { login: "mona".into(), is_bot: false }));
    }

    /// What an issue says decides nothing: only who did what to which label does.
    #[test]
    fn no_text_of_an_issue_changes_what_is_read() {
        for hostile in domain::hostile::texts() {
            let mut body = labeled_issue();
            for field in ["title", "body"] {
                body["issue"][field] = json!(hostile.text);
            }
            body["label"]["description"] = json!(hostile.text);
            body["repository"]["description"] = json!(hostile.text);
            assert_eq!(read("issues", &body), read("issues", &labeled_issue()), "{}", hostile.name);
        }
    }

    #[test]
    fn a_closed_issue_and_one_that_is_a_pull_request() {
        let mut body = labeled_issue();
        body["issue"]["state"] = json!("closed");
        assert_eq!(
            read("issues", &body).happening,
            Happening::IssueLabeled { issue: 7, label: "run:dev".into(), open: false }
        );
        body["issue"]["pull_request"] = json!({ "url": "https://api.github.com/repos/o/r/pulls/7" });
        assert_eq!(
            read("issues", &body).happening,
            Happening::PullRequestLabeled { number: 7, label: "run:dev".into(), from_fork: false }
        );
    }

    #[test]
    fn forks_are_told_apart() {
        let from_fork = |head: Value| {
            let body = json!({
                "action": "labeled",
                "pull_request": { "number": 9, "head": head, "base": { "repo": { "full_name": "octocat/hello-world" } } },
                "label": { "name": "run:dev" },
            });
            match read("pull_request", &body).happening {
                Happening::PullRequestLabeled { number: 9, from_fork, .. } => from_fork,
                other @ (Happening::IssueLabeled { .. }
                | Happening::PullRequestLabeled { .. }
                | Happening::Other) => panic!("{other:?}"),
            }
        };
        assert!(!from_fork(json!({ "repo": { "full_name": "Octocat/hello-world" } })));
        assert!(from_fork(json!({ "repo": { "full_name": "mallory/hello-world" } })));
        assert!(from_fork(json!({ "repo": null })));
        assert!(from_fork(json!(null)));
    }

    #[test]
    fn bots_are_told_by_type_or_name() {
        for (sender, is_bot) in [
            (json!({ "login": "mona", "type": "User" }), false),
            (json!({ "login": "mona" }), false),
            (json!({ "login": "dependabot[bot]", "type": "User" }), true),
            (json!({ "login": "renovate", "type": "Bot" }), true),
        ] {
            let actor = read("push", &json!({ "sender": sender })).actor;
            assert_eq!(actor.map(|a| a.is_bot), Some(is_bot), "{sender}");
        }
    }

    #[test]
    fn what_we_do_not_know_is_other() {
        for (event, body) in [
            ("issues", json!({ "action": "opened", "issue": "anything" })),
            ("issues", json!({ "action": "labeled", "issue": { "number": 1 } })),
            ("issues", json!({})),
            ("brand_new_event", json!({ "action": "sparkled", "repository": null, "sender": null })),
            ("ping", json!({ "zen": "Keep it logically awesome.", "hook": {} })),
        ] {
            assert_eq!(read(event, &body).happening, Happening::Other, "{event} {body}");
        }
    }

    #[test]
    fn hostile_bodies_are_errors_and_nothing_worse() {
        let deep =
            format!(r#"{{"action":"labeled","issue":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
        for body in [
            "",
            "null",
            "[]",
            "{",
            r#"{"action":7}"#,
            r#"{"action":"labeled","action":"opened"}"#,
            r#"{"repository":{"full_name":"../../etc"}}"#,
            r#"{"installation":{"id":-1}}"#,
            r#"{"action":"labeled","label":{"name":"run:dev"}}"#,
            r#"{"action":"labeled","issue":{"number":"7"},"label":{"name":"run:dev"}}"#,
            deep.as_str(),
        ] {
            let error =
                parse("issues", body.as_bytes()).expect_err(&body.chars().take(80).collect::<String>());
            assert!(error.to_string().len() < 400, "{error}");
        }
        // Depth in a part we do not read is passed over.
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
        assert!(parse("push", deep.as_bytes()).is_ok());
    }
}
