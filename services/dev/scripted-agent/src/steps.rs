//! The steps of a script.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::{hostile, hunger, prompt::Issue};

/// One step: an object with one key that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// `{"write":{"path":"a","content":"…","executable":true}}`
    Write(Text),
    /// `{"append":{"path":"a","content":"…"}}`
    Append(Text),
    /// `{"delete":"a"}`
    Delete(PathBuf),
    /// `{"symlink":{"path":"a","target":"b"}}`
    Symlink { path: PathBuf, target: PathBuf },
    /// `{"binary":{"path":"a","bytes":1024}}`
    Binary { path: PathBuf, bytes: usize },
    /// `{"rename":{"from":"a","to":"b"}}`
    Rename { from: PathBuf, to: PathBuf },
    /// `{"print":"a line"}`
    Print(String),
    /// `{"print_joined":["a"," line"]}`: what is printed stands nowhere in the script.
    PrintJoined(Vec<String>),
    /// `{"when_restored":[…]}`: steps that are played only when the files are an earlier
    /// attempt's.
    WhenRestored(Vec<Step>),
    /// `{"unless_restored":[…]}`: steps that are played only otherwise.
    UnlessRestored(Vec<Step>),
    /// `{"print_many":1000}`: so many numbered lines.
    PrintMany(u64),
    /// `{"print_file":"AGENTS.md"}`: its lines, or that there is none.
    PrintFile(PathBuf),
    /// `{"print_variable":"CALLBOARD_MODEL"}`: what the environment says.
    PrintVariable(String),
    /// `{"leak":{"variable":"OPENAI_API_KEY","path":"a"}}`: says what the environment says in
    /// every way it can: prints it, writes it into a file, and puts it into the summary.
    Leak { variable: String, path: PathBuf },
    /// `{"summary":"Markdown"}`
    Summary(String),
    /// `{"findings":{"summary":"…","findings":[…]}}`: what a review found, as it stands there.
    Findings(serde_json::Value),
    /// `{"remember":"a line"}`: goes into the agent's session.
    Remember(String),
    /// `{"recall":true}`: prints what the session holds, and puts it into the summary.
    Recall(bool),
    /// `{"exit":3}`: ends at once.
    Exit(u8),
    /// `{"wait_for_file":"a"}`: waits until it exists.
    WaitForFile(PathBuf),
    /// `{"hang":true}`: for ever.
    Hang(bool),
    /// `{"fork_children":3}`: children that sleep, one of them out of reach of a process group.
    ForkChildren(u32),
    /// `{"fork_bomb":5000}`: starts processes until that is refused, at most so many, then a bomb.
    ForkBomb(usize),
    /// `{"eat_memory":{"mib":600,"processes":4}}`: so many processes take so much each.
    EatMemory { mib: usize, processes: usize },
    /// `{"probe":true}` or `{"probe":{"ports":[…],"paths":[…],"addresses":["ip:port"],
    /// "kubernetes":["ip:port"]}}`: looks for a way out and writes what it found to `probe.json`.
    Probe(hostile::Targets),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    path: PathBuf,
    content: String,
    #[serde(default)]
    executable: bool,
}

/// The script of an issue that brings none: a small change that can be seen.
pub(crate) fn note_about(issue: &Issue) -> Vec<Step> {
    let Issue { number, title } = issue;
    let text = |path: String, content: String| Text { path: path.into(), content, executable: false };
    vec![
        Step::Print(format!("Working on issue #{number}: {title}")),
        Step::Append(text("README.md".into(), format!("\n> Issue #{number}: {title}\n"))),
        Step::Write(text(
            format!("docs/notes/issue-{number}.md"),
            format!("# {title}\n\nWritten by the scripted agent for issue #{number}.\n"),
        )),
        Step::Summary(format!(
            "Quoted the issue's title in `README.md` and added `docs/notes/issue-{number}.md`.\n\nNothing else was touched."
        )),
    ]
}

