//! `cargo xtask test`: every check and every test, the same here and in CI.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal as _, Seek as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    closing_lines::ClosingLines,
    cluster::Cluster,
    demo,
    environment::{cargo, inherited, is_ci, run as run_to_end, workspace_root},
    images,
    install::{self, Need},
    sqlx,
    steps::Steps,
    tools,
};

/// What to test and how.
#[derive(Args)]
pub(crate) struct Options {
    /// Install what is missing without asking (as CI=true does)
    #[arg(long)]
    yes: bool,
    /// Longer property tests, and random histories for half an hour
    #[arg(long)]
    long: bool,
}

/// Said first and last, with why.
const NOT_RUN: &str = "cluster tests: not run: ";
/// Stories about the cluster at the same time; they wait for pods most of it.
const CLUSTER_STORIES: &str = "4";

/// Cases per property test with `--long`, where a case takes no more than milliseconds.
const LONG_CASES: &str = "20000";

/// Runs everything and stops at the first step that fails.
///
/// # Errors
/// Names the step.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut steps = Steps::default();
    let mut closing = ClosingLines::default();
    let done = every_step(options, &mut steps, &mut closing);
    let table = closing.table();
    if !table.is_empty() {
        println!("\nClosing lines of the test runners\n{table}");
    }
    print!("{}", closing.not_shown());
    println!("Minutes per suite\n{}", steps.minutes());
    if done.is_ok() {
        println!("Everything passed.");
    }
    done
}

