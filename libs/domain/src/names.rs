//! Names of things on a code host, checked once where they come in.

use serde::{Deserialize, Serialize};

/// The source of an App's deliveries: they come to `/webhooks/github`, for all its repositories.
/// No repository's own source has this name.
pub const APP_SOURCE: &str = "app";

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: expected {expected}")]
pub struct InvalidName {
    what: &'static str,
    text: String,
    expected: &'static str,
}

fn invalid(what: &'static str, text: &str, expected: &'static str) -> InvalidName {
    InvalidName { what, text: text.chars().take(120).collect(), expected }
}

/// True when `text` is `known` but for a slip of the hand.
pub(crate) fn alike(text: &str, known: &str) -> bool {
    let slips = strsim::damerau_levenshtein(&text.to_lowercase(), &known.to_lowercase());
    slips <= (known.chars().count() / 3).clamp(1, 2)
}

/// The known name that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|known| alike(text, known))
        .min_by_key(|known| strsim::damerau_levenshtein(text, known))
}

/// `owner/name` as the code host spells it. Compared without regard to case, as GitHub does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName {
    owner: String,
    name: String,
}

impl RepositoryName {
    /// The account the repository belongs to.
    pub fn owner(&self) -> &str {
        &self.owner
    }
    /// The name without its owner.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Lower case, for comparing and for keys.
    pub fn key(&self) -> String {
        self.to_string().to_lowercase()
    }
}

impl PartialEq for RepositoryName {
    fn eq(&self, other: &Self) -> bool {
        self.owner.eq_ignore_ascii_case(&other.owner) && self.name.eq_ignore_ascii_case(&other.name)
    }
}
impl Eq for RepositoryName {}

impl std::fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl std::str::FromStr for RepositoryName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let part = |p: &str| {
            (1..=100).contains(&p.len())
                && p != "."
                && p != ".."
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(invalid("repository", text, "owner/name")),
        }
    }
}
impl TryFrom<String> for RepositoryName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<RepositoryName> for String {
    fn from(name: RepositoryName) -> Self {
        name.to_string()
    }
}

/// The 40 hex digits of a git commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitSha(String);

impl CommitSha {
    /// All 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first seven digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}
impl std::fmt::Display for CommitSha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::str::FromStr for CommitSha {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(invalid("commit", text, "40 hex digits"))
        }
    }
}
impl TryFrom<String> for CommitSha {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<CommitSha> for String {
    fn from(sha: CommitSha) -> Self {
        sha.0
    }
}

/// A project's name: lower case letters, digits and dashes, at most 40.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectName(String);

impl ProjectName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for ProjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::str::FromStr for ProjectName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let ok = (1..=40).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid("project name", text, "lower case letters, digits and dashes, at most 40"))
        }
    }
}
impl TryFrom<String> for ProjectName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<ProjectName> for String {
    fn from(name: ProjectName) -> Self {
        name.0
    }
}
