//! May our credential do what runs need?

use domain::{names::RepositoryName, rights::Permission};
use forge::{Capability, ForgeError, Identity};

use super::progress::{Halt, Progress, refused, unanswered, unchanged, warning};
use crate::App;

const STEP: &str = "access";
/// What the login of an App ends with.
const BOT: &str = "[bot]";

/// What does not work without it.
pub(crate) fn breaks(capability: Capability) -> &'static str {
    match capability {
        Capability::ReadCode => "nothing can be cloned, so no run works",
        Capability::WriteCode => "no result can be published",
        Capability::WriteIssues => "no comment is written and no label taken off",
        Capability::WritePullRequests => "no pull request is opened",
        Capability::ShowProgress => "commits show no progress",
        Capability::ManageHook => {
            "the webhook is made by hand, and missed deliveries are not asked for again"
        }
    }
}

/// Without it nothing is set up.
pub(crate) fn is_needed(capability: Capability) -> bool {
    match capability {
        Capability::ReadCode
        | Capability::WriteCode
        | Capability::WriteIssues
        | Capability::WritePullRequests => true,
        Capability::ShowProgress | Capability::ManageHook => false,
    }
}

/// Where the App is given the repository.
fn install_page(app: &App, login: &str) -> String {
    let web = app.upstream.web_url.as_str().trim_end_matches('/');
    format!("{web}/apps/{}/installations/new", login.trim_end_matches(BOT))
}

/// Looks at the repository and at what we may do with it. Its number at the code host.
pub(super) async fn look(app: &App, name: &RepositoryName, progress: &Progress) -> Result<u64, Halt> {
    let found = match app.forge.repository(name).await {
        Ok(found) => found,
        Err(ForgeError::Missing { .. }) => {
            let next = match app.forge.identity().await {
                Ok(login) if login.ends_with(BOT) => {
                    format!(
                        "check the name, and that the App is installed for it: {}",
                        install_page(app, &login)
                    )
                }
                Ok(_) | Err(_) => "check the name, and give the token this repository".to_owned(),
            };
            let found = format!("there is no {name}, or our credential may not see it");
            return Err(refused(STEP, found, next));
        }
        Err(error) => return Err(unanswered(STEP, &error)),
    };
    if found.name != *name {
        let next = format!("run `callboard repo add {}`", found.name);
        return Err(refused(STEP, format!("{name} is called {} now", found.name), next));
    }
    if found.archived {
        return Err(refused(STEP, format!("{name} is archived and takes no changes"), "unarchive it first"));
    }
    let access = app.forge.access(name).await.map_err(|error| unanswered(STEP, &error))?;
    let permission = access.permission.or(found.our_permission);
    if let (Identity::Person, Some(permission)) = (access.identity, permission)
        && permission < Permission::Write
    {
        return Err(refused(
            STEP,
            format!("our credential has the permission {permission}, and runs need write"),
            "give the token contents, issues and pull requests: read and write",
        ));
    }
    let words = |needed: bool| {
        let missing = access.missing.iter().filter(|(capability, _)| is_needed(*capability) == needed);
        missing.map(|(capability, name)| format!("{name} ({})", breaks(*capability))).collect::<Vec<_>>()
    };
    let needed = words(true);
    if !needed.is_empty() {
        return Err(refused(
            STEP,
            format!("our credential lacks {}", needed.join(", ")),
            "give it these permissions, then run the same again",
        ));
    }
    let who = match access.identity {
        Identity::App => "the App's installation covers it".to_owned(),
        Identity::Person => permission
            .map_or_else(|| "the token may see it".to_owned(), |p| format!("the token may {}", verb(p))),
    };
    let number = found.id;
    let found = format!("{who}; default branch {}", found.default_branch);
    progress
        .say(match words(false) {
            missing if missing.is_empty() => unchanged(STEP, found),
            missing => {
                let next = format!("permissions that are missing: {}", missing.join(", "));
                warning(STEP, found, next)
            }
        })
        .await;
    Ok(number)
}

fn verb(permission: Permission) -> &'static str {
    match permission {
        Permission::None | Permission::Read | Permission::Triage => "read it",
        Permission::Write | Permission::Maintain => "write to it",
        Permission::Admin => "administer it",
    }
}
