//! `cargo xtask demo`: a labelled issue becomes a pull request, through the real processes.

mod children;
mod platform;
mod pods;
mod stand_in;
mod story;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::{
    children::Children,
    platform::{Agent, Platform},
    pods::Pods,
    stand_in::StandIn,
};
use crate::{
    cluster::Cluster,
    environment::{cargo, last_lines, workspace_root},
    install::{self, Need},
    steps::Steps,
    tools,
};

/// What to demonstrate and how.
#[derive(Args)]
pub(crate) struct Options {
    /// Install what is missing without asking (as CI=true does)
    #[arg(long)]
    yes: bool,
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// What works on the issue
    #[arg(long, value_enum, default_value = "scripted")]
    agent: AgentKind,
    /// Attempts are pods of the cluster that KUBECONFIG names
    #[arg(long)]
    kubernetes: bool,
    /// End with one JSON line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AgentKind {
    /// A small program that really edits files; needs no model
    Scripted,
    /// The Codex CLI against a scripted model, reached through the agent gateway only
    Codex,
}

/// The repository of the demo.
const REPOSITORY: &str = "octocat/hello-world";
/// The last part of its webhook address.
const SOURCE: &str = "hello-world";

/// The demo as a test: with each agent, to its pull request.
///
/// # Errors
/// When one of them does not get there.
pub(crate) fn with_each_agent() -> Result<()> {
    for agent in [AgentKind::Scripted, AgentKind::Codex] {
        run(&Options { yes: true, keep: false, agent, kubernetes: false, json: false })?;
    }
    Ok(())
}

/// The same with a pod of this cluster.
///
/// # Errors
/// When it does not get there.
pub(crate) fn in_a_cluster(cluster: Cluster) -> Result<()> {
    let options =
        Options { yes: true, keep: false, agent: AgentKind::Scripted, kubernetes: true, json: true };
    run_in(&options, Some(cluster))
}

/// Runs the demo and cleans up behind it.
///
/// # Errors
/// When something is missing, does not start, or the run ends without a pull request.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = match (options.kubernetes, options.agent) {
        (false, _) => None,
        (true, AgentKind::Scripted) => {
            Some(Cluster::named(&workspace_root()?)?.context("KUBECONFIG is not set; it names the cluster")?)
        }
        (true, AgentKind::Codex) => bail!("--kubernetes shows the scripted agent; leave --agent out"),
    };
    run_in(options, cluster)
}

fn run_in(options: &Options, cluster: Option<Cluster>) -> Result<()> {
    let mut steps = Steps::default();
    let root = workspace_root()?;
    let codex = match options.agent {
        AgentKind::Scripted => {
            install::provide(&install::PLATFORM, options.yes, &mut steps)?;
            None
        }
        AgentKind::Codex => {
            let needs: Vec<Need> = install::PLATFORM.into_iter().chain([Need::Npm]).collect();
            install::provide(&needs, options.yes, &mut steps)?;
            Some(steps.run("tool: Codex CLI", || tools::codex(&root))?)
        }
    };
    let programs = steps.run("build", || build(&root))?;
    let cluster = match cluster {
        None => None,
        Some(mut cluster) => {
            let image = cluster.image(&mut steps)?;
            Some((cluster, image))
        }
    };

    // Postgres and sandboxes run as other users when this is root, and have to get in.
    let folder = tempfile::Builder::new().prefix("callboard-demo-").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    let children = Children::default();
    children.end_at_signals(folder.path().to_path_buf())?;
    let pods = cluster.map(|(cluster, image)| Pods::new(cluster, image, folder.path())).transpose()?;
    let shown = show(options, &programs, codex.as_deref(), pods, folder.path(), &children, &mut steps);
    children.wait_if_interrupted();
    children.end_all();
    if shown.is_err() {
        let folder = folder.keep();
        let log = fs::read_to_string(folder.join(platform::LOG)).unwrap_or_default();
        eprintln!("\nLast lines of the platform's log:\n{}", last_lines(&log, 30));
        eprintln!("\nEverything of this demo is kept in {}", folder.display());
    }
    shown
}

/// Paths of the programs, by name.
type Programs = BTreeMap<String, PathBuf>;

fn build(root: &Path) -> Result<Programs> {
    const CRATES: [&str; 5] =
        ["callboard", "agent-runner", "webhook-simulator", "scripted-agent", "scripted-model"];
    let mut command = cargo(root);
    command
        .args(["build", "--message-format=json-render-diagnostics"])
        .args(CRATES.iter().flat_map(|c| ["--package", *c]));
    let built =
        command.env("SQLX_OFFLINE", "true").stdout(Stdio::piped()).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        bail!("`cargo build` failed ({}); its errors are above", built.status);
    }
    let programs = executables(&String::from_utf8_lossy(&built.stdout));
    match CRATES.iter().find(|name| !programs.contains_key(**name)) {
        None => Ok(programs),
        Some(missing) => bail!("`cargo build` made no program `{missing}`"),
    }
}

