//! The programs that images have beside Debian's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    Profile,
    recipe::{Origin, Program},
};
use crate::{
    environment::{cargo, output, run},
    tools,
};

/// The program's file, made now; stripped ones are put into `scratch`.
///
/// # Errors
/// What cargo, strip or npm said.
pub(super) fn make(root: &Path, program: &Program, profile: Profile, scratch: &Path) -> Result<PathBuf> {
    match &program.origin {
        Origin::Cargo { words, binary } => {
            let built = target(root)?.join(profile.folder()).join(binary);
            let mut build = cargo(root);
            build.env("SQLX_OFFLINE", "true");
            match profile {
                Profile::Release => build.args(words),
                // What tests have built already, where they build everything.
                Profile::Dev => build.args(["build", "--locked", "--workspace", "--bins"]),
            };
            run(&mut build)?;
            let stripped = scratch.join(binary);
            output(subprocess::command("strip", root).arg("-o").arg(&stripped).arg(&built))
                .with_context(|| format!("{} cannot be made smaller", built.display()))?;
            Ok(stripped)
        }
        Origin::Npm { package, binary } => {
            if *package != tools::codex_package() {
                bail!(
                    "the Dockerfile has {package}, {binary} is tested with {}; make them the same",
                    tools::codex_package()
                );
            }
            tools::codex(root)
        }
    }
}

/// Where cargo builds to.
fn target(root: &Path) -> Result<PathBuf> {
    let metadata = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().context("cargo names no target directory")?;
    Ok(fs::canonicalize(target).unwrap_or_else(|_| target.into()))
}
