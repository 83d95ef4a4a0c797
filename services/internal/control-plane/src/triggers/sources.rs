//! Whose deliveries: a payload is read, and must belong to the source that proves it.

use domain::{
    decision::{Decided, Event, Happening, Installation, Reason, RepositoryChange},
    names::{APP_SOURCE, RepositoryName},
};

use super::{Unsettled, asked::answer, short};
use crate::{
    App,
    deliveries::store::Undecided,
    installations::{self, Reach},
    projects::store::{Repository, by_number_or_name, by_source},
};

/// What a delivery is about.
pub(super) enum Read {
    /// A repository of ours.
    Event(Repository, Event),
    /// The App's installation.
    Installation(Installation, Event),
    /// Nothing that is looked at further.
    Ignored(Box<Ignored>),
}

/// A delivery that is decided without looking at more.
pub(super) struct Ignored {
    pub(super) repository: Option<Repository>,
    pub(super) event: Option<Event>,
    pub(super) decided: Decided,
}

fn ignored(repository: Option<Repository>, event: Event, reason: Reason, rule: &str) -> Box<Ignored> {
    Box::new(Ignored { repository, event: Some(event), decided: Decided::ignore(reason, rule) })
}

fn parse(name: &str, body: &[u8]) -> Result<Event, Box<Decided>> {
    github::payload::parse(name, body).map_err(|error| {
        let rule = format!("The payload does not have the shape of a `{}` event: {error}", short(name));
        Box::new(Decided::ignore(Reason::UnreadablePayload, rule))
    })
}

/// Reads a delivery.
pub(super) async fn read(app: &App, delivery: &Undecided) -> sqlx::Result<Read> {
    if delivery.source != APP_SOURCE {
        let repository = by_source(&app.db, &delivery.source).await?;
        let own = read_own(repository, &delivery.source, &delivery.event, &delivery.body);
        return Ok(own.map_or_else(Read::Ignored, |(repository, event)| Read::Event(repository, event)));
    }
    let event = match parse(&delivery.event, &delivery.body) {
        Ok(event) => event,
        Err(decided) => {
            return Ok(Read::Ignored(Box::new(Ignored { repository: None, event: None, decided: *decided })));
        }
    };
    if let Happening::Installation { installation } = &event.happening {
        return Ok(Read::Installation(installation.clone(), event));
    }
    let Some(name) = &event.repository else {
        let rule = "The delivery names no repository.";
        return Ok(Read::Ignored(ignored(None, event, Reason::NoRepository, rule)));
    };
    let names: Vec<String> = std::iter::once(name.key()).chain(name_before(name, &event)).collect();
    let number = event.repository_id.and_then(|id| i64::try_from(id).ok());
    let Some(repository) = by_number_or_name(&app.db, number, &names).await? else {
        let rule = format!("The App's delivery names {name}, which is not in the configuration.");
        return Ok(Read::Ignored(ignored(None, event, Reason::SourceMismatch, &rule)));
    };
    // Its own webhook brings the same, and a label must not count twice.
    if repository.own_hook && !matches!(event.happening, Happening::Repository { .. }) {
        let rule = format!(
            "{} has a webhook of its own, which brings this event too: that one is decided.",
            repository.name
        );
        return Ok(Read::Ignored(ignored(Some(repository), event, Reason::OwnHook, &rule)));
    }
    Ok(Read::Event(repository, event))
}

/// Reads a payload of a repository's own webhook.
pub(super) fn read_own(
    repository: Option<Repository>,
    source: &str,
    name: &str,
    body: &[u8],
) -> Result<(Repository, Event), Box<Ignored>> {
    let event = match parse(name, body) {
        Ok(event) => event,
        Err(decided) => return Err(Box::new(Ignored { repository, event: None, decided: *decided })),
    };
    let Some(repository) = repository.filter(|r| r.enabled) else {
        let rule = "No repository of the configuration uses this source any more.";
        return Err(ignored(None, event, Reason::SourceMismatch, rule));
    };
    match (&event.repository, &event.happening) {
        (Some(name), _) if belongs(&repository, name, &event) => {
            tracing::trace!(%name, source, "an event of this source's repository");
            Ok((repository, event))
        }
        (_, Happening::Installation { .. }) => {
            let rule = "Only the App's own webhook tells about its installations.";
            Err(ignored(Some(repository), event, Reason::SourceMismatch, rule))
        }
        (Some(name), _) => {
            let rule = format!(
                "The source `{source}` belongs to {}, and the delivery names {name}.",
                repository.name
            );
            Err(ignored(Some(repository), event, Reason::SourceMismatch, &rule))
        }
        (None, _) => {
            let rule = "The delivery names no repository.";
            Err(ignored(Some(repository), event, Reason::NoRepository, rule))
        }
    }
}

