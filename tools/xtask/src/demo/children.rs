//! Programs that run beside the demo and do not outlive it.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use signal_hook::{consts, iterator::Signals};

/// How long a program may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the rest of a killed group is waited for.
const DYING: Duration = Duration::from_secs(2);

/// The programs, in the order they were started. Clones are the same programs; they are
/// ended in reverse order by [`Children::end_all`], at Ctrl-C, and at SIGTERM.
#[derive(Clone, Debug, Default)]
pub(super) struct Children {
    running: Arc<Mutex<Vec<(&'static str, Child)>>>,
    lastly: Arc<Mutex<Vec<Command>>>,
    interrupted: Arc<AtomicBool>,
    finished: Arc<AtomicBool>,
}

impl Children {
    /// From now on Ctrl-C and SIGTERM end the programs, remove `folder`, and then end xtask.
    ///
    /// # Errors
    /// When no signal handler can be installed.
    pub(super) fn end_at_signals(&self, folder: PathBuf) -> Result<()> {
        let mut signals =
            Signals::new([consts::SIGINT, consts::SIGTERM]).context("signals cannot be watched")?;
        let children = self.clone();
        thread::spawn(move || {
            if signals.forever().next().is_some() {
                children.interrupted.store(true, Ordering::SeqCst);
                eprintln!("\nending …");
                children.end_all();
                // What cannot be removed is in /tmp; there is nobody left to tell.
                drop(std::fs::remove_dir_all(&folder));
                // 130: interrupted. Once the demo is through, Ctrl-C is how it is ended.
                std::process::exit(if children.finished.load(Ordering::SeqCst) { 0 } else { 130 });
            }
        });
        Ok(())
    }

    /// Says that the work is done and only Ctrl-C is waited for.
    pub(super) fn finished(&self) {
        self.finished.store(true, Ordering::SeqCst);
    }

    /// Does not return when a signal is already ending everything.
    pub(super) fn wait_if_interrupted(&self) {
        while self.interrupted.load(Ordering::SeqCst) {
            thread::park();
        }
    }

    /// Starts a program in a process group of its own, so that Ctrl-C reaches xtask alone
    /// and everything is ended in order.
    ///
    /// # Errors
    /// Names the program.
    pub(super) fn start(&self, name: &'static str, command: &mut Command) -> Result<()> {
        let child = command.process_group(0).spawn().with_context(|| format!("{name} cannot start"))?;
        self.lock().push((name, child));
        Ok(())
    }

    /// As [`Self::start`], and returns the first line it prints, which says where it listens.
    ///
    /// # Errors
    /// Names the program, also when it ends without a word.
    pub(super) fn start_and_hear(&self, name: &'static str, command: &mut Command) -> Result<String> {
        self.start(name, command.stdout(Stdio::piped()))?;
        let stdout = self.lock().last_mut().and_then(|(_, child)| child.stdout.take());
        let mut stdout = BufReader::new(stdout.context("its output is a pipe")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        // Whatever else it prints must not block it.
        thread::spawn(move || drop(std::io::copy(&mut stdout, &mut std::io::sink())));
        if line.trim().is_empty() { bail!("{name} ended without saying where it listens") } else { Ok(line) }
    }

    /// How a program ended, if it did.
    pub(super) fn ended(&self, name: &str) -> Option<ExitStatus> {
        self.lock()
            .iter_mut()
            .filter(|(n, _)| *n == name)
            .find_map(|(_, child)| child.try_wait().ok().flatten())
    }

    /// Has a command run once all programs have ended, however that comes.
    pub(super) fn lastly(&self, command: Command) {
        self.lastly.lock().unwrap_or_else(PoisonError::into_inner).push(command);
    }

    /// Ends all programs, the last one first, and waits for them; then runs what was left for then.
    pub(super) fn end_all(&self) {
        let mut running = self.lock();
        while let Some((name, child)) = running.pop() {
            end(name, child);
        }
        let mut lastly = self.lastly.lock().unwrap_or_else(PoisonError::into_inner);
        for mut command in lastly.drain(..) {
            // It says itself why it fails; there is nobody left to tell.
            drop(command.status());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, Child)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(name: &str, mut child: Child) {
    let group = Pid::from_child(&child);
    // Errors below say that the group is gone, which is what is wanted.
    kill_process_group(group, Signal::TERM).ok();
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    if matches!(child.try_wait(), Ok(None)) {
        eprintln!("{name} does not end by itself and is killed");
    }
    kill_process_group(group, Signal::KILL).ok();
    child.wait().ok();
    // A killed process is not gone at once, and may still write into what is removed next.
    // Bounded, because one that nobody reaps stays in its group for ever.
    let deadline = Instant::now() + DYING;
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_program_is_heard_and_ended_with_everything_it_started() {
        let children = Children::default();
        let mut command = subprocess::command("sh", Path::new("/"));
        command.args(["-c", "sleep 600 & echo \"$!\"; wait"]);
        let grandchild = children.start_and_hear("shell", &mut command).expect("a line");
        let stat = format!("/proc/{}/stat", grandchild.trim());
        assert!(Path::new(&stat).exists());
        assert_eq!(children.ended("shell"), None);
        let folder = tempfile::tempdir().expect("a folder");
        let mut last = subprocess::command("sh", folder.path());
        last.args(["-c", &format!("grep -qs ') [^Z]' {stat} || touch ended")]);
        children.lastly(last);
        children.end_all();
        assert!(folder.path().join("ended").exists(), "it came after the program had ended");
        // Nobody may have reaped it yet; a zombie does not run.
        let state = std::fs::read_to_string(&stat).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z"), "{state}");
    }

    #[test]
    fn a_program_that_says_nothing_is_an_error() {
        let error =
            Children::default().start_and_hear("true", &mut subprocess::command("true", Path::new("/")));
        assert_eq!(error.expect_err("silent").to_string(), "true ended without saying where it listens");
    }
}
