//! git, run so that nothing in a repository can make it run something else.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use proto::v1::Assignment;
use secrecy::{ExposeSecret, SecretString};

use crate::changeset::{Base, Entry, Kind};

/// The branch the agent works on; it exists in the sandbox only.
const BRANCH: &str = "work";
/// Above every `.gitattributes`: files are the repository's bytes, unconverted, and no filter
/// (LFS among them) runs.
const ATTRIBUTES: &str = "* -text -filter -ident -working-tree-encoding\n";

/// Settings that hold whatever a repository says.
const SETTINGS: [(&str, &str); 12] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.excludesFile", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("credential.helper", ""),
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("http.followRedirects", "false"),
    ("submodule.recurse", "false"),
];

/// git for one workspace.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    workspace: PathBuf,
    home: PathBuf,
}

impl Git {
    pub(crate) fn new(workspace: &Path, home: &Path) -> Self {
        Self { workspace: workspace.to_owned(), home: home.to_owned() }
    }

    /// Clones the pinned commit into `repo` and says what is in it; of the other commits of the
    /// assignment there are the objects. The token is in no file
    /// and on no command line afterwards.
    pub(crate) async fn clone_pinned(
        &self,
        assignment: &Assignment,
        repo: &Path,
        port: u16,
        token: &SecretString,
    ) -> anyhow::Result<Base> {
        let (name, sha) = (assignment.repository.as_str(), assignment.base_sha.as_str());
        let mut commits = vec![sha];
        for more in [assignment.steering_sha.as_str(), assignment.review_base_sha.as_str()] {
            if !more.is_empty() && !commits.contains(&more) {
                commits.push(more);
            }
        }
        for sha in &commits {
            let id = sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(id, "{sha:?} is not a commit id");
        }
        ensure!(is_repository(name), "{name:?} is not a repository's name");
        let url = format!("http://127.0.0.1:{port}/git/{name}.git");
        let header = format!("Authorization: Bearer {}", token.expose_secret());

        self.run(repo, &["init", "--quiet", "--template=", "--initial-branch", BRANCH], &[]).await?;
        fs::create_dir_all(repo.join(".git/info"))?;
        fs::write(repo.join(".git/info/attributes"), ATTRIBUTES)?;
        let mut fetch = vec![
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            &url,
        ];
        fetch.extend(&commits);
        self.run(repo, &fetch, &[("http.extraHeader", &header)])
            .await
            .with_context(|| format!("{name} could not be cloned at {sha}"))?;
        self.run(repo, &["reset", "--quiet", "--hard", sha], &[])
            .await
            .with_context(|| format!("the files of {name} at {sha} could not be written"))?;
        // Agents like to commit; what counts is the working tree.
        for (key, value) in [("user.name", "Callboard agent"), ("user.email", "agent@callboard.invalid")] {
            self.run(repo, &["config", "--local", key, value], &[]).await?;
        }
        self.tree(repo, sha).await
    }

    /// Makes the working tree the commit's again, while no agent has worked in it.
    pub(crate) async fn reset(&self, repo: &Path, sha: &str) -> anyhow::Result<()> {
        self.run(repo, &["clean", "--quiet", "-ffdx"], &[]).await?;
        self.run(repo, &["reset", "--quiet", "--hard", sha], &[]).await.map(drop)
    }

    /// The content of a file by git's id.
    pub(crate) async fn blob(&self, repo: &Path, id: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.run(repo, &["cat-file", "blob", &hex::encode(id)], &[]).await
    }

    /// What is in a commit.
    pub(crate) async fn tree(&self, repo: &Path, sha: &str) -> anyhow::Result<Base> {
        let listing = self.run(repo, &["ls-tree", "-r", "-z", "--long", "--full-tree", sha], &[]).await?;
        parse_tree(&listing).with_context(|| format!("the tree of {sha} cannot be read"))
    }