/// Is the event about this repository? By its name, by its number, or by the name it had before
/// what the event tells.
fn belongs(repository: &Repository, name: &RepositoryName, event: &Event) -> bool {
    let same_number = repository.forge_id.is_some()
        && event.repository_id.and_then(|id| i64::try_from(id).ok()) == repository.forge_id;
    *name == repository.name
        || same_number
        || name_before(name, event).is_some_and(|was| was == repository.name.key())
}

/// The key of the name a repository had before it was renamed or transferred.
fn name_before(name: &RepositoryName, event: &Event) -> Option<String> {
    let Happening::Repository { change } = &event.happening else { return None };
    let was = match change {
        RepositoryChange::Renamed { from } => format!("{}/{from}", name.owner()),
        RepositoryChange::Transferred { from: Some(from) } => format!("{from}/{}", name.name()),
        RepositoryChange::Transferred { from: None }
        | RepositoryChange::Archived
        | RepositoryChange::Unarchived
        | RepositoryChange::MadePrivate
        | RepositoryChange::MadePublic
        | RepositoryChange::Deleted => return None,
    };
    Some(was.to_lowercase())
}

/// What is to be asked of the code host before an event of a repository is decided.
pub(super) enum Confirmed {
    /// What it says now, as far as that was asked.
    Told {
        /// How it lets us at the repository.
        reach: Option<Reach>,
        /// The repository itself.
        now: Option<forge::Repository>,
    },
    /// The App's installation in the event is not the repository's.
    Foreign(Decided),
}

/// An event may say that our access changed, or the repository; the code host is asked then.
/// `repository` becomes what it is now.
pub(super) async fn confirm(
    app: &App,
    repository: &mut Repository,
    event: &Event,
    delivery: &Undecided,
) -> Result<Confirmed, Unsettled> {
    let told = event.installation.and_then(|number| i64::try_from(number).ok());
    let moved = matches!(
        event.happening,
        Happening::Repository {
            change: RepositoryChange::Transferred { .. } | RepositoryChange::MadePrivate
        }
    );
    let from_app = delivery.source == APP_SOURCE;
    // The first one is believed: the App's secret proves it.
    let another = from_app && repository.installation.is_some() && told != repository.installation;
    if from_app && repository.installation.is_none() {
        repository.installation = told;
    }
    if !(moved || another || repository.no_access.is_some()) {
        return Ok(Confirmed::Told { reach: None, now: as_it_is(app, repository, event, delivery).await? });
    }
    let mut asked_about = repository.clone();
    if let (true, Some(name)) = (from_app, &event.repository) {
        asked_about.name = name.clone();
    }
    let Ok(reach) = answer(installations::ask(app, &asked_about).await, delivery.tries)? else {
        return Ok(Confirmed::Told { reach: None, now: None });
    };
    if another && !moved && reach.installation() != told {
        let number = |n: Option<i64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
        let rule = format!(
            "The delivery comes from the installation {}, and {} belongs to {}.",
            number(told),
            repository.name,
            number(reach.installation().or(repository.installation)),
        );
        return Ok(Confirmed::Foreign(Decided::ignore(Reason::SourceMismatch, rule)));
    }
    repository.no_access = reach.closed().map(str::to_owned);
    repository.installation = reach.installation().or(repository.installation);
    let now = match &reach {
        Reach::Open(_) => as_it_is(app, repository, event, delivery).await?,
        Reach::Closed(_) => None,
    };
    Ok(Confirmed::Told { reach: Some(reach), now })
}

/// The repository as it is now, where the event tells of its name or the archive: it may come
/// late, after one that tells otherwise.
async fn as_it_is(
    app: &App,
    repository: &Repository,
    event: &Event,
    delivery: &Undecided,
) -> Result<Option<forge::Repository>, Unsettled> {
    let Happening::Repository { change } = &event.happening else { return Ok(None) };
    match change {
        RepositoryChange::Archived | RepositoryChange::Unarchived | RepositoryChange::Renamed { .. } => {}
        RepositoryChange::Transferred { .. }
        | RepositoryChange::MadePrivate
        | RepositoryChange::MadePublic
        | RepositoryChange::Deleted => return Ok(None),
    }
    let number = event.repository_id.or(repository.forge_id.and_then(|id| u64::try_from(id).ok()));
    let told = event.repository.as_ref().filter(|told| **told != repository.name);
    // Another one may have the name by which we know it.
    for name in std::iter::once(&repository.name).chain(told) {
        if let Ok(now) = answer(app.forge.repository(name).await, delivery.tries)?
            && number.is_none_or(|number| number == now.id)
        {
            return Ok(Some(now));
        }
    }
    Ok(None)
}
