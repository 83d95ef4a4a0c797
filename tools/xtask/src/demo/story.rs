//! What happened to the run, told while it happens and summed up at the end.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::platform::Platform;

/// From the label to the run; a delivery and a decision lie between.
const RUN_APPEARS: Duration = Duration::from_secs(30);
/// From the label to the end; the stage's own limit is far longer than a demo should be.
const RUN_ENDS: Duration = Duration::from_secs(300);
/// From the end of the run to the last effect.
const EFFECTS_SETTLE: Duration = Duration::from_secs(30);

/// The run of the labelled issue.
///
/// # Errors
/// When there is none, with what the platform says about the issue.
pub(super) fn find_run(platform: &Platform, issue: u64) -> Result<String> {
    let found = until(RUN_APPEARS, || {
        let runs = platform.ask(&["run", "list"])?;
        let mut runs = runs.as_array().into_iter().flatten();
        Ok(runs.find(|run| run["issue"] == issue).and_then(|run| run["id"].as_str()).map(ToOwned::to_owned))
    })?;
    match found {
        Some(id) => Ok(id),
        None => {
            let why = platform.ask(&["explain", &format!("{}#{issue}", super::REPOSITORY)])?;
            bail!(
                "the label led to no run; `callboard explain` says:\n{}",
                serde_json::to_string_pretty(&why)?
            )
        }
    }
}

/// Prints events and transcript until the run is over and every effect is applied.
///
/// # Errors
/// When it takes too long.
pub(super) fn follow(platform: &Platform, id: &str) -> Result<Told> {
    let mut logs = platform.command(&["run", "logs", "-f", id]);
    let mut logs =
        logs.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("`run logs` cannot start")?;
    let lines = BufReader::new(logs.stdout.take().context("its output is a pipe")?).lines();
    let printing = thread::spawn(move || {
        lines.map_while(std::io::Result::ok).for_each(|line| eprintln!("    │ {line}"));
    });

    let mut seen = 0;
    let mut ended_at: Option<Instant> = None;
    let told = until(RUN_ENDS, || {
        let told = Told(platform.ask(&["run", "get", id])?);
        for event in told.0["events"].as_array().into_iter().flatten().skip(seen) {
            let part = |key: &str| plain(event[key].as_str().unwrap_or_default());
            eprintln!("  ● {}: {}", part("kind"), part("text"));
            seen += 1;
        }
        if !told.is_final() {
            return Ok(None);
        }
        let settled =
            told.is_settled() || ended_at.get_or_insert_with(Instant::now).elapsed() > EFFECTS_SETTLE;
        Ok(settled.then_some(told))
    })?;
    // It ends with the run; if the run did not end, it has to.
    if told.is_none() {
        logs.kill()?;
    }
    logs.wait()?;
    drop(printing.join());
    told.with_context(|| format!("the run is not over after {} s", RUN_ENDS.as_secs()))
}

/// Text from elsewhere must not drive the terminal.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.trim_end().chars().map(shown).collect()
}

/// Asks again and again, for at most `longest`.
fn until<T>(longest: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Instant::now() + longest;
    loop {
        // First the pause: each look is a process of its own, and the first moments are those
        // that are timed.
        thread::sleep(Duration::from_millis(400));
        match look()? {
            Some(found) => return Ok(Some(found)),
            None if Instant::now() > deadline => return Ok(None),
            None => {}
        }
    }
}

/// The answer of `callboard run get`.
#[derive(Debug)]
pub(super) struct Told(Value);

impl Told {
    /// A field of the run itself; empty when it has none.
    fn run(&self, field: &str) -> &str {
        self.0["run"][field].as_str().unwrap_or_default()
    }

    fn is_final(&self) -> bool {
        ["succeeded", "failed", "cancelled"].contains(&self.run("state"))
    }

    fn is_settled(&self) -> bool {
        self.0["effects"]
            .as_array()
            .is_none_or(|effects| effects.iter().all(|effect| effect["state"] != "pending"))
    }

    /// Address of the pull request.
    ///
    /// # Errors
    /// When the run did not succeed or there is none, with the run's own sentence.
    pub(super) fn pull_request_url(&self) -> Result<&str> {
        match (self.run("state"), self.run("pull_request_url")) {
            ("succeeded", "") => bail!("the run succeeded without a pull request: {}", self.run("message")),
            ("succeeded", url) => Ok(url),
            (state, _) => bail!("the run {state} ({}): {}", self.run("class"), self.run("message")),
        }
    }

    /// Address of the status comment; empty when there is none.
    pub(super) fn comment_url(&self) -> &str {
        self.0["comment_url"].as_str().unwrap_or_default()
    }

    /// What somebody else measured.
    pub(super) fn took(&mut self, what: &str, milliseconds: f64) {
        self.0["timings_ms"][what] = json!(milliseconds);
    }

    /// How long it took to each point, beside what is aimed for.
    pub(super) fn breakdown(&self) -> String {
        const POINTS: [(&str, &str, Option<u32>); 8] = [
            ("received_to_decided", "decided", None),
            ("received_to_leased", "attempt leased", Some(100)),
            ("received_to_comment", "status comment", Some(300)),
            ("label_to_pod_created", "pod created", None),
            ("received_to_running", "agent running", None),
            ("received_to_returned", "result returned", None),
            ("received_to_pull_request", "pull request", None),
            ("received_to_finished", "finished", None),
        ];
        POINTS
            .iter()
            .filter_map(|(key, name, aim)| {
                let took = self.0["timings_ms"][key].as_f64()?;
                let aim = aim.map(|aim| format!("   aim: < {aim} ms")).unwrap_or_default();
                Some(format!("  {name:16} {took:8.0} ms{aim}\n"))
            })
            .collect()
    }

    /// The last line of `--json`.
    pub(super) fn summary(&self) -> Value {
        json!({
            "run_id": self.run("id"),
            "state": self.run("state"),
            "pull_request_url": self.run("pull_request_url"),
            "comment_url": self.comment_url(),
            "timings_ms": self.0["timings_ms"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: &str, url: &str) -> Told {
        Told(json!({
            "run": {"id": "0198", "state": state, "class": "agent", "message": "It broke.", "pull_request_url": url},
            "comment_url": "http://c",
            "effects": [{"state": "done"}, {"state": "pending"}],
            "timings_ms": {"received_to_leased": 41.6, "received_to_finished": 900.0},
        }))
    }

    #[test]
    fn success_is_a_pull_request() {
        assert_eq!(told("succeeded", "http://p").pull_request_url().expect("there"), "http://p");
        let sentence = |told: Told| told.pull_request_url().expect_err("no success").to_string();
        assert_eq!(sentence(told("succeeded", "")), "the run succeeded without a pull request: It broke.");
        assert_eq!(sentence(told("failed", "http://p")), "the run failed (agent): It broke.");
        assert!(!told("succeeded", "").is_settled());
    }

    #[test]
    fn timings_stand_beside_their_aim() {
        assert_eq!(
            told("succeeded", "").breakdown(),
            "  attempt leased         42 ms   aim: < 100 ms\n  finished              900 ms\n"
        );
        assert_eq!(told("failed", "").summary()["timings_ms"]["received_to_finished"], 900.0);
    }
}
