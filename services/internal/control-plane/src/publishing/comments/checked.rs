//! What was checked before anything was published, in words.

use domain::neutralise::neutralise_line;

use super::phrases::{counts, findings, name};
use crate::{publishing::Publication, runs::Run};

/// Who let a held changeset be published.
#[derive(Clone, Copy, Debug)]
pub(in crate::publishing) struct Released<'a> {
    pub(in crate::publishing) by: &'a str,
    pub(in crate::publishing) reason: &'a str,
    /// What it was held for.
    pub(in crate::publishing) publication: &'a Publication,
}

/// "released by `mona` ("we agreed on it")"
fn released_by(released: &Released<'_>) -> String {
    let mut words = format!("released by {}", name(released.by));
    if !released.reason.is_empty() {
        words.push_str(&format!(" (\"{}\")", neutralise_line(released.reason, 300)));
    }
    words
}

/// The list for a pull request: what was checked, or let through by a person.
pub(super) fn checked(
    run: &Run,
    changeset: &domain::changeset::Changeset,
    released: Option<&Released<'_>>,
) -> String {
    let branch = run.base_branch.as_deref().unwrap_or("?");
    let mut text = format!(
        "- made on `{}` of {}, which the run was pinned to\n",
        run.base_sha.as_ref().map_or("?", |s| s.short()),
        name(branch)
    );
    let found = released.map(|r| r.publication.findings.as_slice()).unwrap_or_default();
    if found.is_empty() {
        text.push_str(&format!(
            "- {}, inside what stage {} may write and within its limits\n\
             - no protected paths, no hostile paths, nothing that looks like a secret\n",
            counts(changeset),
            name(&run.stage)
        ));
    } else if let Some(released) = released {
        text.push_str(&format!(
            "- {}; nothing but this was found, and it was {}:\n",
            counts(changeset),
            released_by(released)
        ));
        for line in findings(found).lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    if let Some((released, head)) = released.and_then(|r| Some((r, r.publication.head_moved_to.as_ref()?))) {
        text.push_str(&format!(
            "- {} has changed some of the same files since (up to `{}`), {}: expect conflicts\n",
            name(branch),
            head.short(),
            released_by(released)
        ));
    }
    text
}

/// A cell of the status comment, from the record alone.
pub(super) fn checked_in_short(publication: &Publication) -> String {
    use domain::run::PublicationState as State;
    let found = match publication.findings.len() {
        0 => "paths, write scope, limits and secrets: nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    let became = match (publication.state, &publication.released_by) {
        (_, Some(by)) => format!(", released by {}", name(by)),
        (State::Held, None) if publication.findings.is_empty() && publication.head_moved_to.is_some() => {
            ", held because the branch moved".to_owned()
        }
        (State::Held, None) => ", held for a person".to_owned(),
        // Refused for what was found; else for something that happened later.
        (State::Refused, None) if !publication.findings.is_empty() => ", refused".to_owned(),
        (State::Refused | State::Checking | State::Publishing | State::Published, None) => String::new(),
    };
    format!("{found}{became}")
}
