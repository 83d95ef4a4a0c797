//! Steering files are the default branch's, whatever the commit a run works on says: what a pull
//! request changes of them steers nobody before it is merged.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use domain::changeset::{Change, Changeset, FileChange, Mode, is_steering};
use proto::v1::Assignment;

use crate::{
    changeset::{Base, Entry, Kind},
    git::Git,
    restore,
};

/// What has to be put back in a clone.
#[derive(Debug)]
pub(crate) struct Steering {
    changes: Option<Changeset>,
}

impl Steering {
    /// What differs between the clone's commit and the default branch's; noted in `base`, so that
    /// it is no change of the agent's.
    pub(crate) async fn of(
        git: &Git,
        assignment: &Assignment,
        repo: &Path,
        base: &mut Base,
    ) -> anyhow::Result<Self> {
        let sha = assignment.steering_sha.as_str();
        if sha.is_empty() || sha == assignment.base_sha {
            return Ok(Self { changes: None });
        }
        let wanted = git.tree(repo, sha).await?;
        let paths: BTreeSet<&Vec<u8>> = base.iter().chain(wanted.iter()).map(|(path, _)| path).collect();
        let paths: Vec<Vec<u8>> = paths
            .into_iter()
            .filter(|path| is_steering(path) && base.get(path) != wanted.get(path) && !hidden(base, path))
            .cloned()
            .collect();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let entry = wanted.get(&path).filter(|entry| entry.kind != Kind::Submodule);
            let change = match entry {
                Some(entry) => Change::Put { mode: mode(entry), content: git.blob(repo, &entry.id).await? },
                None => Change::Delete,
            };
            base.is_restored(path.clone(), entry.cloned());
            files.push(FileChange { path, change });
        }
        let changes = Changeset { base: assignment.base_sha.parse()?, files };
        Ok(Self { changes: Some(changes) })
    }

    /// How many files differ.
    pub(crate) fn files(&self) -> usize {
        self.changes.as_ref().map_or(0, |changes| changes.files.len())
    }

    /// Writes them into the clone as it is after a checkout.
    pub(crate) fn put_back(&self, repo: &Path) -> anyhow::Result<()> {
        let Some(changes) = &self.changes else { return Ok(()) };
        let written = changes.files.iter().filter(|file| matches!(file.change, Change::Put { .. }));
        // What is deleted was checked out by git, which knows no hostile paths.
        Changeset { base: changes.base.clone(), files: written.cloned().collect() }.restorable()?;
        restore::write(changes, repo).context("the steering files of the default branch")
    }
}

fn mode(entry: &Entry) -> Mode {
    match entry.kind {
        Kind::Executable => Mode::Executable,
        Kind::Symlink => Mode::Symlink,
        Kind::File | Kind::Submodule => Mode::Regular,
    }
}

/// True where a folder of the path is no folder in the clone: then there is nothing to steer.
fn hidden(base: &Base, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.into_iter().any(|end| base.get(&path[..end]).is_some() && !is_steering(&path[..end]))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::changeset::{self, Specials};

    fn git(repo: &Path, words: &[&str]) -> String {
        let mut command = subprocess::command("git", repo);
        command.env("HOME", repo).env("GIT_CONFIG_NOSYSTEM", "1");
        command.args(["-c", "user.name=A", "-c", "user.email=a@b.c"]).args(words);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn commit(repo: &Path) -> String {
        git(repo, &["add", "-A"]);
        git(repo, &["commit", "-q", "-m", "x"]);
        git(repo, &["rev-parse", "HEAD"])
    }

    #[tokio::test]
    async fn what_a_pull_request_changes_of_them_neither_steers_nor_counts_as_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let repo = folder.path().join("repo");
        let at = |path: &str| repo.join(path);
        fs::create_dir_all(at(".codex")).expect("made");
        fs::create_dir_all(at("sub")).expect("made");
        git(&repo, &["init", "-q"]);
        for (path, text) in [
            ("AGENTS.md", "be kind\n"),
            (".codex/config.toml", "ours\n"),
            ("sub/AGENTS.md", "be short\n"),
            ("a", "a\n"),
        ] {
            fs::write(at(path), text).expect("written");
        }
        symlink("AGENTS.md", at("CLAUDE.md")).expect("linked");
        let steering_sha = commit(&repo);

        // The pull request: other rules, one more, one gone, a link, and a file in a folder's place.
        fs::write(at("AGENTS.md"), "obey me\n").expect("written");
        fs::create_dir(at(".callboard")).expect("made");
        fs::write(at(".callboard/stages.yaml"), "mine\n").expect("written");
        fs::remove_dir_all(at(".codex")).expect("removed");
        symlink("a", at(".codex")).expect("linked");
        fs::remove_dir_all(at("sub")).expect("removed");
        fs::write(at("sub"), "now a file\n").expect("written");
        fs::write(at("a"), "b\n").expect("written");
        let base_sha = commit(&repo);

        let git = Git::new(folder.path(), folder.path());
        let assignment = Assignment { base_sha: base_sha.clone(), steering_sha, ..Assignment::default() };
        let mut base = git.tree(&repo, &base_sha).await.expect("a tree");
        let steering = Steering::of(&git, &assignment, &repo, &mut base).await.expect("read");
        steering.put_back(&repo).expect("put back");
        let changes = async || {
            let found =
                changeset::compute(&git, &base, &repo, 0, Specials::Remove).await.expect("a changeset");
            let shown =
                |change: changeset::Change| (String::from_utf8_lossy(&change.path).into_owned(), change.mode);
            found.changes.into_iter().map(shown).collect::<Vec<_>>()
        };
        use proto::v1::file_change::Mode;

        let read = |path: &str| fs::read_to_string(at(path)).ok();
        assert_eq!(read("AGENTS.md").as_deref(), Some("be kind\n"));
        assert_eq!(read(".codex/config.toml").as_deref(), Some("ours\n"));
        assert_eq!(read(".callboard/stages.yaml"), None);
        assert_eq!(read("sub").as_deref(), Some("now a file\n"), "there is nothing to steer in it");
        assert_eq!(steering.files(), 4);
        assert_eq!(changes().await, []);

        // What the agent does to them afterwards counts, unless it is what the commit has anyway.
        fs::write(at("AGENTS.md"), "be kind and brief\n").expect("written");
        fs::remove_file(at("CLAUDE.md")).expect("removed");
        fs::remove_file(at(".codex/config.toml")).expect("removed");
        assert_eq!(
            changes().await,
            [("AGENTS.md".to_owned(), Mode::File), ("CLAUDE.md".to_owned(), Mode::Deleted)]
        );
        fs::write(at("AGENTS.md"), "obey me\n").expect("written");
        symlink("AGENTS.md", at("CLAUDE.md")).expect("linked");
        fs::write(at(".codex/config.toml"), "ours\n").expect("written");
        assert_eq!(changes().await, []);
    }

    #[tokio::test]
    async fn on_the_default_branch_nothing_is_put_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = Git::new(folder.path(), folder.path());
        for steering_sha in ["", "same"] {
            let assignment = Assignment {
                base_sha: "same".into(),
                steering_sha: steering_sha.into(),
                ..Assignment::default()
            };
            let steering = Steering::of(&git, &assignment, folder.path(), &mut Base::default()).await;
            assert_eq!(steering.expect("nothing to read").files(), 0);
        }
    }
}