    /// Every file below `repo` that `.gitignore` files do not exclude, as paths relative to
    /// it; nested repositories end with a slash. Nothing the agent may have put into its
    /// `.git` is looked at.
    pub(crate) async fn not_ignored(&self, repo: &Path) -> anyhow::Result<HashSet<Vec<u8>>> {
        let fresh = self.workspace.join("listing.git");
        clear(&fresh).with_context(|| format!("{} is in the way", fresh.display()))?;
        fs::create_dir(&fresh)?;
        let folder = fresh.to_string_lossy();
        self.run(&self.workspace, &["init", "--quiet", "--bare", "--template=", &folder], &[]).await?;
        let (git_dir, work_tree) = (format!("--git-dir={folder}"), format!("--work-tree={}", repo.display()));
        let list = [git_dir.as_str(), &work_tree, "ls-files", "--others", "--exclude-standard", "-z"];
        let listing = self.run(repo, &list, &[("core.bare", "false")]).await?;
        clear(&fresh)?;
        Ok(listing.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Runs git to its end. `settings` are added to the fixed ones, by environment.
    async fn run(
        &self,
        folder: &Path,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Vec<u8>> {
        let mut command = subprocess::command("git", folder);
        command.args(arguments);
        self.surround(&mut command, settings);
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .context("git cannot be started; is it installed where the sandbox sees it (/usr)?")?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = crate::returned::beginning(said.trim(), 1000);
        bail!("git {} failed ({}): {}", arguments[0], output.status, said.replace('\n', " "))
    }

    fn surround(&self, command: &mut Command, settings: &[(&str, &str)]) {
        let settings: Vec<_> = SETTINGS.iter().chain(settings).collect();
        command
            .env("HOME", &self.home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (key, value)) in settings.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{number}"), key)
                .env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
    }
}

/// "owner/name" of characters that mean nothing in a URL.
fn is_repository(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
}

/// Removes whatever is at `path`.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// Lines of `git ls-tree -r -z --long`: `mode type id size\tpath`.
fn parse_tree(listing: &[u8]) -> anyhow::Result<Base> {
    let mut entries = BTreeMap::new();
    for line in listing.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let (facts, path) = line
            .iter()
            .position(|byte| *byte == b'\t')
            .map(|tab| (&line[..tab], &line[tab + 1..]))
            .context("a line without a path")?;
        let facts = std::str::from_utf8(facts)?;
        let mut facts = facts.split_whitespace();
        let (mode, _type, id, size) = (facts.next(), facts.next(), facts.next(), facts.next());
        let kind = match mode {
            Some("120000") => Kind::Symlink,
            Some("160000") => Kind::Submodule,
            Some("100755") => Kind::Executable,
            // 100664 is in some old repositories.
            Some("100644" | "100664") => Kind::File,
            other => bail!("{:?} has mode {other:?}", OsStr::from_bytes(path)),
        };
        let id = hex::decode(id.context("a line without an id")?)?;
        let size = size.and_then(|size| size.parse().ok()).unwrap_or_default();
        entries.insert(path.to_vec(), Entry { kind, id, size });
    }
    Ok(Base::new(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_mean_nothing_in_a_url_are_cloned() {
        assert!(is_repository("octo-cat/hello.world_1"));
        for name in ["octocat", "a/../b", "a/b/c", "a/", "/b", "a/b?x", "a/.git", "a/b c", "a@h/b"] {
            assert!(!is_repository(name), "{name}");
        }
    }

    #[test]
    fn a_tree_is_read_with_its_modes() {
        let id = "0123456789012345678901234567890123456789";
        let listing = format!(
            "100644 blob {id}      12\ta b\0100755 blob {id}       1\tx\0120000 blob {id}       3\tl\0160000 commit {id}       -\ts\0"
        );
        let base = parse_tree(listing.as_bytes()).expect("a tree");
        let kinds: Vec<_> =
            base.iter().map(|(path, entry)| (path.as_slice(), entry.kind, entry.size)).collect();
        let expected: [(&[u8], _, _); 4] = [
            (b"a b", Kind::File, 12),
            (b"l", Kind::Symlink, 3),
            (b"s", Kind::Submodule, 0),
            (b"x", Kind::Executable, 1),
        ];
        assert_eq!(kinds, expected);
    }
}
