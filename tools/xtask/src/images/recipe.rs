//! What a Dockerfile makes, as things to put into a layer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Image,
    dockerfile::{self, Instruction, Stage},
};

/// What every Debian image starts with.
const DEBIAN: &str = "debian:12-slim@sha256:";
/// The environment of Debian's image.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's content and configuration.
#[derive(Debug, Default)]
pub(super) struct Recipe {
    /// Debian's packages, without those of the base and those they need.
    pub(super) packages: BTreeSet<String>,
    /// What is below these folders is removed.
    pub(super) emptied: Vec<PathBuf>,
    /// Programs run with the rights of who runs them.
    pub(super) without_setuid: bool,
    pub(super) groups: Vec<Group>,
    pub(super) users: Vec<User>,
    pub(super) folders: Vec<Folder>,
    pub(super) programs: Vec<Program>,
    pub(super) config: Config,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) id: u64,
}

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) id: u64,
    pub(super) group: u64,
    pub(super) home: String,
    pub(super) shell: String,
}

/// A folder that no package brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
}

/// A file that an earlier stage made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) origin: Origin,
    pub(super) path: PathBuf,
    pub(super) mode: u32,
}

/// Who makes a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `cargo` with these words; the result is stripped.
    Cargo { words: Vec<String>, binary: String },
    /// The one of that name in an npm package, as `NAME@VERSION`.
    Npm { package: String, binary: String },
}

/// What a container starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) user: String,
    pub(super) workdir: String,
    pub(super) entrypoint: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    /// As the configuration of an image has them: `8080/tcp`.
    pub(super) ports: BTreeSet<String>,
}

impl Recipe {
    /// What the image's Dockerfile makes, and the one it is based on before that.
    ///
    /// # Errors
    /// Names file and line of what can only be done by Docker.
    pub(super) fn of(image: Image, root: &Path) -> Result<Self> {
        let file = image.dockerfile(root);
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::read(&text, root).with_context(|| format!("{}", file.display()))
    }

    fn read(text: &str, root: &Path) -> Result<Self> {
        let mut stages = dockerfile::read(text)?;
        let last = stages.pop().context("there is no stage")?;
        let mut recipe = Self::base(&last.from, root)?;
        for (line, instruction) in last.instructions {
            recipe.add(instruction, &stages).with_context(|| format!("line {line}"))?;
        }
        Ok(recipe)
    }

    fn base(from: &str, root: &Path) -> Result<Self> {
        if from.starts_with(DEBIAN) {
            let env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
            return Ok(Self { config: Config { env, ..Config::default() }, ..Self::default() });
        }
        match Image::ALL.into_iter().find(|image| image.repository() == from) {
            Some(image) => Self::of(image, root),
            None => {
                bail!("the last stage is based on {from}, which is neither {DEBIAN}… nor one of our images")
            }
        }
    }

    fn add(&mut self, instruction: Instruction, stages: &[Stage]) -> Result<()> {
        match instruction {
            Instruction::Run(commands) => commands.iter().try_for_each(|command| self.run(command))?,
            Instruction::Copy { from, mode, source, target } => {
                let origin = origin(from.as_deref(), &source, stages)?;
                let mode = mode.context("COPY needs a --chmod")?;
                self.programs.push(Program { origin, path: target.into(), mode });
            }
            Instruction::Env(pairs) => self.config.env.extend(pairs),
            Instruction::Label(pairs) => self.config.labels.extend(pairs),
            Instruction::User(user) => self.config.user = user,
            Instruction::Workdir(folder) => self.config.workdir = folder,
            Instruction::Entrypoint(words) => self.config.entrypoint = words,
            Instruction::Expose(ports) => {
                self.config.ports.extend(ports.into_iter().map(|port| format!("{port}/tcp")));
            }
        }
        Ok(())
    }

