//! Agents that take all there is: processes, memory.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{ChildStdout, Stdio},
};

use anyhow::Context;

/// The argument with which this program is started to hold memory.
pub(crate) const HOLD: &str = "--hold-mib";
/// Sleepers that make room for a bomb.
const ROOM: usize = 16;

/// Starts processes until that is refused, at most `most`; then, in what room a few of them
/// leave, one that starts others as fast as it can. Says what came of it. A bomb is set off only
/// where there is a limit: without one it would take the machine with it.
pub(crate) fn fork_bomb(most: usize, folder: &Path) -> String {
    let start = |program: &str, arguments: &[&str]| {
        let mut command = subprocess::command(program, folder);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let mut sleepers = Vec::new();
    let refused = loop {
        if sleepers.len() == most {
            return format!("started {most} processes, and nothing stopped it");
        }
        match start("sleep", &["86400"]) {
            Ok(sleeper) => sleepers.push(sleeper),
            Err(error) => break error,
        }
    };
    let count = sleepers.len();
    for mut sleeper in sleepers.into_iter().take(ROOM) {
        // It may have ended.
        let _ = sleeper.kill();
        let _ = sleeper.wait();
    }
    let bomb = match start("setsid", &["sh", "-c", "bomb() { bomb | bomb & }; while :; do bomb; done"]) {
        Ok(_) => "a bomb is going off".to_owned(),
        Err(error) => format!("no bomb: {error}"),
    };
    format!("started {count} processes, then was refused: {refused}; {bomb}")
}

/// Lets so many processes take so many MiB each, all at the same time. Says what came of it.
pub(crate) fn eat_memory(mib: usize, processes: usize, folder: &Path) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("where we are")?;
    let mut eaters = Vec::new();
    for _ in 0..processes {
        let mut command = subprocess::command(&program, folder);
        command.args([HOLD, &mib.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        eaters.push(command.spawn().context("an eater")?);
    }
    let said = eaters.iter_mut().filter_map(|eater| eater.stdout.take());
    let full = said.map(is_full).filter(|full| *full).count();
    for mut eater in eaters {
        drop(eater.stdin.take());
        // Killed already, perhaps.
        let _ = eater.wait();
    }
    Ok(format!("{full} of {processes} processes got {mib} MiB"))
}

fn is_full(said: ChildStdout) -> bool {
    // Ends without a line when the process was killed.
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).is_ok_and(|bytes| bytes > 0)
}

/// What an eater does: touches its memory, says so, and holds it until its input ends.
pub(crate) fn hold(mib: &str) -> anyhow::Result<()> {
    let bytes = mib.parse::<usize>().context("a number of MiB")? << 20;
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).context("so much memory")?;
    memory.resize(bytes, 1_u8);
    writeln!(io::stdout(), "full")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(std::hint::black_box(memory));
    Ok(())
}
