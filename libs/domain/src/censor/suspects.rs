//! What a person has to look at before a file is published.

use std::ops::Range;

use super::{gitleaks, patterns};

/// What is named of one file; a person who sees these looks at the rest.
const MOST_SUSPECTS: usize = 5;

/// Something in a file that has the shape of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// What it looks like, in words that follow "looks like"; never the secret.
    pub what: String,
    /// The line it begins in, from 1.
    pub line: usize,
    /// How many more of the same there are in the file.
    pub more: usize,
}

/// Looks through the files of one changeset.
#[derive(Debug)]
pub struct SuspectSearch {
    effort: usize,
}

/// Bytes that all rules together read in one changeset. Ten megabytes of source code take a
/// third of it; a changeset made of nothing but the words that start a rule takes more, and
/// would keep a processor busy for half a minute.
const EFFORT: usize = 300 << 20;

impl SuspectSearch {
    /// One that has looked at nothing.
    pub fn new() -> Self {
        Self { effort: EFFORT }
    }

    /// True when there was too much to search: what the last files have is not known.
    pub fn gave_up(&self) -> bool {
        self.effort == 0
    }

    /// What in there has the shape of a secret, in the order of the lines: each kind once, at
    /// most five. `path` is the file's; `None` for a text that is no file.
    pub fn suspects(&mut self, content: &[u8], path: Option<&str>) -> Vec<Suspect> {
        let ours = patterns::tokens(content).into_iter().map(|(kind, range)| (range, kind.to_string()));
        let mut found: Vec<(Range<usize>, String)> = ours.collect();
        let known = found.len();
        for leak in gitleaks::leaks(content, path, &mut self.effort) {
            let meets = |(range, _): &(Range<usize>, String)| {
                range.start < leak.range.end && leak.range.start < range.end
            };
            if !found[..known].iter().any(meets) {
                found.push((leak.range, gitleaks::in_words(leak.rule)));
            }
        }
        by_kind(content, found)
    }
}

impl Default for SuspectSearch {
    fn default() -> Self {
        Self::new()
    }
}

fn by_kind(content: &[u8], mut found: Vec<(Range<usize>, String)>) -> Vec<Suspect> {
    found.sort_by_key(|(range, _)| range.start);
    let mut suspects: Vec<Suspect> = Vec::new();
    let (mut line, mut at) = (1, 0);
    for (range, what) in found {
        line += content[at..range.start].iter().filter(|byte| **byte == b'\n').count();
        at = range.start;
        if let Some(suspect) = suspects.iter_mut().find(|suspect| suspect.what == what) {
            suspect.more += 1;
        } else if suspects.len() < MOST_SUSPECTS {
            suspects.push(Suspect { what, line, more: 0 });
        }
    }
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many characters that look random.
    fn body(length: usize) -> String {
        "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ".chars().cycle().take(length).collect()
    }

    #[test]
    fn each_kind_is_named_once_with_its_first_line() {
        let gitlab = format!("glpat-{}", body(20));
        let content = format!(
            "[a]\none = {gitlab}\ntwo = {gitlab}\n\nadafruit_key = \"{}\"\nthree = {gitlab}\n",
            "q8w7e6r5t4y3u2i1o0p9a8s7d6f5g4h3"
        );
        let named = |path| {
            let named = SuspectSearch::new().suspects(content.as_bytes(), path);
            named.into_iter().map(|s| (s.what, s.line, s.more)).collect::<Vec<_>>()
        };
        let both = [("a GitLab token".to_owned(), 2, 2), ("an adafruit API key".to_owned(), 5, 0)];
        assert_eq!(named(Some("config.ini")), both);
        // What gitleaks passes over is still searched for what we know ourselves.
        assert_eq!(named(Some("package-lock.json")), both[..1]);
    }

    #[test]
    fn an_endless_search_is_given_up() {
        let mut search = SuspectSearch::new();
        assert_eq!(search.suspects(b"fn main() {}", Some("main.rs")), []);
        assert!(!search.gave_up());
        let mut search = SuspectSearch { effort: 1000 };
        assert_eq!(search.suspects(&b"api key\n".repeat(1000), Some("words")), []);
        assert!(search.gave_up());
    }
}
