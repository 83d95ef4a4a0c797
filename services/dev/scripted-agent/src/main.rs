//! A coding agent that plays a script: for tests and the demo, where no model is at hand.
//!
//! It reads the prompt on standard input and really edits files in the folder it is started
//! in. The script is the last fenced block ```` ```agent-script ```` of it; without one
//! it writes a note about the issue.

use std::{
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;

mod hostile;
mod hunger;
mod prompt;
mod steps;

use steps::{Player, Step, Surroundings};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.as_slice() {
        [hold, mib] if hold == hunger::HOLD => hunger::hold(mib).map(|()| 0),
        _ => play(),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("scripted-agent: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn play() -> anyhow::Result<u8> {
    let mut prompt = Vec::new();
    io::stdin().read_to_end(&mut prompt).context("the prompt")?;
    let prompt = String::from_utf8_lossy(&prompt);
    let issue = prompt::issue(&prompt);
    let script = match prompt::script(&prompt) {
        Some(script) => serde_json::from_str::<Vec<Step>>(&script)
            .context("the agent-script block is no list of steps")?,
        None => steps::note_about(&issue),
    };
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let surroundings = Surroundings {
        summary_file: path("CALLBOARD_SUMMARY_FILE"),
        findings_file: path("CALLBOARD_FINDINGS_FILE"),
        session_dir: path("CALLBOARD_SESSION_DIR"),
        restored: std::env::var_os("CALLBOARD_RESTORED").is_some(),
    };
    let mut player = Player::new(std::env::current_dir()?, surroundings);
    if let Some(code) = player.play_all(script)? {
        return Ok(code);
    }
    player.finish()?;
    Ok(0)
}
