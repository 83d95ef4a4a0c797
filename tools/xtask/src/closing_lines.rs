//! Reads along with `cargo test` and keeps each runner's closing line, and what was not shown.

use std::collections::BTreeSet;

/// How a story begins that says what it did not show.
const NOT_SHOWN: &str = "cluster tests: ";

/// One test binary's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosingLine {
    /// "domain", "control_plane (tests/access.rs)", "domain (doc)".
    pub(crate) suite: String,
    /// "test result: ok. 12 passed; …".
    pub(crate) line: String,
}

/// What has been read so far.
#[derive(Debug, Default)]
pub(crate) struct ClosingLines {
    suite: String,
    lines: Vec<ClosingLine>,
    not_shown: BTreeSet<String>,
}

impl ClosingLines {
    /// One line of output, colours and all.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colours(line);
        let line = line.trim();
        if let Some(running) = line.strip_prefix("Running ") {
            self.suite = suite(running);
        } else if let Some(crate_name) = line.strip_prefix("Doc-tests ") {
            self.suite = format!("{crate_name} (doc)");
        } else if line.starts_with("test result: ") {
            self.lines.push(ClosingLine { suite: self.suite.clone(), line: line.to_owned() });
        } else if let Some((_, what)) = line.split_once(NOT_SHOWN) {
            // Another test's line may have begun before it.
            self.not_shown.insert(format!("{NOT_SHOWN}{what}\n"));
        }
    }

    /// What was not shown so far is shown by what follows.
    pub(crate) fn is_shown_later(&mut self) {
        self.not_shown.clear();
    }

    /// What stories said was not shown here, each once.
    pub(crate) fn not_shown(&self) -> String {
        self.not_shown.iter().map(String::as_str).collect()
    }

    /// Those of suites that had something to run, as a table.
    pub(crate) fn table(&self) -> String {
        let ran: Vec<_> =
            self.lines.iter().filter(|l| !l.line.contains(" 0 passed; 0 failed; 0 ignored;")).collect();
        let width = ran.iter().map(|l| l.suite.chars().count()).max().unwrap_or_default();
        ran.iter().map(|ClosingLine { suite, line }| format!("  {suite:width$}  {line}\n")).collect()
    }
}

/// "unittests src/lib.rs (target/debug/deps/domain-0a1b)" → "domain".
fn suite(running: &str) -> String {
    let Some((source, binary)) = running.split_once(" (") else { return running.to_owned() };
    let file = binary.trim_end_matches(')').rsplit('/').next().unwrap_or(binary);
    let name = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
    match source.strip_prefix("unittests ") {
        Some("src/lib.rs" | "src/main.rs") => name.to_owned(),
        Some(other) => format!("{name} ({other})"),
        None => format!("{name} ({source})"),
    }
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_colour, after)| after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runner_has_the_last_word() {
        let mut lines = ClosingLines::default();
        for line in [
            "   Compiling domain v0.1.0",
            "\u{1b}[1m\u{1b}[32m     Running\u{1b}[0m unittests src/lib.rs (target/debug/deps/domain-0a1b2c)",
            "running 2 tests",
            "test result: \u{1b}[32mok\u{1b}[0m. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s",
            "     Running tests/label_to_pull_request.rs (/cache/target/debug/deps/label_to_pull_request-77ff)",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.00s",
            "test cluster::hostile::a ... cluster tests: nothing was proven here",
            "cluster tests: nothing was proven here",
            "   Doc-tests domain",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            lines.read(line);
        }
        assert_eq!(lines.not_shown(), "cluster tests: nothing was proven here\n");
        assert_eq!(
            lines.table(),
            concat!(
                "  domain                                                  test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s\n",
                "  label_to_pull_request (tests/label_to_pull_request.rs)  test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.00s\n",
            )
        );
    }
}