fn every_step(options: &Options, steps: &mut Steps, closing: &mut ClosingLines) -> Result<()> {
    let root = workspace_root()?;
    let mut cluster = match Cluster::named(&root) {
        Ok(Some(cluster)) => Ok(cluster),
        Ok(None) => Err("KUBECONFIG is not set".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    };
    if let Err(why) = &cluster {
        if is_ci() {
            bail!("no cluster: {why}; `.ci/run` brings the one at ../shared/test-cluster up");
        }
        println!("{NOT_RUN}{why}");
    }
    let needs: Vec<Need> = install::PLATFORM.into_iter().chain([Need::Npm, Need::Pip]).collect();
    install::provide(&needs, options.yes, steps)?;
    let deny = steps.run("tool: cargo-deny", || tools::cargo_deny(&root))?;
    let payloads = steps.run("tool: webhook payloads", || tools::payloads(&root))?;
    let openapi = steps.run("tool: GitHub's OpenAPI description", || tools::openapi(&root))?;
    let codex = steps.run("tool: Codex CLI", || tools::codex(&root))?;
    let hadolint = steps.run("tool: hadolint", || tools::hadolint(&root))?;

    steps.run("format", || cargo_to_end(&root, &["fmt", "--all", "--check"]))?;
    steps.run("clippy", || {
        cargo_to_end(&root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    })?;
    steps.run("dependencies: bans, licences, sources", || {
        let mut deny = inherited(&deny, &root);
        run_to_end(deny.args([
            "--config",
            "deny.toml",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    steps.run("Dockerfiles", || {
        let mut hadolint = subprocess::command(&hadolint, &root);
        hadolint.args(["--config", "deploy/images/hadolint.yaml"]);
        run_to_end(hadolint.args(images::Image::ALL.map(|image| image.dockerfile(&root))))
    })?;
    steps.run("stored queries", || sqlx::check(&root))?;
    steps.run("build", || cargo_to_end(&root, &["build", "--workspace"]))?;
    let image = cluster.as_mut().ok().map(|cluster| cluster.image(steps)).transpose()?;
    let in_cluster = |tests: &mut Command| {
        if let (Ok(cluster), Some(image)) = (&cluster, &image) {
            tests.env("KUBECONFIG", cluster.kubeconfig());
            tests.env("CALLBOARD_TEST_IMAGE", image).env("CALLBOARD_TEST_KUBECTL", cluster.kubectl_program());
        }
    };
    if cluster.is_ok() && options.long {
        steps.run("release build of the worker", || {
            cargo_to_end(&root, &["build", "--release", "--package", "callboard"])
        })?;
    }
    steps.run("build of the tests", || cargo_to_end(&root, &["test", "--workspace", "--no-run"]))?;
    // Pods are waited for most of the time: their stories are told beside the others.
    let beside = if cluster.is_ok() {
        let mut tests = cargo(&root);
        // With what `cargo test` below has, so that nothing is built anew.
        tests.args(["test", "--workspace", "--test", "it", "--no-fail-fast"]);
        tests.args(["--", "cluster::", "manifests::", "--test-threads", CLUSTER_STORIES]);
        if options.long {
            tests.arg("--include-ignored").env("CALLBOARD_TEST_RELEASE", release(&root));
        }
        tests.env("SQLX_OFFLINE", "true").env("INSTA_UPDATE", "no");
        in_cluster(&mut tests);
        Some(Beside::start(tests)?)
    } else {
        None
    };
    let tests = steps.run("tests", || {
        let mut tests = cargo(&root);
        // Those of the cluster are told beside.
        tests.env_remove("KUBECONFIG");
        tests.args(["test", "--workspace", "--no-fail-fast"]);
        tests.env("SQLX_OFFLINE", "true").env("INSTA_UPDATE", "no");
        tests.env("CALLBOARD_TEST_PAYLOADS", &payloads).env("CALLBOARD_TEST_CODEX", &codex);
        tests.env("CALLBOARD_TEST_OPENAPI", &openapi);
        if images::can_be_made_here() {
            tests.env("CALLBOARD_TEST_DEBIAN", images::package_cache(&root)?);
        }
        read_along(tests, closing)
    });
    if let Some(beside) = beside {
        closing.is_shown_later();
        steps.run("cluster tests, begun with the others", || beside.read(closing))?;
    }
    tests?;
    if options.long {
        steps.run("property tests, longer", || {
            let mut tests = cargo(&root);
            tests.args(["test", "--package", "domain", "--package", "control-plane"]);
            tests.env("SQLX_OFFLINE", "true").env("PROPTEST_CASES", LONG_CASES);
            read_along(tests, closing)
        })?;
        steps.run("random histories, half an hour", || {
            let mut histories = cargo(&root);
            histories.args(["test", "--package", "platform-tests", "--test", "it", "as_many_histories"]);
            histories.args(["--", "--ignored", "--nocapture"]).env("SQLX_OFFLINE", "true");
            read_along(histories, closing)
        })?;
    }
    steps.run("demo, with each agent", demo::with_each_agent)?;
    match cluster {
        Ok(cluster) => steps.run("demo, in the cluster", || demo::in_a_cluster(cluster)),
        Err(why) => {
            println!("{NOT_RUN}{why}");
            Ok(())
        }
    }
}

/// Where cargo puts a release build of `callboard`.
fn release(root: &Path) -> PathBuf {
    let cargo = cargo(root);
    let target = cargo.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR");
    let target = target.and_then(|(_, folder)| folder).map_or_else(|| root.join("target"), PathBuf::from);
    target.join("release/callboard")
}

fn cargo_to_end(root: &Path, words: &[&str]) -> Result<()> {
    run_to_end(cargo(root).env("SQLX_OFFLINE", "true").args(words))
}

/// A command that runs beside others and is shown after them.
struct Beside {
    child: Child,
    output: File,
}

impl Beside {
    fn start(mut command: Command) -> Result<Self> {
        let output = tempfile::tempfile().context("no temporary file")?;
        let child = command.stdout(output.try_clone()?).stderr(output.try_clone()?).spawn();
        Ok(Self { child: child.context("cargo cannot start")?, output })
    }

    /// Waits for it, passes on what it said, and keeps the closing lines.
    fn read(mut self, closing: &mut ClosingLines) -> Result<()> {
        let status = self.child.wait()?;
        self.output.rewind()?;
        show(BufReader::new(&self.output), closing)?;
        is_success(status)
    }
}

/// Whoever stops waiting for it stops it.
impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended long ago.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Passes everything on to stdout and keeps the closing lines. Both streams go through one
/// pipe, so that a suite's name stays before its result.
fn read_along(mut command: Command, closing: &mut ClosingLines) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("no pipe")?;
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child =
        command.stdout(writer.try_clone()?).stderr(writer).spawn().context("cargo cannot start")?;
    // The command holds the pipe's other end; reading ends when it is gone too.
    drop(command);
    show(BufReader::new(reader), closing)?;
    is_success(child.wait()?)
}

fn show(mut output: impl BufRead, closing: &mut ClosingLines) -> Result<()> {
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        closing.read(&text);
        line.clear();
    }
    Ok(())
}

fn is_success(status: ExitStatus) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        bail!("`cargo test` failed ({status}); the failures are listed above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_read_to_its_end_and_a_failure_stays_one() {
        let mut closing = ClosingLines::default();
        let mut command = subprocess::command("sh", Path::new("/"));
        command.args(["-c", "echo '     Running unittests src/lib.rs (x/one-1f)' >&2; echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored;'; exit 101"]);
        assert!(read_along(command, &mut closing).is_err());
        assert_eq!(closing.table(), "  one  test result: FAILED. 1 passed; 1 failed; 0 ignored;\n");
    }
}
