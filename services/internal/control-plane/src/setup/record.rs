//! The platform's own record of a repository: made, kept, switched off.

use domain::{
    ids::{Id, RepositoryId, SecretId},
    names::{APP_SOURCE, RepositoryName},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    Asked,
    hook::address,
    progress::{Halt, Progress, done, planned, refused, unchanged},
    store::{self, Managed, Record},
};
use crate::{
    App, audit,
    envelope::{Envelope, EnvelopeError, random},
    projects::{
        self,
        store::{Repository, Standing},
    },
    steps::{self, Step},
};

const STEP: &str = "record";
/// As the configuration file allows.
const SOURCE_CHARS: usize = 60;

/// An event about a repository.
pub(super) async fn note(
    tx: &mut PgConnection,
    app: &App,
    repository: &Repository,
    actor: &str,
    action: &str,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    let entry = audit::Entry {
        project: Some(repository.project),
        actor,
        action,
        subject: format!("repository:{}", repository.id),
        detail,
        trace_id: None,
    };
    audit::record(tx, &*app.clock, &app.ids, entry).await
}

/// Makes a webhook's secret, 32 random bytes in hex. It is censored from now on.
pub(super) async fn make_secret(tx: &mut PgConnection, app: &App) -> sqlx::Result<SecretId> {
    let secret: SecretString = hex::encode(random::<32>()).into();
    app.censor.learn_for_good(&secret);
    app.envelope.store(tx, &*app.clock, &app.ids, secret.expose_secret().as_bytes()).await
}

/// Every webhook secret there is.
pub(crate) async fn stored_secrets(
    db: &PgPool,
    envelope: &Envelope,
) -> Result<Vec<SecretString>, EnvelopeError> {
    let mut secrets = Vec::new();
    for id in store::secrets(db).await? {
        let bytes = envelope.read(db, id).await?;
        secrets.extend(std::str::from_utf8(bytes.expose_secret()).ok().map(SecretString::from));
    }
    Ok(secrets)
}

/// A stored webhook secret.
pub(super) async fn secret(app: &App, id: Uuid) -> Result<SecretString, Halt> {
    let bytes = app.envelope.read(&app.db, id).await?;
    let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| EnvelopeError::Damaged)?;
    Ok(text.into())
}

/// The repository of that name as it stands in our records, when it is on.
pub(super) async fn known(app: &App, name: &RepositoryName) -> Result<Record, Halt> {
    let found = store::get(&mut *app.db.acquire().await?, name).await?;
    found.filter(|record| record.repository.enabled).ok_or_else(|| {
        refused(STEP, format!("{name} is not set up here"), format!("run `callboard repo add {name}`"))
    })
}

/// The project it goes to.
async fn project(
    db: &mut PgConnection,
    wanted: Option<&str>,
) -> Result<(domain::ids::ProjectId, String), Halt> {
    let mut all = store::projects(db).await?;
    let names = all.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
    match wanted {
        Some(wanted) => all.into_iter().find(|(_, name)| name == wanted).ok_or_else(|| {
            let next = if names.is_empty() {
                "add it under projects: in the configuration and restart the platform".to_owned()
            } else {
                format!("name one of these: {names}; or add it under projects: in the configuration")
            };
            refused(STEP, format!("there is no project `{wanted}`"), next)
        }),
        None if all.len() == 1 => Ok(all.remove(0)),
        None if all.is_empty() => Err(refused(
            STEP,
            "there is no project yet",
            "add one under projects: in the configuration and restart the platform",
        )),
        None => Err(refused(STEP, "there are several projects", format!("name one with --project: {names}"))),
    }
}

/// The last part of the webhook's address, which nobody else has.
async fn source(db: &mut PgConnection, asked: &Asked) -> Result<String, Halt> {
    let source = asked.source.clone().unwrap_or_else(|| asked.name.name().to_owned());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if source.is_empty() || source.len() > SOURCE_CHARS || !source.bytes().all(plain) {
        return Err(refused(
            STEP,
            "the last part of the webhook's address has letters, digits, - _ . and at most 60 of them",
            "name one with --source",
        ));
    }
    if source == APP_SOURCE {
        return Err(refused(
            STEP,
            format!("the source `{source}` is the App's"),
            "name another with --source",
        ));
    }
    match store::holder_of_source(db, &source, &asked.name).await? {
        Some(other) => Err(refused(
            STEP,
            format!("the source `{source}` is that of {other}"),
            "name another with --source; it is the last part of the webhook's address",
        )),
        None => Ok(source),
    }
}

/// What stands already must be what is asked for.
async fn agree(db: &mut PgConnection, asked: &Asked, record: &Record) -> Result<String, Halt> {
    let projects = store::projects(db).await?;
    let project = projects.into_iter().find(|(id, _)| *id == record.repository.project);
    let project = project.map(|(_, name)| name).unwrap_or_default();
    if asked.project.as_ref().is_some_and(|wanted| *wanted != project) {
        let found = format!("{} belongs to the project {project}", asked.name);
        return Err(refused(STEP, found, "leave --project out; a repository does not change its project"));
    }
    if asked.source.as_ref().is_some_and(|wanted| *wanted != record.repository.source) {
        let found = format!("the source of {} is `{}`", asked.name, record.repository.source);
        return Err(refused(STEP, found, "leave --source out; a webhook's address does not change"));
    }
    Ok(project)
}

