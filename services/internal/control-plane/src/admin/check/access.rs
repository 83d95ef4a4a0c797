//! Who we are at the code host, and what it lets us do with each repository.

use domain::rights::Permission;
use forge::{Access, Identity};
use proto::admin::{Finding, finding::Level};

use super::finding;
use crate::{
    App,
    installations::{self, Reach},
    projects::store::Repository,
    setup,
};

/// What the login of an App ends with.
const BOT: &str = "[bot]";

/// Does it know us?
pub(super) async fn code_host(app: &App) -> Finding {
    let is_app = app.app_hook.is_some();
    let (expected, next) = if is_app {
        (
            "takes the App's key",
            "check github.api_url, github.app.id, github.app.private_key_file and this machine's clock",
        )
    } else {
        ("takes the token", "check github.api_url and github.token_file")
    };
    match app.forge.identity().await {
        Ok(login) if is_app => {
            finding(Level::Ok, "code host", expected, format!("acts as {login}, a GitHub App"), "")
        }
        Ok(login) => finding(Level::Ok, "code host", expected, format!("acts as {login}"), ""),
        Err(error) => finding(Level::Failure, "code host", expected, error.to_string(), next),
    }
}

/// Where an App gets a permission.
async fn grant(app: &App, name: &str, access: &Access) -> String {
    match access.identity {
        Identity::Person => format!("give the token {name}"),
        Identity::App => {
            let web = app.upstream.web_url.as_str().trim_end_matches('/');
            let login = app.forge.identity().await.unwrap_or_default();
            let slug = login.trim_end_matches(BOT);
            format!(
                "give the App `{name}` at {web}/settings/apps/{slug}/permissions (an organization's: below its own settings), \
                 then accept it on the page of the installation"
            )
        }
    }
}

/// What is known of one repository, and a line for each permission that is missing.
pub(super) async fn repository(app: &App, repository: &Repository) -> Vec<Finding> {
    let (probe, expected) = (format!("repository {}", repository.name), "the platform may work in it");
    let access = match installations::ask(app, repository).await {
        Ok(Reach::Open(access)) => access,
        Ok(Reach::Closed(why)) => {
            let (found, next) = why.split_once(". ").unwrap_or((&why, "look at the code host"));
            return vec![finding(Level::Failure, probe, expected, found, next)];
        }
        Err(error) => {
            return vec![finding(Level::Failure, probe, expected, error.to_string(), "look again later")];
        }
    };
    let now = match app.forge.repository(&repository.name).await {
        Ok(now) => now,
        Err(error) => {
            let next = "check the name, and that the credential may see it";
            return vec![finding(Level::Failure, probe, expected, error.to_string(), next)];
        }
    };
    if now.archived {
        let next = "take it out of the archive, and what waits goes on; or leave it out of callboard.yaml, or `callboard repo remove` it";
        return vec![finding(Level::Failure, probe, "takes changes", "it is archived", next)];
    }
    let how = match (access.installation, access.permission.or(now.our_permission)) {
        (Some(installation), _) => format!("covered by the installation {installation}"),
        (None, Some(permission)) => permission.to_string(),
        (None, None) => "the code host does not say what the token may do".to_owned(),
    };
    let told = format!("{how}; default branch {}", now.default_branch);
    let may = access.permission.or(now.our_permission);
    let too_little = access.identity == Identity::Person && may.is_some_and(|may| may < Permission::Write);
    let mut found = vec![if too_little {
        let next = "give the token contents, issues and pull requests: write";
        finding(Level::Failure, probe.as_str(), expected, told, next)
    } else {
        finding(Level::Ok, probe.as_str(), expected, told, "")
    }];
    for (capability, name) in &access.missing {
        let (level, rest) = if setup::is_needed(*capability) {
            (Level::Failure, "")
        } else {
            (Level::Warning, "; everything else works")
        };
        let broken = format!("it is missing: {}{rest}", setup::breaks(*capability));
        let next = grant(app, name, &access).await;
        found.push(finding(level, probe.as_str(), name, broken, &next));
    }
    found
}
