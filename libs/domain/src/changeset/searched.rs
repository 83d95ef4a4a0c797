//! A changeset in which secrets were looked for.

use super::{Change, Changeset};
use crate::censor::{Suspect, SuspectSearch};

/// A changeset with what in it has the shape of a secret; only such a one is judged.
#[derive(Clone, Debug)]
pub struct Searched {
    changeset: Changeset,
    /// Of every file, in their order.
    suspects: Vec<Suspects>,
    /// There was too much to search.
    gave_up: bool,
}

/// What one file has.
#[derive(Clone, Debug)]
pub(super) struct Suspects {
    pub(super) path: Option<Suspect>,
    pub(super) content: Vec<Suspect>,
}

impl Changeset {
    /// Looks for what has the shape of a secret, in paths and anywhere in new contents: what was
    /// there before is not at hand here, so a line that was not changed counts as well. Takes
    /// seconds for the largest, so it is done before anything is locked.
    pub fn searched(self) -> Searched {
        let mut search = SuspectSearch::new();
        let suspects = self.files.iter().map(|file| Suspects {
            path: search.suspects(&file.path, None).into_iter().next(),
            content: match &file.change {
                Change::Put { content, .. } => search.suspects(content, std::str::from_utf8(&file.path).ok()),
                Change::Delete | Change::Submodule => Vec::new(),
            },
        });
        let suspects = suspects.collect();
        Searched { changeset: self, suspects, gave_up: search.gave_up() }
    }
}

impl Searched {
    /// The changeset itself.
    pub fn changeset(&self) -> &Changeset {
        &self.changeset
    }

    pub(super) fn suspects(&self) -> &[Suspects] {
        &self.suspects
    }

    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }
}
