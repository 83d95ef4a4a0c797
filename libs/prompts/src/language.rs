//! What a prompt is for, and in which language it is.

use serde::{Deserialize, Serialize};

/// What a run wants of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stage, from the beginning.
    Work,
    /// The same stage again, on the pull request it made.
    Revise,
    /// Findings on somebody's pull request.
    Review,
    /// An answer on the issue.
    Discussion,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Work, Self::Revise, Self::Review, Self::Discussion];

    /// The name in files and in the context.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Revise => "revise",
            Self::Review => "review",
            Self::Discussion => "discussion",
        }
    }

    /// True when there is a pull request to look at or to go on with.
    pub const fn has_pull_request(self) -> bool {
        match self {
            Self::Work | Self::Discussion => false,
            Self::Revise | Self::Review => true,
        }
    }
}

/// The language a prompt is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English. Whatever another language lacks is taken from it.
    #[default]
    En,
    /// Russian.
    Ru,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::En, Self::Ru];

    /// The name of its folder.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ru => "ru",
        }
    }

    /// Stands where people see nothing on the code host, but the agent would have read something.
    pub(crate) const fn comment_removed(self) -> &'static str {
        match self {
            Self::En => "[hidden comment removed]",
            Self::Ru => "[скрытый комментарий удалён]",
        }
    }

    /// Stands where a text was cut.
    pub(crate) const fn cut(self) -> &'static str {
        match self {
            Self::En => "\n[the rest was left out: too long]",
            Self::Ru => "\n[остальное опущено: слишком длинно]",
        }
    }
}
