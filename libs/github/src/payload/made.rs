//! Events that were never sent, in the shape GitHub would have given them, made of what its API
//! tells now.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::names::RepositoryName;
use forge::{Issue, PullRequestDetails};
use serde::Deserialize;
use serde_json::{Value, json};

/// A label that stands, as its history tells.
#[derive(Clone, Copy, Debug)]
pub struct StandingLabel<'a> {
    /// Where.
    pub repository: &'a RepositoryName,
    /// The repository's number, where it is known.
    pub repository_id: Option<u64>,
    /// On what, as it is now.
    pub on: &'a Issue,
    /// Where that is a pull request, its branches.
    pub pull: Option<&'a PullRequestDetails>,
    /// The label.
    pub label: &'a str,
    /// Who set it, and whether that is a bot; `None`: nobody knows.
    pub by: Option<(&'a str, bool)>,
}

impl StandingLabel<'_> {
    /// Name of the event.
    pub fn event(&self) -> &'static str {
        if self.pull.is_some() { "pull_request" } else { "issues" }
    }

    /// Its body.
    pub fn body(&self) -> Vec<u8> {
        let on = self.on;
        let labels: Vec<Value> = on.labels.iter().map(|name| json!({ "name": name })).collect();
        let mut thread = json!({
            "number": on.number,
            "title": on.title,
            "body": on.body,
            "state": if on.open { "open" } else { "closed" },
            "user": { "login": on.author },
            "labels": labels,
            "html_url": on.html_url,
            "updated_at": on.updated_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        });
        if let Some(pull) = self.pull {
            let here = json!({ "full_name": self.repository.to_string() });
            // A head that lives elsewhere is not told where: it counts as a fork's.
            let head = if pull.from_fork { Value::Null } else { here.clone() };
            thread["head"] = json!({ "ref": pull.branch, "sha": pull.head_sha, "repo": head });
            thread["base"] = json!({ "ref": pull.base, "sha": pull.base_sha, "repo": here });
            thread["merged"] = json!(pull.merged);
        }
        let mut body = json!({
            "action": "labeled",
            "label": { "name": self.label },
            "repository": { "full_name": self.repository.to_string() },
        });
        body[if self.pull.is_some() { "pull_request" } else { "issue" }] = thread;
        if let Some(id) = self.repository_id {
            body["repository"]["id"] = json!(id);
        }
        if let Some((login, is_bot)) = self.by {
            body["sender"] = json!({ "login": login, "type": if is_bot { "Bot" } else { "User" } });
        }
        body.to_string().into_bytes()
    }
}

#[derive(Deserialize)]
struct Changed {
    #[serde(alias = "pull_request")]
    issue: Option<ChangedAt>,
}

#[derive(Deserialize)]
struct ChangedAt {
    updated_at: Option<DateTime<Utc>>,
}

/// When the issue or pull request of an event was last changed, by the event itself as a rule.
pub fn changed_at(body: &[u8]) -> Option<DateTime<Utc>> {
    serde_json::from_slice::<Changed>(body).ok()?.issue?.updated_at
}

#[cfg(test)]
mod tests {
    use domain::decision::{Account, Happening};

    use super::*;

    fn issue(is_pull_request: bool) -> Issue {
        Issue {
            number: 7,
            title: "Say hello".to_owned(),
            body: "Please.".to_owned(),
            author: "rio".to_owned(),
            open: true,
            labels: vec!["bug".to_owned(), "run:dev".to_owned()],
            html_url: "https://github.com/o/r/issues/7".to_owned(),
            is_pull_request,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    fn pull(from_fork: bool) -> PullRequestDetails {
        PullRequestDetails {
            number: 7,
            title: String::new(),
            body: String::new(),
            author: "rio".to_owned(),
            html_url: String::new(),
            branch: "topic".to_owned(),
            head_sha: "1".repeat(40).parse().expect("a commit"),
            base: "main".to_owned(),
            base_sha: "2".repeat(40).parse().expect("a commit"),
            from_fork,
            open: true,
            merged: false,
            labels: Vec::new(),
        }
    }

    #[test]
    fn it_reads_like_one_that_was_sent() {
        let repository: RepositoryName = "o/r".parse().expect("a name");
        for (details, by) in [
            (None, Some(("mona", false))),
            (Some(pull(false)), Some(("renovate[bot]", true))),
            (Some(pull(true)), None),
        ] {
            let on = issue(details.is_some());
            let label = StandingLabel {
                repository: &repository,
                repository_id: Some(4),
                on: &on,
                pull: details.as_ref(),
                label: "run:dev",
                by,
            };
            let (name, body) = (label.event(), label.body());
            let event = crate::payload::parse(name, &body).expect("it reads");
            assert_eq!((event.repository, event.repository_id), (Some(repository.clone()), Some(4)));
            let account = |(login, is_bot): (&str, bool)| Account { login: login.to_owned(), is_bot };
            assert_eq!(event.actor, by.map(account));
            let Happening::Labeled { on: thread, label } = event.happening else { panic!("{name}") };
            assert_eq!(
                (label.as_str(), thread.number, thread.open, thread.author.as_str()),
                ("run:dev", 7, true, "rio")
            );
            assert_eq!(thread.labels, ["bug", "run:dev"]);
            let told = thread.pull.map(|pull| (pull.head, pull.branch, pull.base, pull.from_fork));
            let wanted =
                details.map(|pull| (Some(pull.head_sha), Some(pull.branch), Some(pull.base), pull.from_fork));
            assert_eq!(told, wanted);
            assert_eq!(changed_at(&body), Some(DateTime::UNIX_EPOCH));
        }
        assert_eq!(changed_at(b"{}"), None);
    }
}
