//! The files an attempt wants to change, and whether they may be published.

mod finding;
mod judge;
mod paths;
mod protected;
mod restorable;
mod searched;

use serde::{Deserialize, Serialize};

pub use finding::{Finding, FindingCode, HeldFor};
pub use judge::{Rules, Verdict, judge};
pub use protected::is_steering;
pub use restorable::NotRestorable;
pub use searched::Searched;

use crate::names::CommitSha;

/// How git keeps a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// 100644
    Regular,
    /// 100755
    Executable,
    /// 120000; the content is the target.
    Symlink,
}

/// What happens to one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Change {
    /// It is there afterwards, with this content.
    Put {
        /// How git keeps it.
        mode: Mode,
        /// Every byte of it.
        #[serde(with = "in_base64")]
        content: Vec<u8>,
    },
    /// It is gone afterwards.
    Delete,
    /// It names a commit of another repository; never published.
    Submodule,
}

/// One path and what happens to it. A rename is a deletion and a new file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// From the root of the repository, parts divided by `/`; a claim, so any bytes.
    #[serde(with = "in_base64")]
    pub path: Vec<u8>,
    /// What happens.
    pub change: Change,
}

/// The files an attempt wants to change, against one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changeset {
    /// The commit it was made on.
    pub base: CommitSha,
    /// What it changes; every path once.
    pub files: Vec<FileChange>,
}

/// The format this version writes.
const FORMAT: u32 = 1;

/// Stored bytes that are not a changeset.
#[derive(Debug, thiserror::Error)]
pub enum InvalidChangeset {
    /// Not JSON of the expected shape.
    #[error("not a changeset: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Written by a version this one does not know.
    #[error("changeset format {found} is not known; this version reads {FORMAT}")]
    Format {
        /// What it says.
        found: u32,
    },
}

impl Changeset {
    /// Those of `paths` that cannot be changed by somebody else at the same time: a path of the
    /// changeset, a folder where it has a file, or a file where it has a folder.
    pub fn touched_by<'p>(&self, paths: &'p [String]) -> Vec<&'p str> {
        let below = |path: &[u8], folder: &[u8]| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let touches = |path: &&str| {
            let path = path.as_bytes();
            self.files.iter().any(|file| below(path, &file.path) || below(&file.path, path))
        };
        paths.iter().map(String::as_str).filter(touches).collect()
    }

    /// For the object store: JSON with a format number, paths and contents in base64.
    ///
    /// # Panics
    /// Never: nothing in a changeset can fail to become JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Stored<'a> {
            format: u32,
            changeset: &'a Changeset,
        }
        serde_json::to_vec(&Stored { format: FORMAT, changeset: self })
            .expect("strings and numbers become JSON")
    }

    /// Reads what [`Changeset::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`InvalidChangeset`] when the bytes are damaged or of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidChangeset> {
        #[derive(Deserialize)]
        struct Envelope {
            format: u32,
        }
        #[derive(Deserialize)]
        struct Stored {
            changeset: Changeset,
        }
        // The number first: another format may well have another shape.
        let Envelope { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(InvalidChangeset::Format { found: format });
        }
        Ok(serde_json::from_slice::<Stored>(bytes)?.changeset)
    }
}

mod in_base64 {
    use std::borrow::Cow;

    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        STANDARD.encode(bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_change() -> impl Strategy<Value = Change> {
        let mode = proptest::sample::select(vec![Mode::Regular, Mode::Executable, Mode::Symlink]);
        prop_oneof![
            (mode, any::<Vec<u8>>()).prop_map(|(mode, content)| Change::Put { mode, content }),
            Just(Change::Delete),
            Just(Change::Submodule),
        ]
    }

    proptest! {
        /// What is stored is what comes back, byte for byte.
        #[test]
        fn bytes_come_back(files in proptest::collection::vec((any::<Vec<u8>>(), any_change()), 0..6)) {
            let base = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
            let files = files.into_iter().map(|(path, change)| FileChange { path, change }).collect();
            let changeset = Changeset { base, files };
            prop_assert_eq!(Changeset::from_bytes(&changeset.to_bytes()).unwrap(), changeset);
        }

        /// Damage is an error, never a panic.
        #[test]
        fn damage_is_an_error(bytes: Vec<u8>) {
            prop_assert!(Changeset::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn paths_that_meet() {
        let file = |path: &str| FileChange { path: path.into(), change: Change::Delete };
        let base = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let changeset = Changeset { base, files: vec![file("src/a.rs"), file("docs")] };
        let paths = ["src/a.rs", "src/a.rs.bak", "src", "docs/x/y.md", "docs2", "README.md", "src/a"];
        let paths = paths.map(str::to_owned);
        assert_eq!(changeset.touched_by(&paths), ["src/a.rs", "src", "docs/x/y.md"]);
    }

    #[test]
    fn the_stored_format_stays_readable() {
        let stored = br#"{"format":1,"changeset":{"base":"0123456789abcdef0123456789abcdef01234567","files":[
            {"path":"YQ==","change":{"kind":"put","mode":"executable","content":"aGk="}},
            {"path":"Yg==","change":{"kind":"delete"}}]}}"#;
        let changeset = Changeset::from_bytes(stored).unwrap();
        assert_eq!(
            changeset.files[0].change,
            Change::Put { mode: Mode::Executable, content: b"hi".to_vec() }
        );
        assert_eq!(changeset.files[1], FileChange { path: b"b".to_vec(), change: Change::Delete });
        let later = Changeset::from_bytes(br#"{"format":2}"#).unwrap_err();
        assert_eq!(later.to_string(), "changeset format 2 is not known; this version reads 1");
    }
}