/// Where cargo put what it built, by its own account.
fn executables(messages: &str) -> Programs {
    let artifact = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let program = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(program)))
    };
    messages.lines().filter_map(artifact).collect()
}

fn show(
    options: &Options,
    programs: &Programs,
    codex: Option<&Path>,
    mut pods: Option<Pods>,
    folder: &Path,
    children: &Children,
    steps: &mut Steps,
) -> Result<()> {
    let platform = Platform::new(&programs["callboard"], folder)?;
    let stand_in = steps.run("start the stand-in for GitHub", || {
        let stand_in = StandIn::start(&programs["webhook-simulator"], folder, children)?;
        stand_in.connect(&platform.hook_url())?;
        Ok(stand_in)
    })?;
    let agent = match codex {
        None => Agent::Scripted { program: programs["scripted-agent"].clone() },
        Some(codex) => steps.run("start the scripted model", || {
            let (base_url, key_file) = start_model(&programs["scripted-model"], folder, children)?;
            Ok(Agent::Codex { binary: codex.to_path_buf(), base_url, key_file })
        })?,
    };
    steps.run("start the platform with a private Postgres", || {
        platform.start(children, &stand_in, &agent, pods.as_ref())
    })?;
    let appeared = match &mut pods {
        None => None,
        Some(pods) => Some(steps.run("a namespace for the project's runs", || {
            pods.prepare(&platform, children)?;
            pods.watch()
        })?),
    };

    let (issue, told) = steps.run("an issue gets the label run:dev", || {
        let issue = stand_in.open_issue(
            "Say hello in the README",
            "The README should greet whoever reads it. One friendly line at the end is enough.",
        )?;
        let labelled = Instant::now();
        stand_in.label(issue, "run:dev")?;
        let id = story::find_run(&platform, issue)?;
        eprintln!("  ● delivery received, and decided: run {id}");
        let to_pod = appeared.as_ref().map(|appeared| pods::label_to_pod(labelled, appeared)).transpose()?;
        if let Some(pods) = &pods {
            eprintln!("{}", pods.shown()?);
        }
        let mut told = story::follow(&platform, &id)?;
        told.pull_request_url()?;
        if let Some(milliseconds) = to_pod {
            told.took("label_to_pod_created", milliseconds);
        }
        Ok((issue, told))
    })?;

    let url = told.pull_request_url()?;
    println!("\nPull request  {url}\n\n{}", story::plain(&stand_in.diff(url)?));
    let comment_url = told.comment_url();
    println!("\nComment       {comment_url}\n\n{}", story::plain(&stand_in.comment(issue, comment_url)?));
    println!("\nFrom the delivery's last byte\n{}", told.breakdown());
    if options.json {
        println!("{}", told.summary());
    }
    std::io::stdout().flush()?;
    if options.keep {
        let (api, admin) = (platform.api, platform.admin);
        eprintln!("Left running until Ctrl-C:");
        eprintln!("  stand-in for GitHub  {}", stand_in.web_url);
        eprintln!("  webhooks             http://{api}/webhooks/github/{SOURCE}");
        eprintln!("  health and metrics   http://{admin}/readyz http://{admin}/metrics");
        eprintln!(
            "  commands             {} run list --config {}",
            programs["callboard"].display(),
            platform.configuration_file().display()
        );
        children.finished();
        loop {
            thread::park();
        }
    }
    Ok(())
}

/// A model that has Codex do what the scripted agent does.
fn start_model(program: &Path, folder: &Path, children: &Children) -> Result<(String, PathBuf)> {
    let script = folder.join("model-script.json");
    let steps = json!({"steps": [
        {"shell": "printf '\\nHello, and welcome!\\n' >> README.md && git status --short"},
        {"text": "Added a greeting at the end of README.md."},
    ]});
    fs::write(&script, steps.to_string())?;
    let key_file = secret(folder, "model-key")?;
    let mut command = subprocess::command(program, folder);
    command.args(["--listen", "127.0.0.1:0", "--script"]).arg(&script).arg("--key-file").arg(&key_file);
    let line = children.start_and_hear("scripted-model", &mut command)?;
    let said: Value =
        serde_json::from_str(&line).context("the scripted model does not say where it listens")?;
    Ok((
        said["base_url"].as_str().context("the scripted model does not say its base_url")?.to_owned(),
        key_file,
    ))
}

/// A file with 32 random bytes as text, for its owner only.
fn secret(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(name);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?
        .write_all(text.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_programs_are() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"domain"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"callboard"},"executable":"/t/debug/callboard"}"#,
            "\n",
            "not a message\n",
        );
        assert_eq!(
            executables(messages),
            BTreeMap::from([("callboard".to_owned(), PathBuf::from("/t/debug/callboard"))])
        );
    }

    #[test]
    fn a_secret_is_its_owners_and_differs_each_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name| fs::read_to_string(secret(folder.path(), name).expect("made")).expect("readable");
        assert!(read("one").len() == 64 && read("two") != read("three"));
        assert_eq!(
            fs::metadata(folder.path().join("one")).expect("there").permissions().mode() & 0o777,
            0o600
        );
    }
}