    /// One command of a `RUN`. These are all there are.
    fn run(&mut self, command: &[String]) -> Result<()> {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        match words[..] {
            ["apt-get", "update"] => {}
            ["apt-get", "install", "--yes", "--no-install-recommends", ref packages @ ..]
                if packages.iter().all(|package| !package.starts_with('-')) =>
            {
                self.packages.extend(packages.iter().map(|&package| package.to_owned()));
            }
            ["rm", "-rf", ref folders @ ..] => {
                for folder in folders {
                    let folder = folder.strip_suffix("/*").context("rm -rf is known for FOLDER/* only")?;
                    self.emptied.push(folder.into());
                }
            }
            ["groupadd", "--gid", id, name] => {
                self.groups.push(Group { name: name.to_owned(), id: id.parse()? });
            }
            [
                "useradd",
                "--uid",
                id,
                "--gid",
                group,
                "--home-dir",
                home,
                "--no-create-home",
                "--shell",
                shell,
                name,
            ] => {
                self.users.push(User {
                    name: name.to_owned(),
                    id: id.parse()?,
                    group: group.parse()?,
                    home: home.to_owned(),
                    shell: shell.to_owned(),
                });
            }
            ["install", "--directory", owner, group, mode, path] => {
                let number = |word: &str, option: &str, radix| {
                    let value = word.strip_prefix(option).with_context(|| format!("expected {option}…"))?;
                    u64::from_str_radix(value, radix).with_context(|| format!("{word} is no number"))
                };
                let owner = (number(owner, "--owner=", 10)?, number(group, "--group=", 10)?);
                let mode = number(mode, "--mode=", 8)?.try_into()?;
                self.folders.push(Folder { path: path.into(), mode, owner });
            }
            ["find", "/", "-xdev", "-type", "f", "-perm", "/6000", "-exec", "chmod", "a-s", "{}", "+"] => {
                self.without_setuid = true;
            }
            _ => bail!("`{}` is not known without Docker", words.join(" ")),
        }
        Ok(())
    }
}

fn origin(from: Option<&str>, source: &str, stages: &[Stage]) -> Result<Origin> {
    let from = from.context("COPY is known from an earlier stage only")?;
    let stage = stages.iter().find(|stage| stage.name.as_deref() == Some(from));
    let stage = stage.with_context(|| format!("no earlier stage is called {from}"))?;
    let binary = Path::new(source).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let commands = stage.instructions.iter().filter_map(|(_, instruction)| match instruction {
        Instruction::Run(commands) => Some(commands),
        Instruction::Copy { .. }
        | Instruction::Env(_)
        | Instruction::Label(_)
        | Instruction::User(_)
        | Instruction::Workdir(_)
        | Instruction::Entrypoint(_)
        | Instruction::Expose(_) => None,
    });
    for command in commands.flatten() {
        match command.as_slice() {
            [cargo, words @ ..] if cargo == "cargo" => {
                return Ok(Origin::Cargo { words: words.to_vec(), binary });
            }
            [npm, install, .., package] if npm == "npm" && install == "install" => {
                return Ok(Origin::Npm { package: package.clone(), binary });
            }
            _ => {}
        }
    }
    bail!("stage {from} has no RUN that starts with cargo or npm install")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_on_another_of_ours_has_what_that_has() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let agent = Recipe::of(Image::Agent, &root).expect("a recipe");
        let scripted = Recipe::of(Image::AgentScripted, &root).expect("a recipe");
        assert_eq!(scripted.packages, agent.packages);
        assert_eq!(scripted.config.entrypoint, agent.config.entrypoint);
        assert_eq!(scripted.config.user, "65532:65532");
        let paths: Vec<_> = scripted.programs.iter().map(|program| program.path.clone()).collect();
        let expected = ["/usr/local/bin/agent-runner", "/opt/callboard/agent/scripted-agent"];
        assert_eq!(paths, expected.map(PathBuf::from));
    }

    #[test]
    fn what_only_docker_can_do_is_refused() {
        let refused = |rest: &str| {
            let text = format!("FROM {DEBIAN}00\n{rest}");
            format!("{:#}", Recipe::read(&text, Path::new("/")).expect_err("refused"))
        };
        assert_eq!(refused("RUN make"), "line 2: `make` is not known without Docker");
        assert_eq!(refused("RUN rm -rf /etc"), "line 2: rm -rf is known for FOLDER/* only");
        assert_eq!(refused("COPY a /b"), "line 2: COPY is known from an earlier stage only");
        assert_eq!(refused("COPY --from=x a /b"), "line 2: no earlier stage is called x");
        let ubuntu = Recipe::read("FROM ubuntu:24.04", Path::new("/")).expect_err("refused").to_string();
        assert!(ubuntu.starts_with("the last stage is based on ubuntu:24.04"), "{ubuntu}");
    }
}
