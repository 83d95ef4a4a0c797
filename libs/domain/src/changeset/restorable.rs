//! May the changes of a checkpoint be written into a clone?

use std::collections::BTreeSet;

use super::{
    Change, Changeset, Mode,
    paths::{self, Hostile},
};

/// Why a checkpoint is never restored: a sentence that names the path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRestorable(String);

impl Changeset {
    /// Whether every change can be written into a clone of its base without leaving it.
    /// What a pod said of its files is a claim: one hostile path, and nothing of it is used.
    ///
    /// # Errors
    /// [`NotRestorable`] names the first path that stands in the way.
    pub fn restorable(&self) -> Result<(), NotRestorable> {
        let mut seen = BTreeSet::new();
        let mut written = BTreeSet::new();
        for file in &self.files {
            let shown = String::from_utf8_lossy(&file.path).escape_debug().to_string();
            let refuse = |why: &str| Err(NotRestorable(format!("`{shown}` {why}.")));
            let path = match paths::check(&file.path) {
                Ok(path) => path,
                Err(Hostile::GitFolder) => return refuse("touches git's own folder"),
                Err(Hostile::Because(why)) => return refuse(why),
            };
            if !seen.insert(path) {
                return refuse("is there twice");
            }
            match &file.change {
                Change::Delete => continue,
                Change::Submodule => return refuse("is a repository inside the repository"),
                Change::Put { mode: Mode::Regular | Mode::Executable, .. } => {}
                Change::Put { mode: Mode::Symlink, content } => match paths::resolve(path, content) {
                    Ok(_) => {}
                    Err(Hostile::GitFolder) => return refuse("is a link into git's own folder"),
                    Err(Hostile::Because(why)) => {
                        return refuse(&format!("is a link whose target {why}"));
                    }
                },
            }
            written.insert(path);
        }
        for path in &written {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(file) = above.into_iter().find(|folder| written.contains(folder)) {
                return Err(NotRestorable(format!("`{file}` is a file, and `{path}` needs a folder there.")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changeset::FileChange;

    fn put(path: &str, mode: Mode, content: &str) -> FileChange {
        FileChange { path: path.into(), change: Change::Put { mode, content: content.into() } }
    }

    fn judged(files: Vec<FileChange>) -> Result<(), String> {
        let base = "0123456789abcdef0123456789abcdef01234567".parse().expect("a sha");
        Changeset { base, files }.restorable().map_err(|e| e.to_string())
    }

    #[test]
    fn ordinary_work_is_restored() {
        let files = vec![
            put("a.txt", Mode::Regular, "x"),
            put("bin/run", Mode::Executable, "x"),
            put("bin/link", Mode::Symlink, "../a.txt"),
            FileChange { path: b"gone".to_vec(), change: Change::Delete },
            put("gone/now-a-folder", Mode::Regular, "x"),
            put(".github/workflows/ci.yml", Mode::Regular, "judged when it is published"),
        ];
        assert_eq!(judged(files), Ok(()));
    }

    #[test]
    fn one_hostile_path_refuses_all_of_it() {
        for (hostile, why) in [
            (put("../out", Mode::Regular, "x"), "has a part `.` or `..`"),
            (put("/etc/passwd", Mode::Regular, "x"), "is absolute"),
            (put(".git/hooks/post-checkout", Mode::Executable, "x"), "git's own folder"),
            (put("sub/.GIT/config", Mode::Regular, "x"), "git's own folder"),
            (put("link", Mode::Symlink, "/etc"), "is a link whose target is absolute"),
            (put("link", Mode::Symlink, "../../etc"), "leaves the repository"),
            (put("link", Mode::Symlink, ".git/hooks"), "a link into git's own folder"),
            (put("a.txt/b", Mode::Regular, "x"), "`a.txt` is a file"),
            (put("a.txt", Mode::Regular, "y"), "is there twice"),
            (FileChange { path: b"nested".to_vec(), change: Change::Submodule }, "inside the repository"),
            (FileChange { path: b"../gone".to_vec(), change: Change::Delete }, "has a part"),
        ] {
            let refused = judged(vec![put("a.txt", Mode::Regular, "x"), hostile]).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
