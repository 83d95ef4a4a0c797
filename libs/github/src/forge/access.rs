//! What our credential may do with a repository, and what stands in the way of the rest.

use std::collections::BTreeSet;

use domain::{names::RepositoryName, rights::Permission};
use forge::{Access, Capability, Identity, Result};

use super::repositories::RepositoryBody;
use crate::client::{Client, Endpoint, Grant, Installation, Purpose};

pub(super) async fn read(client: &Client, repository: &RepositoryName) -> Result<Access> {
    if client.is_app() { of_app(client, repository).await } else { of_person(client, repository).await }
}

/// What an App's installation takes for each.
pub(crate) fn grants(capability: Capability) -> &'static [Grant] {
    match capability {
        Capability::ReadCode => &[("metadata", "read"), ("contents", "read")],
        Capability::WriteCode => &[("contents", "write")],
        Capability::WriteIssues => &[("issues", "write")],
        Capability::WritePullRequests => &[("pull_requests", "write")],
        Capability::ShowProgress => &[("checks", "write")],
        // It has a hook of its own.
        Capability::ManageHook => &[],
    }
}

async fn of_app(client: &Client, repository: &RepositoryName) -> Result<Access> {
    let installation: Installation = client.installation(repository).await?;
    let mut missing = BTreeSet::new();
    for capability in Capability::ALL {
        let lacking = grants(capability).iter().filter(|grant| !installation.grants(**grant));
        missing.extend(lacking.map(|(name, level)| (capability, format!("{name}: {level}"))));
    }
    Ok(Access {
        identity: Identity::App,
        installation: Some(installation.id),
        missing,
        permission: None,
        is_incomplete: false,
    })
}

/// What a person must be in a repository, and the scopes of a classic token of which any is
/// enough.
fn needs(capability: Capability, private: bool) -> (Permission, &'static [&'static str]) {
    let code: &[&str] = if private { &["repo"] } else { &["repo", "public_repo"] };
    match capability {
        Capability::ReadCode => (Permission::Read, if private { &["repo"] } else { &[] }),
        // Labels are put on and taken off.
        Capability::WriteIssues => (Permission::Triage, code),
        Capability::WriteCode | Capability::WritePullRequests => (Permission::Write, code),
        Capability::ShowProgress if private => (Permission::Write, &["repo", "repo:status"]),
        Capability::ShowProgress => (Permission::Write, &["repo", "public_repo", "repo:status"]),
        Capability::ManageHook => (Permission::Admin, &["repo", "admin:repo_hook", "write:repo_hook"]),
    }
}

async fn of_person(client: &Client, repository: &RepositoryName) -> Result<Access> {
    let answer = client.for_repository(repository, Purpose::Read).get(Endpoint::Repository, &[], &[]).await?;
    let body: RepositoryBody = answer.json()?;
    let permission = body.permissions.map(Permission::from);
    // A fine-grained token has permissions of its own, and nothing tells them.
    let scopes: Option<Vec<&str>> =
        answer.header("x-oauth-scopes").map(|scopes| scopes.split(',').map(str::trim).collect());
    let mut missing = BTreeSet::new();
    for capability in Capability::ALL {
        let (least, any_of) = needs(capability, body.private);
        if permission.is_some_and(|held| held < least) {
            missing.insert((capability, format!("the role `{least}`")));
        }
        let has_scope = scopes.as_ref().is_none_or(|held| any_of.iter().any(|scope| held.contains(scope)));
        if !has_scope && let Some(scope) = any_of.last() {
            missing.insert((capability, format!("the scope `{scope}`")));
        }
    }
    Ok(Access {
        identity: Identity::Person,
        installation: None,
        missing,
        permission,
        is_incomplete: permission.is_none() || scopes.is_none(),
    })
}
