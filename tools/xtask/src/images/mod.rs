//! `cargo xtask images`: the images of `deploy/images`, without a container engine.
//!
//! The Dockerfiles say what is in an image, here as for Docker: their last stage is read, and
//! made of Debian's packages and our programs. What cannot be made so is refused.

mod archive;
mod debian;
mod debian_root;
mod dockerfile;
mod layer;
mod programs;
mod recipe;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{environment::workspace_root, steps::Steps, tools};
use debian::{Debian, Package};
use layer::{Access, Layer, Written};
use recipe::{Program, Recipe};

/// Which images, and where to.
#[derive(Args)]
pub(crate) struct Options {
    /// What to build; without one, all that are released
    #[arg(value_name = "NAME")]
    images: Vec<Image>,
    /// A folder, or for one image a file that ends with .tar [default: target/images]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How our programs are compiled; `dev` takes what `cargo build --workspace` makes, with the stand-in in it
    #[arg(long, default_value = "release")]
    profile: Profile,
}

/// A folder of `deploy/images`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Image {
    /// Every service of the platform
    Callboard,
    /// The runner, for agents of your own
    Agent,
    /// The runner and the Codex CLI
    AgentCodex,
    /// The runner and the scripted agent, for tests
    AgentScripted,
}

/// How our programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// As tests are
    Dev,
    /// As the Dockerfiles say
    Release,
}

/// An image that was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// `NAME:TAG`, as clusters and Docker know it once it is loaded.
    pub(crate) name: String,
    /// The archive.
    pub(crate) file: PathBuf,
    /// Of its manifest.
    digest: String,
    /// Bytes, not compressed.
    size: u64,
    /// Debian's.
    packages: usize,
}

/// Builds and lists what was built.
///
/// # Errors
/// Names what could not be done.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace_root()?;
    let released = || Image::ALL.into_iter().filter(|image| image.is_released()).collect();
    let images = if options.images.is_empty() { released() } else { options.images.clone() };
    let out = options.out.clone().unwrap_or_else(|| root.join("target/images"));
    if images.len() > 1 && is_archive(&out) {
        bail!("{} is one file and {} images are to be built; give a folder", out.display(), images.len());
    }
    let mut steps = Steps::default();
    let mut made = Vec::new();
    for image in images {
        made.push(build(&root, image, options.profile, &out, &mut steps)?);
    }
    for Made { name, file, digest, size, packages } in made {
        let size = size as f64 / f64::from(1 << 20);
        println!("{name:32} {size:6.1} MiB  {packages:3} packages  {digest}  {}", file.display());
    }
    Ok(())
}

/// Builds one image into `out`, a folder or a file that ends with `.tar`.
///
/// # Errors
/// Names what could not be done.
pub(crate) fn build(
    root: &Path,
    image: Image,
    profile: Profile,
    out: &Path,
    steps: &mut Steps,
) -> Result<Made> {
    if profile == Profile::Release && !image.is_released() {
        bail!("{} is for tests and never released; build it with `--profile dev`", image.name());
    }
    if !can_be_made_here() {
        bail!(
            "images are made on Debian 12 only: our programs need the C library they were compiled with; elsewhere use the Dockerfiles"
        );
    }
    let recipe = Recipe::of(image, root)?;
    let packages = steps.run(&format!("{}: Debian packages", image.repository()), || {
        Debian::open(&package_cache(root)?)?.fetch(&recipe.packages)
    })?;
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let file = |program: &Program| programs::make(root, program, profile, scratch.path());
    let programs: Vec<_> = steps.run(&format!("{}: programs", image.repository()), || {
        recipe.programs.iter().map(file).collect::<Result<_>>()
    })?;
    steps.run(&format!("{}: archive", image.repository()), || {
        let name = format!("{}:{}", image.repository(), profile.tag());
        let out =
            if is_archive(out) { out.to_owned() } else { out.join(format!("{}.tar", image.repository())) };
        fs::create_dir_all(out.parent().unwrap_or(Path::new(".")))
            .with_context(|| format!("{} cannot be made", out.display()))?;
        assemble(&name, &recipe, &packages, &programs, &out)
    })
}

/// True on Debian 12, which the images are made of.
pub(crate) fn can_be_made_here() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == format!("VERSION_CODENAME={}", debian::RELEASE))
}

/// Where packages are kept that were fetched.
///
/// # Errors
/// When there is no place for them.
pub(crate) fn package_cache(root: &Path) -> Result<PathBuf> {
    Ok(tools::folder(root)?.join("debian-12"))
}

/// Puts an image together. The same packages and programs give the same bytes.
fn assemble(
    name: &str,
    recipe: &Recipe,
    packages: &[Package],
    programs: &[PathBuf],
    out: &Path,
) -> Result<Made> {
    let time = time(packages)?;
    let folder = out.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).context("the layer cannot be written")?;
    let written = root_folder(file.as_file(), recipe, packages, programs, time)?;
    let digest = archive::write(out, name, &recipe.config, (file.path(), &written), time)?;
    Ok(Made {
        name: name.to_owned(),
        file: out.to_owned(),
        digest,
        size: written.size,
        packages: packages.len(),
    })
}

fn root_folder(
    into: &File,
    recipe: &Recipe,
    packages: &[Package],
    programs: &[PathBuf],
    time: u64,
) -> Result<Written> {
    let mut layer = Layer::new(BufWriter::new(into), time, recipe.without_setuid)?;
    debian_root::write(&mut layer, packages, recipe)?;
    for folder in &recipe.folders {
        layer.folder(&folder.path, Access { mode: folder.mode, owner: folder.owner })?;
    }
    for (program, file) in recipe.programs.iter().zip(programs) {
        let content = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let access = Access { mode: program.mode, ..Access::FOLDER };
        layer.file(&program.path, access, content.metadata()?.len(), content)?;
    }
    layer.finish()
}

/// The time everything in the image has: `SOURCE_DATE_EPOCH`, else when Debian built the newest
/// of its packages.
fn time(packages: &[Package]) -> Result<u64> {
    if let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") {
        return seconds.parse().context("SOURCE_DATE_EPOCH is not a number of seconds");
    }
    packages.iter().map(Package::built).try_fold(0, |newest, built| Ok(newest.max(built?)))
}

fn is_archive(out: &Path) -> bool {
    out.extension().is_some_and(|extension| extension == "tar")
}

impl Image {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Callboard, Self::Agent, Self::AgentCodex, Self::AgentScripted];

    /// The folder's name.
    fn name(self) -> &'static str {
        match self {
            Self::Callboard => "callboard",
            Self::Agent => "agent",
            Self::AgentCodex => "agent-codex",
            Self::AgentScripted => "agent-scripted",
        }
    }

    /// What it is called outside, without a tag.
    fn repository(self) -> &'static str {
        match self {
            Self::Callboard => "callboard",
            Self::Agent => "callboard-agent",
            Self::AgentCodex => "callboard-agent-codex",
            Self::AgentScripted => "callboard-agent-scripted",
        }
    }

    fn is_released(self) -> bool {
        match self {
            Self::Callboard | Self::Agent | Self::AgentCodex => true,
            Self::AgentScripted => false,
        }
    }

    /// Where its Dockerfile is.
    pub(crate) fn dockerfile(self, root: &Path) -> PathBuf {
        root.join("deploy/images").join(self.name()).join("Dockerfile")
    }
}

impl Profile {
    /// What its images are tagged with.
    fn tag(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => env!("CARGO_PKG_VERSION"),
        }
    }

    /// Where cargo puts what it makes.
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}
