//! Events about the App's installations: they name repositories, and belong to none.

use std::collections::BTreeSet;

use domain::{
    decision::{Admission, Decision, Event, Facts, Installation, Record, RepositoryStanding, Told, decide},
    stage::Policy,
};

use super::{Unsettled, asked::answer, settled, write_down};
use crate::{
    App,
    deliveries::store::{Undecided, mark_decided},
    installations,
};

/// Decides on it, and takes note of what the App reaches by now: events come late and in any
/// order, so they only tell when to ask.
pub(super) async fn settle(
    app: &App,
    delivery: &Undecided,
    installation: &Installation,
    event: &Event,
) -> Result<(), Unsettled> {
    let mut reached = Vec::new();
    for repository in installations::affected(app, event, installation).await? {
        if let Ok(reach) = answer(installations::ask(app, &repository).await, delivery.tries)? {
            reached.push((repository, reach));
        }
    }
    let decided = decide(
        event,
        &Facts {
            policy: &Policy::built_in(),
            permission: None,
            role: None,
            bots: &BTreeSet::new(),
            own_effect: false,
            told: Told::Delivered,
            repository: RepositoryStanding::Enabled,
            default_branch: None,
            record: Record::default(),
            admission: Admission::default(),
        },
    );
    let mut tx = app.db.begin().await?;
    if !mark_decided(&mut tx, delivery.id, app.clock.now()).await? {
        return Ok(());
    }
    write_down(&mut tx, app, delivery, None, Some(event), &decided).await?;
    if let Decision::NoteInstallation { .. } = decided.decision {
        for (repository, reach) in &reached {
            installations::note(&mut tx, app, repository, reach).await?;
        }
    }
    settled(tx, delivery, Some(event), &decided).await
}
