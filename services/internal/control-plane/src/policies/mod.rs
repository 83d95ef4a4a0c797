//! The rules a repository's labels go by: the product's own stages, over them what the project's
//! file on the default branch says, and over both the operator's ceilings.

mod labels;
mod store;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    ids::RepositoryId,
    names::CommitSha,
    stage::{Ceilings, Pod, Policy},
};
use forge::ForgeError;
use sqlx::PgConnection;

pub(crate) use self::labels::{NotSynced, Outcome, sync_labels};
use self::store::Stored;
use crate::{
    App,
    projects::{
        default_head,
        store::{ProjectRules, Repository, rules},
    },
};

/// Where a project has its stages.
pub(crate) const FILE: &str = ".callboard/stages.yaml";

/// What a policy is made of.
type Ingredients = (Option<String>, Option<String>, Ceilings, Pod);

/// Policies by what they were made of, so that each is read once.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    read: Mutex<HashMap<RepositoryId, (Ingredients, Arc<Policy>)>>,
}

impl Policies {
    fn of(&self, repository: RepositoryId, made_of: Ingredients) -> Arc<Policy> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((same, policy)) = read.get(&repository)
            && *same == made_of
        {
            return Arc::clone(policy);
        }
        let (file, problem, ceilings, pods) = &made_of;
        let mut policy = Policy::of_project(file.as_deref(), ceilings, pods);
        if problem.is_some() {
            policy.problem.clone_from(problem);
        }
        let policy = Arc::new(policy);
        read.insert(repository, (made_of, Arc::clone(&policy)));
        policy
    }
}

/// A repository's rules as they were read last.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) policy: Arc<Policy>,
    /// False when its files were never read.
    pub(crate) was_read: bool,
}

/// The rules as they were read last; nothing is asked of the code host.
pub(crate) async fn known(db: &mut PgConnection, app: &App, repository: &Repository) -> sqlx::Result<Known> {
    let ProjectRules { ceilings, pods, .. } = rules(&mut *db, repository.project).await?;
    let stored = store::get(db, repository.id).await?;
    let was_read = stored.is_some();
    let Stored { stages, problem, .. } = stored.unwrap_or_default();
    Ok(Known { policy: app.policies.of(repository.id, (stages, problem, ceilings, pods)), was_read })
}

/// Why the rules as they are now could not be learnt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("`{FILE}` could not be read from the default branch: {0}")]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The rules as the head of the default branch has them now. While a new version of the file
/// does not read, the last one that did holds, and the policy says so.
pub(crate) async fn current(app: &App, repository: &Repository) -> Result<Arc<Policy>, Unread> {
    let (policy, new) = now(app, repository).await?;
    if let Some(new) = new {
        store::put(app, repository.id, &new).await?;
    }
    Ok(policy)
}

/// The same, and nothing is kept: for a look, also at a repository that is not ours yet.
pub(crate) async fn read_only(app: &App, repository: &Repository) -> Result<Arc<Policy>, Unread> {
    Ok(now(app, repository).await?.0)
}

/// The rules, and what was read to know them when it was not known before.
async fn now(app: &App, repository: &Repository) -> Result<(Arc<Policy>, Option<Stored>), Unread> {
    let ProjectRules { ceilings, pods, .. } = rules(&app.db, repository.project).await?;
    let (_, Some(head)) = default_head(app, repository).await? else {
        // Nothing was ever committed.
        return Ok((app.policies.of(repository.id, (None, None, ceilings, pods)), None));
    };
    let stored = store::get(&app.db, repository.id).await?;
    if let Some(Stored { commit, stages, problem }) = &stored
        && commit == head.as_str()
    {
        let made_of = (stages.clone(), problem.clone(), ceilings, pods);
        return Ok((app.policies.of(repository.id, made_of), None));
    }
    let read = read(app, repository, &head).await?.and_then(|file| {
        let problem = file.as_ref().and_then(|file| Policy::of_project(Some(file), &ceilings, &pods).problem);
        problem.map_or(Ok(file), Err)
    });
    let new = match read {
        Ok(stages) => Stored { commit: head.to_string(), stages, problem: None },
        Err(problem) => {
            tracing::warn!(repository = %repository.name, commit = %head, problem, "the project's stages do not read; the last ones hold");
            let stages = stored.and_then(|stored| stored.stages);
            Stored { commit: head.to_string(), stages, problem: Some(problem) }
        }
    };
    let made_of = (new.stages.clone(), new.problem.clone(), ceilings, pods);
    let policy = app.policies.of(repository.id, made_of);
    Ok((policy, Some(new)))
}

/// The file, when there is one; what is wrong with it is a sentence.
async fn read(
    app: &App,
    repository: &Repository,
    head: &CommitSha,
) -> Result<Result<Option<String>, String>, ForgeError> {
    match app.forge.file(&repository.name, FILE, head).await {
        Ok(None) => Ok(Ok(None)),
        Ok(Some(bytes)) => {
            Ok(String::from_utf8(bytes).map(Some).map_err(|_| format!("`{FILE}` is not UTF-8 text.")))
        }
        // The host has it and will not give it: too large, or not a file.
        Err(ForgeError::Invalid { message }) => Ok(Err(format!("`{FILE}` cannot be read: {message}"))),
        // A server that offers no files has none.
        Err(ForgeError::Unsupported { .. }) => Ok(Ok(None)),
        Err(
            error @ (ForgeError::Limited { .. }
            | ForgeError::BadCredential { .. }
            | ForgeError::Denied { .. }
            | ForgeError::Missing { .. }
            | ForgeError::Conflict { .. }
            | ForgeError::Outage { .. }),
        ) => Err(error),
    }
}

/// Every stage that some project has, and those of the product.
pub(crate) async fn stages(app: &App) -> sqlx::Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = Policy::built_in().stages.into_keys().collect();
    for repository in crate::projects::store::enabled(&app.db).await? {
        let known = known(&mut *app.db.acquire().await?, app, &repository).await?;
        names.extend(known.policy.stages.keys().cloned());
    }
    Ok(names)
}