/// Plays steps in a folder.
pub(crate) struct Player {
    folder: PathBuf,
    surroundings: Surroundings,
    summarised: bool,
    played: Vec<String>,
}

/// What the platform says where the agent is started.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) summary_file: Option<PathBuf>,
    pub(crate) findings_file: Option<PathBuf>,
    /// What the agent finds there is what it left there in an earlier run.
    pub(crate) session_dir: Option<PathBuf>,
    /// The files are those of an earlier attempt.
    pub(crate) restored: bool,
}

/// What is remembered, in the session's folder.
const MEMORY: &str = "memory.txt";

impl Player {
    pub(crate) fn new(folder: PathBuf, surroundings: Surroundings) -> Self {
        Self { folder, surroundings, summarised: false, played: Vec::new() }
    }

    /// Plays steps; the exit code when one of them ends the agent.
    pub(crate) fn play_all(&mut self, steps: Vec<Step>) -> anyhow::Result<Option<u8>> {
        for step in steps {
            if let Some(code) = self.play(step)? {
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    /// Plays one step; the exit code when it ends the agent.
    pub(crate) fn play(&mut self, step: Step) -> anyhow::Result<Option<u8>> {
        match step {
            Step::Write(text) => {
                let path = self.at(&text.path)?;
                fs::write(&path, &text.content).with_context(|| format!("{}", path.display()))?;
                let mode = if text.executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
                self.note(&format!("wrote `{}`", text.path.display()));
            }
            Step::Append(text) => {
                let path = self.at(&text.path)?;
                let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
                file.write_all(text.content.as_bytes())?;
                self.note(&format!("appended to `{}`", text.path.display()));
            }
            Step::Delete(path) => {
                fs::remove_file(self.at(&path)?)?;
                self.note(&format!("deleted `{}`", path.display()));
            }
            Step::Symlink { path, target } => {
                symlink(&target, self.at(&path)?)?;
                self.note(&format!("linked `{}` to `{}`", path.display(), target.display()));
            }
            Step::Binary { path, bytes } => {
                let content: Vec<u8> = (0..=u8::MAX).rev().cycle().take(bytes).collect();
                fs::write(self.at(&path)?, content)?;
                self.note(&format!("wrote {bytes} bytes to `{}`", path.display()));
            }
            Step::Rename { from, to } => {
                fs::rename(self.at(&from)?, self.at(&to)?)?;
                self.note(&format!("renamed `{}` to `{}`", from.display(), to.display()));
            }
            Step::Print(line) => println!("{line}"),
            Step::PrintJoined(pieces) => println!("{}", pieces.concat()),
            Step::WhenRestored(steps) if self.surroundings.restored => return self.play_all(steps),
            Step::UnlessRestored(steps) if !self.surroundings.restored => return self.play_all(steps),
            Step::WhenRestored(_) | Step::UnlessRestored(_) => {}
            Step::PrintMany(count) => {
                for number in 0..count {
                    println!("line {number} of {count}: the scripted agent talks a lot");
                }
            }
            Step::PrintFile(path) => match fs::read_to_string(self.folder.join(&path)) {
                Ok(text) => println!("{}: {}", path.display(), text.trim_end()),
                Err(_) => println!("there is no {}", path.display()),
            },
            Step::PrintVariable(name) => {
                println!("{name}={}", std::env::var(&name).unwrap_or_default());
            }
            Step::Leak { variable, path } => {
                let secret = std::env::var(&variable).unwrap_or_default();
                let text = hostile::disguised(&secret);
                println!("{text}");
                fs::write(self.at(&path)?, &secret)?;
                self.summarise(&text)?;
            }
            Step::Summary(text) => self.summarise(&text)?,
            Step::Findings(findings) => {
                if let Some(file) = &self.surroundings.findings_file {
                    // A string is not what is asked for: it is written as it is.
                    let text = findings.as_str().map_or_else(|| findings.to_string(), str::to_owned);
                    fs::write(file, text).context("the findings")?;
                }
            }
            Step::Remember(line) => {
                if let Some(folder) = &self.surroundings.session_dir {
                    fs::create_dir_all(folder)?;
                    let mut file =
                        fs::OpenOptions::new().append(true).create(true).open(folder.join(MEMORY))?;
                    writeln!(file, "{line}")?;
                }
            }
            Step::Recall(true) => {
                let memory = self.surroundings.session_dir.as_ref().map(|folder| folder.join(MEMORY));
                let memory = memory.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
                let said =
                    if memory.is_empty() { "nothing".to_owned() } else { memory.trim().replace('\n', "; ") };
                println!("I remember: {said}");
                self.summarise(&format!("I remember: {said}"))?;
            }
            Step::Recall(false) => {}
            Step::Exit(code) => return Ok(Some(code)),
            Step::WaitForFile(path) => {
                println!("waiting for {}", path.display());
                // The file may be anywhere, also where nothing tells of changes.
                while !self.folder.join(&path).exists() {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            Step::Hang(true) => {
                println!("hanging");
                loop {
                    thread::park();
                }
            }
            Step::Hang(false) => {}
            Step::ForkChildren(count) => self.fork(count)?,
            Step::ForkBomb(most) => {
                let came = hunger::fork_bomb(most, &self.folder);
                self.note(&came);
            }
            Step::EatMemory { mib, processes } => {
                let came = hunger::eat_memory(mib, processes, &self.folder)?;
                self.note(&came);
            }
            Step::Probe(targets) => {
                let findings = hostile::probe(&targets);
                for finding in &findings {
                    println!("{finding}");
                }
                let report = serde_json::to_string_pretty(&findings)?;
                fs::write(self.folder.join("probe.json"), report + "\n")?;
                self.note(&format!("recorded {} attempts in `probe.json`", findings.len()));
            }
        }
        Ok(None)
    }

    /// Writes a summary of what was done, unless the script brought one.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        if !self.summarised {
            let lines: Vec<_> = self.played.iter().map(|done| format!("- {done}\n")).collect();
            let text =
                if lines.is_empty() { "Nothing had to be changed.".to_owned() } else { lines.concat() };
            self.summarise(&text)?;
        }
        Ok(())
    }

    fn summarise(&mut self, text: &str) -> anyhow::Result<()> {
        self.summarised = true;
        if let Some(file) = &self.surroundings.summary_file {
            fs::write(file, text).context("the summary")?;
        }
        Ok(())
    }

    fn note(&mut self, done: &str) {
        println!("{done}");
        self.played.push(done.to_owned());
    }

    /// A path below the folder, whose parents exist.
    fn at(&self, path: &Path) -> anyhow::Result<PathBuf> {
        if path.as_os_str().is_empty() {
            bail!("a step without a path");
        }
        let path = self.folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(path)
    }

    fn fork(&self, count: u32) -> anyhow::Result<()> {
        for number in 0..count {
            let (program, arguments): (&str, &[&str]) =
                if number == 0 { ("setsid", &["sleep", "86400"]) } else { ("sleep", &["86400"]) };
            subprocess::command(program, &self.folder)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("a child")?;
        }
        println!("started {count} children");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plays_every_kind_of_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = folder.path().join("summary.md");
        let repo = folder.path().join("repo");
        fs::create_dir(&repo).expect("made");
        fs::write(repo.join("old"), "x").expect("written");
        fs::write(repo.join("gone"), "x").expect("written");
        let script = r#"[
            {"write":{"path":"bin/run","content":"hi","executable":true}},
            {"append":{"path":"bin/run","content":"!"}},
            {"delete":"gone"}, {"rename":{"from":"old","to":"deep/new"}},
            {"symlink":{"path":"link","target":"bin/run"}}, {"binary":{"path":"b","bytes":300}},
            {"print":"p"}, {"print_joined":["p","q"]}, {"print_many":2}, {"when_restored":[{"exit":9}]},
            {"unless_restored":[{"print":"afresh"}]}, {"print_file":"link"}, {"print_file":"none"},
            {"findings":{"findings":[]}}, {"remember":"a"}, {"remember":"b"}, {"hang":false}, {"wait_for_file":"b"}
        ]"#;
        let steps: Vec<Step> = serde_json::from_str(script).expect("steps");
        let (findings, session) = (folder.path().join("findings.json"), folder.path().join("session"));
        let surroundings = Surroundings {
            summary_file: Some(summary.clone()),
            findings_file: Some(findings.clone()),
            session_dir: Some(session),
            restored: false,
        };
        let mut player = Player::new(repo.clone(), surroundings);
        assert_eq!(player.play_all(steps).expect("played"), None);
        player.finish().expect("finished");
        assert_eq!(fs::read_to_string(repo.join("bin/run")).expect("there"), "hi!");
        assert_eq!(fs::metadata(repo.join("bin/run")).expect("there").permissions().mode() & 0o777, 0o755);
        assert!(!repo.join("gone").exists() && repo.join("deep/new").exists());
        assert_eq!(fs::read_link(repo.join("link")).expect("a link"), Path::new("bin/run"));
        assert_eq!(fs::read(repo.join("b")).expect("there").len(), 300);
        assert!(fs::read_to_string(&summary).expect("there").starts_with("- wrote `bin/run`\n"));
        assert_eq!(fs::read_to_string(findings).expect("there"), r#"{"findings":[]}"#);
        assert_eq!(player.play(Step::Recall(true)).expect("played"), None);
        assert_eq!(fs::read_to_string(summary).expect("there"), "I remember: a; b");
        assert_eq!(player.play(Step::Exit(3)).expect("played"), Some(3));
        let mut restored = Player::new(repo, Surroundings { restored: true, ..Surroundings::default() });
        let steps = [Step::UnlessRestored(vec![Step::Exit(3)]), Step::WhenRestored(vec![Step::Exit(4)])];
        assert_eq!(restored.play_all(steps.into()).expect("played"), Some(4));
    }

    #[test]
    fn a_leak_goes_wherever_it_can() {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = folder.path().join("summary.md");
        let surroundings = Surroundings { summary_file: Some(summary.clone()), ..Surroundings::default() };
        let mut player = Player::new(folder.path().to_owned(), surroundings);
        let leak = Step::Leak { variable: "CARGO_PKG_NAME".into(), path: "leak".into() };
        assert_eq!(player.play(leak).expect("played"), None);
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).expect("there");
        assert_eq!(read("leak"), "scripted-agent");
        assert_eq!(
            read("summary.md"),
            "scripted-agent c2NyaXB0ZWQtYWdlbnQ= 73637269707465642d6167656e74 scripted-agent"
        );
    }

    #[test]
    fn without_a_script_a_note_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut player = Player::new(folder.path().to_owned(), Surroundings::default());
        player.play_all(note_about(&Issue { number: 7, title: "Say hello".into() })).expect("played");
        assert_eq!(
            fs::read_to_string(folder.path().join("README.md")).expect("there"),
            "\n> Issue #7: Say hello\n"
        );
        assert!(folder.path().join("docs/notes/issue-7.md").exists());
    }

    #[test]
    fn a_probe_may_name_targets_and_an_unknown_step_is_an_error() {
        let step = |text| serde_json::from_str::<Step>(text);
        assert!(step(r#"{"probe":true}"#).is_ok());
        assert!(step(r#"{"probe":{"ports":[8080],"paths":["/root"]}}"#).is_ok());
        assert!(
            step(r#"{"probe":{"addresses":["10.0.0.1:80"],"kubernetes":["10.0.0.1:443","[::1]:6443"]}}"#)
                .is_ok()
        );
        assert!(step(r#"{"eat_memory":{"mib":1,"processes":2}}"#).is_ok());
        assert!(step(r#"{"prove":true}"#).is_err());
    }
}
