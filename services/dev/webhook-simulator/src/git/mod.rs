//! Bare repositories, through git's own plumbing.

pub(crate) mod commit;
pub(crate) mod diff;
pub(crate) mod tree;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;

/// The object id git uses for "nothing".
pub(crate) const ZERO: &str = "0000000000000000000000000000000000000000";

/// Settings of every git process here; the machine's own configuration is not read.
const CONFIG: [(&str, &str); 9] = [
    // The folders may belong to another user than the one this runs as.
    ("safe.directory", "*"),
    ("uploadpack.allowFilter", "true"),
    ("uploadpack.allowAnySHA1InWant", "true"),
    // Who may push is decided before git is started.
    ("http.receivepack", "true"),
    ("receive.hideRefs", "refs/pull"),
    ("receive.autogc", "false"),
    ("gc.auto", "0"),
    // A stand-in does not have to survive a power cut.
    ("core.fsync", "none"),
    ("core.quotePath", "false"),
];

/// A bare repository on disk.
#[derive(Clone, Debug)]
pub(crate) struct Bare {
    path: PathBuf,
}

/// A ref and what it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ref {
    /// Full name, such as `refs/heads/main`.
    pub(crate) name: String,
    pub(crate) sha: String,
    /// `commit` or `tag`.
    pub(crate) kind: String,
}

impl Bare {
    /// Makes an empty repository with `branch` as its default branch.
    pub(crate) async fn create(path: PathBuf, branch: &str) -> anyhow::Result<Self> {
        if path.exists() {
            bail!("{} is there already, from an earlier run: give an empty data folder", path.display());
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let bare = Self { path };
        let initial = format!("--initial-branch={branch}");
        bare.git(&["init", "--quiet", "--bare", "--template=", &initial, "."]).await?;
        Ok(bare)
    }

    /// Makes a fork with the branches of this repository. As on GitHub, the two have their objects
    /// in common, so that one can point at the other's commits.
    pub(crate) async fn fork(&self, path: PathBuf, branch: &str) -> anyhow::Result<Self> {
        let fork = Self::create(path, branch).await?;
        let objects = fork.path.join("objects");
        std::fs::remove_dir_all(&objects)
            .and_then(|()| std::os::unix::fs::symlink(self.path.join("objects"), &objects))
            .with_context(|| format!("cannot share {}", objects.display()))?;
        for head in self.refs().await?.iter().filter(|r| r.name.starts_with("refs/heads/")) {
            fork.set_ref(&head.name, &head.sha).await?;
        }
        Ok(fork)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A process in this repository, without anybody's git configuration.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        let mut command = subprocess::command(program, &self.path);
        command
            .env("HOME", &self.path)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_COUNT", CONFIG.len().to_string());
        for (index, (key, value)) in CONFIG.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        tokio::process::Command::from(command)
    }

    async fn output(
        &self,
        arguments: &[&str],
        input: &[u8],
        environment: &[(&str, &OsStr)],
    ) -> anyhow::Result<Output> {
        let mut child = self
            .command("git")
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start git; install it, for example with `apt-get install git`")?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        let feed = async move {
            // A git that refuses early closes the pipe; its exit code tells.
            stdin.write_all(input).await.ok();
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        Ok(output?)
    }

    async fn checked(
        &self,
        arguments: &[&str],
        input: &[u8],
        environment: &[(&str, &OsStr)],
    ) -> anyhow::Result<Vec<u8>> {
        let output = self.output(arguments, input, environment).await?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("git {}: {}: {}", arguments.first().unwrap_or(&""), output.status, words.trim());
        }
        Ok(output.stdout)
    }

    /// Standard output of a git command that has to succeed.
    pub(crate) async fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.checked(arguments, b"", &[]).await?).into_owned())
    }

    /// First line of standard output, or `None` when git says no.
    async fn ask(&self, arguments: &[&str]) -> anyhow::Result<Option<String>> {
        let output = self.output(arguments, b"", &[]).await?;
        let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        Ok(output.status.success().then_some(line))
    }

    /// Stores a blob.
    pub(crate) async fn write_blob(&self, content: &[u8]) -> anyhow::Result<String> {
        let sha = self.checked(&["hash-object", "-w", "--stdin"], content, &[]).await?;
        Ok(String::from_utf8_lossy(&sha).trim().to_owned())
    }

    /// An object's content; `None` when there is none of this kind under that id.
    pub(crate) async fn read(&self, kind: &str, sha: &str) -> anyhow::Result<Option<Vec<u8>>> {
        if !is_sha(sha) {
            return Ok(None);
        }
        let output = self.output(&["cat-file", kind, sha], b"", &[]).await?;
        Ok(output.status.success().then_some(output.stdout))
    }

    /// Kind of each object (`blob`, `tree`, `commit`, `tag`), `None` for those that are not there.
    pub(crate) async fn kinds(&self, shas: &[&str]) -> anyhow::Result<Vec<Option<String>>> {
        let known: Vec<&str> = shas.iter().map(|s| if is_sha(s) { s } else { ZERO }).collect();
        let input = known.iter().map(|s| format!("{s}\n")).collect::<String>();
        let lines = self.checked(&["cat-file", "--batch-check=%(objecttype)"], input.as_bytes(), &[]).await?;
        let kind = |line: &str| (!line.ends_with(" missing")).then(|| line.to_owned());
        Ok(String::from_utf8_lossy(&lines).lines().map(kind).collect())
    }

    /// The tree of a tree, commit or branch.
    pub(crate) async fn resolve_tree(&self, name: &str) -> anyhow::Result<Option<String>> {
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{tree}}")]).await
    }

    /// Every ref, by name.
    pub(crate) async fn refs(&self) -> anyhow::Result<Vec<Ref>> {
        let lines = self.git(&["for-each-ref", "--format=%(objectname) %(objecttype) %(refname)"]).await?;
        Ok(lines.lines().filter_map(parse_ref).collect())
    }

    /// A ref by its full name.
    pub(crate) async fn find_ref(&self, name: &str) -> anyhow::Result<Option<Ref>> {
        Ok(self.refs().await?.into_iter().find(|r| r.name == name))
    }

    /// Head commit of a branch.
    pub(crate) async fn branch(&self, branch: &str) -> anyhow::Result<Option<String>> {
        Ok(self.find_ref(&format!("refs/heads/{branch}")).await?.map(|r| r.sha))
    }

    /// Points a ref at an object; [`ZERO`] removes it. False when git refuses the name.
    pub(crate) async fn set_ref(&self, name: &str, sha: &str) -> anyhow::Result<bool> {
        if self.ask(&["check-ref-format", name]).await?.is_none() {
            return Ok(false);
        }
        Ok(self.ask(&["update-ref", name, sha]).await?.is_some())
    }
}

fn parse_ref(line: &str) -> Option<Ref> {
    let mut words = line.splitn(3, ' ');
    let (sha, kind, name) = (words.next()?, words.next()?, words.next()?);
    Some(Ref { name: name.to_owned(), sha: sha.to_owned(), kind: kind.to_owned() })
}

/// True for 40 hex digits.
pub(crate) fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}
