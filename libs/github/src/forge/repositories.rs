//! A repository, who may do what with it, and its labels.

use domain::{names::RepositoryName, rights::Permission};
use forge::{ForgeError, LabelDefinition, Repository, Result};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Endpoint, Scope};

/// Pages of a hundred labels that are read.
const LABEL_PAGES: u32 = 30;

#[derive(Deserialize)]
pub(super) struct RepositoryBody {
    id: u64,
    full_name: RepositoryName,
    default_branch: String,
    #[serde(default)]
    pub(super) private: bool,
    #[serde(default)]
    archived: bool,
    pub(super) permissions: Option<PermissionsBody>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct PermissionsBody {
    admin: bool,
    maintain: bool,
    push: bool,
    triage: bool,
    pull: bool,
}

impl From<PermissionsBody> for Permission {
    fn from(body: PermissionsBody) -> Self {
        let held = [
            (body.admin, Self::Admin),
            (body.maintain, Self::Maintain),
            (body.push, Self::Write),
            (body.triage, Self::Triage),
            (body.pull, Self::Read),
        ];
        held.into_iter().find_map(|(holds, permission)| holds.then_some(permission)).unwrap_or(Self::None)
    }
}

#[derive(Deserialize)]
struct CollaboratorBody {
    permission: String,
    role_name: Option<String>,
}

/// GitHub's names for permissions; a custom role has a name of its own.
fn standard_permission(name: &str) -> Option<Permission> {
    match name {
        "admin" => Some(Permission::Admin),
        "maintain" => Some(Permission::Maintain),
        "write" => Some(Permission::Write),
        "triage" => Some(Permission::Triage),
        "read" => Some(Permission::Read),
        "none" => Some(Permission::None),
        _ => None,
    }
}

#[derive(Deserialize)]
struct LabelBody {
    name: String,
    #[serde(default)]
    color: String,
    description: Option<String>,
}

pub(super) async fn read(repository: Scope<'_>) -> Result<Repository> {
    let body: RepositoryBody = repository.get(Endpoint::Repository, &[], &[]).await?.json()?;
    Ok(Repository {
        id: body.id,
        name: body.full_name,
        default_branch: body.default_branch,
        private: body.private,
        archived: body.archived,
        our_permission: body.permissions.map(Permission::from),
    })
}

pub(super) async fn permission(repository: Scope<'_>, login: &str) -> Result<Permission> {
    let body: CollaboratorBody = repository.get(Endpoint::Permission, &[login], &[]).await?.json()?;
    body.role_name
        .as_deref()
        .and_then(standard_permission)
        .or_else(|| standard_permission(&body.permission))
        .ok_or_else(|| ForgeError::Outage { message: "a permission with a name we do not know".to_owned() })
}

pub(super) async fn labels(repository: Scope<'_>) -> Result<Vec<LabelDefinition>> {
    let found: Vec<LabelBody> = repository.pages(Endpoint::Labels, &[], LABEL_PAGES).await?;
    let label = |body: LabelBody| LabelDefinition {
        name: body.name,
        color: body.color,
        description: body.description.unwrap_or_default(),
    };
    Ok(found.into_iter().map(label).collect())
}

pub(super) async fn create_label(repository: Scope<'_>, label: &LabelDefinition) -> Result<()> {
    let body = json!({ "name": label.name, "color": label.color, "description": label.description });
    repository.write(Endpoint::CreateLabel, &[], &body).await.map(drop)
}

pub(super) async fn update_label(repository: Scope<'_>, label: &LabelDefinition) -> Result<()> {
    let body = json!({ "color": label.color, "description": label.description });
    repository.write(Endpoint::UpdateLabel, &[&label.name], &body).await.map(drop)
}
