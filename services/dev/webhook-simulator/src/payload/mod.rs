//! JSON as GitHub writes it, for answers and deliveries alike: addresses, accounts,
//! repositories and hooks here; issues, pull requests and commits in their own files.

pub(crate) mod apps;
pub(crate) mod checks;
pub(crate) mod code;
pub(crate) mod history;
pub(crate) mod issue;
pub(crate) mod pull;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use domain::{names::RepositoryName, rights::Permission};
use serde_json::{Value, json};

use crate::world::{Hook, Issue, Repository, User, World};

/// Where the stand-in is reached.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    origin: String,
}

impl Urls {
    pub(crate) fn new(address: std::net::SocketAddr) -> Self {
        Self { origin: format!("http://{address}") }
    }

    pub(crate) fn web(&self) -> &str {
        &self.origin
    }

    pub(crate) fn api(&self) -> String {
        format!("{}/api/v3", self.origin)
    }

    pub(crate) fn repository_api(&self, name: &RepositoryName) -> String {
        format!("{}/api/v3/repos/{name}", self.origin)
    }

    pub(crate) fn repository_web(&self, name: &RepositoryName) -> String {
        format!("{}/{name}", self.origin)
    }

    /// The page of an issue or pull request.
    pub(crate) fn issue_web(&self, name: &RepositoryName, issue: &Issue) -> String {
        let kind = if issue.pull.is_some() { "pull" } else { "issues" };
        format!("{}/{name}/{kind}/{}", self.origin, issue.number)
    }
}

/// GitHub's times have whole seconds.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The opaque id GraphQL would use.
pub(crate) fn node_id(kind: &str, id: impl std::fmt::Display) -> String {
    BASE64_STANDARD.encode(format!("{kind}:{id}"))
}

pub(crate) fn user(urls: &Urls, user: &User) -> Value {
    let (login, api, web) = (&user.login, urls.api(), urls.web());
    let page = match login.strip_suffix("[bot]") {
        Some(app) if user.bot => format!("{web}/apps/{app}"),
        _ => format!("{web}/{login}"),
    };
    let mut value = json!({
        "login": login,
        "id": user.id,
        "node_id": node_id("User", user.id),
        "avatar_url": format!("{web}/avatars/u/{}?v=4", user.id),
        "gravatar_id": "",
        "url": format!("{api}/users/{login}"),
        "html_url": page,
        "type": if user.bot { "Bot" } else { "User" },
        "user_view_type": "public",
        "site_admin": false,
    });
    for (field, path) in [
        ("followers_url", "followers"),
        ("following_url", "following{/other_user}"),
        ("gists_url", "gists{/gist_id}"),
        ("starred_url", "starred{/owner}{/repo}"),
        ("subscriptions_url", "subscriptions"),
        ("organizations_url", "orgs"),
        ("repos_url", "repos"),
        ("events_url", "events{/privacy}"),
        ("received_events_url", "received_events"),
    ] {
        value[field] = json!(format!("{api}/users/{login}/{path}"));
    }
    value
}

/// What `GET /user` answers.
pub(crate) fn own_profile(urls: &Urls, account: &User, now: DateTime<Utc>) -> Value {
    let mut value = user(urls, account);
    for field in ["company", "location", "email", "hireable", "bio", "twitter_username"] {
        value[field] = Value::Null;
    }
    value["name"] = json!(account.login);
    value["blog"] = json!("");
    for field in ["public_repos", "public_gists", "followers", "following"] {
        value[field] = json!(0);
    }
    value["created_at"] = json!(time(now));
    value["updated_at"] = json!(time(now));
    value
}

/// Suffixes of a repository's `…_url` fields.
const REPOSITORY_URLS: [(&str, &str); 37] = [
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
    ("url", ""),
];

pub(crate) fn repository(world: &World, repository: &Repository) -> Value {
    let name = &repository.name;
    let (api, web) = (world.urls.repository_api(name), world.urls.repository_web(name));
    let open = repository.issues.values().filter(|i| i.open).count();
    let mut value = json!({
        "id": repository.id,
        "node_id": node_id("Repository", repository.id),
        "name": name.name(),
        "full_name": name.to_string(),
        "private": repository.private,
        "visibility": if repository.private { "private" } else { "public" },
        "owner": user(&world.urls, &world.user(name.owner())),
        "html_url": web,
        "description": null,
        "fork": repository.fork_of.is_some(),
        "created_at": time(repository.created_at),
        "updated_at": time(repository.pushed_at),
        "pushed_at": time(repository.pushed_at),
        "git_url": format!("{}.git", web.replacen("http://", "git://", 1)),
        "ssh_url": format!("git@localhost:{name}.git"),
        "clone_url": format!("{web}.git"),
        "svn_url": web,
        "default_branch": repository.default_branch,
        "archived": repository.archived,
        "open_issues_count": open,
        "open_issues": open,
        "topics": [],
        "has_issues": repository.has_issues,
    });
    for (field, suffix) in REPOSITORY_URLS {
        value[field] = json!(format!("{api}{suffix}"));
    }
    for field in ["homepage", "language", "mirror_url", "license"] {
        value[field] = Value::Null;
    }
    for field in ["size", "stargazers_count", "watchers_count", "forks_count", "forks", "watchers"] {
        value[field] = json!(0);
    }
    for field in ["disabled", "is_template", "has_pages", "has_discussions", "web_commit_signoff_required"] {
        value[field] = json!(false);
    }
    for field in ["has_projects", "has_downloads", "has_wiki", "allow_forking"] {
        value[field] = json!(true);
    }
    value
}

/// The `permissions` object of a repository, for whoever asked.
pub(crate) fn permissions(permission: Permission) -> Value {
    json!({
        "admin": permission >= Permission::Admin,
        "maintain": permission >= Permission::Maintain,
        "push": permission >= Permission::Write,
        "triage": permission >= Permission::Triage,
        "pull": permission >= Permission::Read,
    })
}

pub(crate) fn hook_config(hook: &Hook) -> Value {
    let mut config = json!({ "url": hook.url, "content_type": "json", "insecure_ssl": "0" });
    if hook.secret.is_some() {
        config["secret"] = json!("********");
    }
    config
}

pub(crate) fn hook(world: &World, repository: &Repository, hook: &Hook) -> Value {
    let url = format!("{}/hooks/{}", world.urls.repository_api(&repository.name), hook.id);
    let (code, words) = match &hook.last_response {
        Some((code, words)) => {
            (Some(*code), if (200..300).contains(code) { "active" } else { words.as_str() })
        }
        None => (None, "unused"),
    };
    let config = hook_config(hook);
    json!({
        "type": "Repository",
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": hook.events,
        "config": config,
        "created_at": time(hook.created_at),
        "updated_at": time(hook.updated_at),
        "url": url,
        "test_url": format!("{url}/tests"),
        "ping_url": format!("{url}/pings"),
        "deliveries_url": format!("{url}/deliveries"),
        "last_response": { "code": code, "status": words, "message": null },
    })
}
