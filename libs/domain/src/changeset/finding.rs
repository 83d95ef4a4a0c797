//! What is wrong with a changeset, and what a person is asked about it.

use serde::{Deserialize, Serialize};

/// Findings that are listed; nobody reads more.
const MOST_FINDINGS: usize = 50;

/// One thing that keeps a changeset from being published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code.
    pub code: FindingCode,
    /// The path it is about, made readable: without secrets, hidden characters escaped.
    pub path: Option<String>,
    /// What is wrong, for people.
    pub sentence: String,
}

/// What can be wrong. The names are stable: people filter by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// Made on another commit than the run was pinned to.
    WrongBase,
    /// More files than the stage may change.
    TooManyFiles,
    /// More lines than the stage may write by itself: generated files have many.
    TooManyLines,
    /// More bytes than the stage may write.
    TooLarge,
    /// Not a path a repository should have.
    HostilePath,
    /// Touches the repository's own folder.
    GitFolder,
    /// Named twice.
    DuplicatePath,
    /// A file and a folder of the same name.
    FileAndFolder,
    /// Differs from another path only by case.
    CaseConflict,
    /// Not for this stage to write: held, and refused where the stage writes nothing at all.
    OutsideWriteScope,
    /// A symbolic link that must not lead where it leads.
    SymlinkTarget,
    /// A commit of another repository.
    Submodule,
    /// A secret the platform knows.
    KnownSecret,
    /// Something that has the shape of a token; for a person to look at.
    SecretPattern,
    /// Always for a person to look at.
    ProtectedPath,
    /// A symbolic link to something that is always for a person to look at.
    LinkToProtectedPath,
    /// Nothing is wrong, but everything this stage makes waits for a person.
    NeedsApprover,
}

/// What a person who looks at a held changeset is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldFor {
    /// What looks like a secret.
    Secrets,
    /// Files that are always for a person to look at.
    ProtectedFiles,
    /// Files the stage may not write by itself.
    OtherFiles,
    /// More than a stage writes by itself.
    Size,
    /// The stage's rule that every result is looked at.
    Approver,
}

impl FindingCode {
    /// What a person is asked when this holds a changeset; `None` for what always refuses one.
    pub fn held_for(self) -> Option<HeldFor> {
        match self {
            Self::SecretPattern => Some(HeldFor::Secrets),
            Self::ProtectedPath | Self::LinkToProtectedPath => Some(HeldFor::ProtectedFiles),
            Self::OutsideWriteScope => Some(HeldFor::OtherFiles),
            Self::TooManyLines => Some(HeldFor::Size),
            Self::NeedsApprover => Some(HeldFor::Approver),
            Self::WrongBase
            | Self::TooManyFiles
            | Self::TooLarge
            | Self::HostilePath
            | Self::GitFolder
            | Self::DuplicatePath
            | Self::FileAndFolder
            | Self::CaseConflict
            | Self::SymlinkTarget
            | Self::Submodule
            | Self::KnownSecret => None,
        }
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    refused: Vec<Finding>,
    held: Vec<Finding>,
}

impl Findings {
    pub(super) fn refuse(&mut self, code: FindingCode, path: Option<&str>, sentence: String) {
        push(&mut self.refused, code, path, sentence);
    }

    pub(super) fn hold(&mut self, code: FindingCode, path: Option<&str>, sentence: String) {
        push(&mut self.held, code, path, sentence);
    }

    /// What refuses, and what holds; each at most [`MOST_FINDINGS`], those about secrets first, so
    /// that no number of others hides one from the person who releases.
    pub(super) fn listed(mut self) -> (Vec<Finding>, Vec<Finding>) {
        self.refused.truncate(MOST_FINDINGS);
        self.held.sort_by_key(|finding| finding.code.held_for());
        self.held.truncate(MOST_FINDINGS);
        (self.refused, self.held)
    }
}

/// Keeps it unless there are enough of its kind.
fn push(list: &mut Vec<Finding>, code: FindingCode, path: Option<&str>, sentence: String) {
    if list.iter().filter(|finding| finding.code == code).count() < MOST_FINDINGS {
        list.push(Finding { code, path: path.map(str::to_owned), sentence });
    }
}