/// Finds the record, or makes it with a secret of its own. `number`: the repository's at the code
/// host.
pub(super) async fn keep(
    app: &App,
    actor: &str,
    asked: &Asked,
    number: u64,
    progress: &Progress,
) -> Result<Record, Halt> {
    let forge_id = i64::try_from(number).ok();
    let mut tx = app.db.begin().await?;
    store::lock(&mut tx).await?;
    let there = store::get(&mut tx, &asked.name).await?;
    if let Some(record) = there.as_ref().filter(|record| record.repository.enabled) {
        let project = agree(&mut tx, asked, record).await?;
        if !asked.dry_run && record.repository.forge_id != forge_id {
            let standing = Standing { forge_id, ..Standing::default() };
            projects::store::note(&mut tx, record.repository.id, &standing, app.clock.now()).await?;
            steps::commit(tx, Step::AccessNoted).await?;
        }
        let whose = match record.managed {
            Managed::File => "; the configuration file has it, and nothing of it is changed here",
            Managed::Command => "",
        };
        progress.say(unchanged(STEP, format!("in the project {project}{whose}"))).await;
        return Ok(record.clone());
    }
    let (project, project_name) = project(&mut tx, asked.project.as_deref()).await?;
    // An App delivers for all its repositories: none has an address of its own.
    let own_hook = app.app_hook.is_none();
    let source = if own_hook { source(&mut tx, asked).await? } else { asked.name.key() };
    let repository = Repository {
        id: there.as_ref().map_or_else(|| app.ids.next::<RepositoryId>(), |record| record.repository.id),
        project,
        name: asked.name.clone(),
        source,
        default_branch: None,
        enabled: true,
        archived: false,
        gone: false,
        forge_id,
        own_hook,
        installation: None,
        no_access: None,
    };
    let mut record = Record {
        repository,
        managed: Managed::Command,
        current_secret: None,
        previous_secret: None,
        hook: there.and_then(|record| record.hook),
        hook_secret: None,
        rotated_at: None,
    };
    let own = if own_hook { ", with a secret of its own" } else { "" };
    if asked.dry_run {
        let found = format!("would be made in the project {project_name}{own}");
        progress.say(planned(STEP, found)).await;
        return Ok(record);
    }
    let secret = make_secret(&mut tx, app).await?;
    record.current_secret = Some(secret.uuid());
    let new = store::New {
        id: record.repository.id,
        project,
        name: &asked.name,
        source: &record.repository.source,
        secret,
        own_hook: record.repository.own_hook,
        forge_id,
        now: app.clock.now(),
    };
    store::add(&mut tx, &new).await?;
    let detail = json!({ "name": asked.name.to_string(), "project": project_name, "source": record.repository.source });
    note(&mut tx, app, &record.repository, actor, "repository.added", detail).await?;
    steps::commit(tx, Step::RepositoryAdded).await?;
    progress.say(done(STEP, format!("made in the project {project_name}{own}"))).await;
    Ok(record)
}

/// Switches off what a command added.
pub(crate) async fn remove(
    app: &App,
    actor: &str,
    name: &RepositoryName,
    progress: &Progress,
) -> Result<(), Halt> {
    let mut tx = app.db.begin().await?;
    store::lock(&mut tx).await?;
    let Some(record) = store::get(&mut tx, name).await? else {
        return Err(refused(
            STEP,
            format!("{name} is not set up here"),
            "`callboard repo list` shows what is",
        ));
    };
    if !record.repository.enabled {
        progress.say(unchanged(STEP, "it is switched off already")).await;
        return Ok(());
    }
    if record.managed == Managed::File {
        let next = "take it out of projects: there and restart the platform";
        return Err(refused(STEP, format!("the configuration file has {name}"), next));
    }
    store::remove(&mut tx, record.repository.id).await?;
    note(&mut tx, app, &record.repository, actor, "repository.removed", json!({ "name": name.to_string() }))
        .await?;
    steps::commit(tx, Step::RepositoryRemoved).await?;
    let mut found = format!("switched off; nothing starts in {name} any more, its history stays");
    if record.repository.own_hook {
        let url = address(app, &record.repository);
        found.push_str(&format!(". Its webhook to {url} may be deleted on the code host"));
    }
    progress.say(done(STEP, found)).await;
    Ok(())
}

/// The secret of a webhook that a person makes by hand, and the address it belongs to.
pub(crate) async fn secret_for_a_person(
    app: &App,
    actor: &str,
    name: &RepositoryName,
) -> Result<(String, SecretString), Halt> {
    let record = known(app, name).await?;
    if !record.repository.own_hook {
        let next = "it is in the file that github.app.webhook_secret_file names";
        return Err(refused("secret", "the App delivers for all its repositories, with one secret", next));
    }
    let (Managed::Command, Some(current)) = (record.managed, record.current_secret) else {
        return Err(refused(
            "secret",
            format!("the configuration file has {name}"),
            "its secret is in the file that webhook_secret_file names",
        ));
    };
    let secret = secret(app, current).await?;
    let mut tx = app.db.begin().await?;
    note(&mut tx, app, &record.repository, actor, "repository.secret_shown", json!({})).await?;
    steps::commit(tx, Step::SecretShown).await?;
    Ok((address(app, &record.repository), secret))
}
