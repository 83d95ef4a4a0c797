//! gitleaks' rules for what has the shape of a secret, read from its own file; see
//! `gitleaks/README.md` for the version and for what is read differently.

use std::{
    ops::Range,
    sync::{LazyLock, OnceLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::go_regex;

/// Bytes that are searched at once; a keyword counts for its piece.
const PIECE: usize = 100_000;
/// Bytes after which a piece ends at the latest, when no line does.
const PIECE_END: usize = 125_000;
/// Bytes that the next piece begins earlier, so that nothing is cut in two.
const OVERLAP: usize = 2_000;
/// Matches of one rule in one piece that are looked at.
const MOST_MATCHES: usize = 1_000;
/// Bytes a compiled expression may take.
const EXPRESSION_BYTES: usize = 4 << 20;
/// The rule that finds what no other does, and much that is none.
const GENERIC: &str = "generic-api-key";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "title")]
    _title: String,
    #[serde(rename = "minVersion", default)]
    _min_version: String,
    allowlist: Allowlist,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    id: String,
    #[serde(rename = "description")]
    _description: String,
    regex: Option<Expression>,
    path: Option<Expression>,
    #[serde(default)]
    secret_group: usize,
    #[serde(default)]
    entropy: f64,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    allowlists: Vec<Allowlist>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Allowlist {
    #[serde(rename = "description", default)]
    _description: String,
    #[serde(default)]
    condition: Condition,
    #[serde(default)]
    regex_target: Target,
    #[serde(default)]
    paths: Vec<Expression>,
    #[serde(default)]
    regexes: Vec<Expression>,
    #[serde(default)]
    stopwords: Vec<String>,
    #[serde(skip)]
    stopword_search: OnceLock<AhoCorasick>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
enum Condition {
    #[default]
    #[serde(rename = "OR")]
    Any,
    #[serde(rename = "AND")]
    All,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Target {
    #[default]
    Secret,
    Match,
    Line,
}

/// An expression that is compiled when it is first needed: most never are.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Expression {
    source: String,
    compiled: OnceLock<Regex>,
}

impl From<String> for Expression {
    fn from(source: String) -> Self {
        Self { source, compiled: OnceLock::new() }
    }
}

impl Expression {
    fn compile(&self) -> Result<Regex, regex::Error> {
        RegexBuilder::new(&go_regex::for_this_crate(&self.source))
            .unicode(false)
            .size_limit(EXPRESSION_BYTES)
            .build()
    }

    fn get(&self) -> &Regex {
        self.compiled.get_or_init(|| self.compile().expect("every expression of the file is tested"))
    }
}

struct Rules {
    file: File,
    keywords: AhoCorasick,
    /// The rules of every keyword.
    rules_of: Vec<Vec<usize>>,
    /// Those that are always tried.
    without_keywords: Vec<usize>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let file: File =
        toml::from_str(include_str!("gitleaks/gitleaks.toml")).expect("the file is read by a test");
    let mut keywords: Vec<&str> = file.rules.iter().flat_map(|rule| &rule.keywords).map(|k| &**k).collect();
    keywords.sort_unstable();
    keywords.dedup();
    let with = |keyword: &&str| {
        let has = |rule: &Rule| rule.keywords.iter().any(|k| k == keyword);
        (0..file.rules.len()).filter(|at| has(&file.rules[*at])).collect()
    };
    let rules_of = keywords.iter().map(with).collect();
    let without_keywords = (0..file.rules.len()).filter(|at| file.rules[*at].keywords.is_empty()).collect();
    let keywords = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(&keywords)
        .expect("a few hundred short words");
    Rules { file, keywords, rules_of, without_keywords }
});

/// What has the shape of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leak {
    /// gitleaks' name of the rule.
    pub(super) rule: &'static str,
    /// Where the secret is; all of the content when its path alone says so.
    pub(super) range: Range<usize>,
}

/// What in a file, or in a text without a path, has the shape of a secret: in its order, and
/// no two in one place. `effort` is how many bytes the rules may read, each for itself; what it
/// did not reach for was not searched.
pub(super) fn leaks(content: &[u8], path: Option<&str>, effort: &mut usize) -> Vec<Leak> {
    let rules = &*RULES;
    if path.is_some_and(|path| rules.file.allowlist.allows_path(path)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for piece in pieces(content) {
        for at in rules.worth_trying(&content[piece.clone()]) {
            *effort = effort.saturating_sub(piece.len().max(1));
            if *effort == 0 {
                break;
            }
            rules.file.rules[at].search(&content[piece.clone()], piece.start, path, &mut found);
        }
    }
    // A piece's overlap is searched twice, and rules meet.
    found.sort_by_key(|leak| (leak.range.start, leak.rule == GENERIC));
    let mut apart: Vec<Leak> = Vec::with_capacity(found.len());
    for leak in found {
        match apart.last_mut() {
            Some(last) if last.range.end > leak.range.start => {
                last.range.end = last.range.end.max(leak.range.end);
                if last.rule == GENERIC {
                    last.rule = leak.rule;
                }
            }
            Some(_) | None => apart.push(leak),
        }
    }
    apart
}

/// The content in pieces that end with a line where they can.
fn pieces(content: &[u8]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    loop {
        let rest = &content[start..];
        if rest.len() <= PIECE_END {
            pieces.push(start..content.len());
            return pieces;
        }
        let line = rest[PIECE..PIECE_END].iter().position(|byte| *byte == b'\n');
        let end = start + line.map_or(PIECE_END, |at| PIECE + at + 1);
        pieces.push(start..end);
        start = end - OVERLAP;
    }
}

impl Rules {
    /// The rules with a keyword in there, in the order of the file.
    fn worth_trying(&self, piece: &[u8]) -> Vec<usize> {
        let mut seen = vec![false; self.rules_of.len()];
        for keyword in self.keywords.find_overlapping_iter(piece) {
            seen[keyword.pattern().as_usize()] = true;
        }
        let hit = seen.iter().zip(&self.rules_of).filter(|(seen, _)| **seen).flat_map(|(_, rules)| rules);
        let mut rules: Vec<usize> = hit.chain(&self.without_keywords).copied().collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

impl Rule {
    fn search(&'static self, piece: &[u8], offset: usize, path: Option<&str>, found: &mut Vec<Leak>) {
        if let Some(expected) = &self.path
            && !path.is_some_and(|path| expected.get().is_match(path.as_bytes()))
        {
            return;
        }
        let Some(regex) = &self.regex else {
            found.push(Leak { rule: &self.id, range: offset..offset + piece.len() });
            return;
        };
        for captures in regex.get().captures_iter(piece).take(MOST_MATCHES) {
            let Some(whole) = captures.get(0) else { continue };
            let secret = match self.secret_group {
                0 => captures.iter().skip(1).flatten().find(|group| !group.is_empty()).unwrap_or(whole),
                group => captures.get(group).unwrap_or(whole),
            };
            if self.entropy > 0.0 && entropy(secret.as_bytes()) <= self.entropy {
                continue;
            }
            let hit = Hit { piece, path, whole: whole.range(), secret: secret.as_bytes() };
            let mut allowlists = self.allowlists.iter().chain([&RULES.file.allowlist]);
            if !allowlists.any(|allowlist| allowlist.allows(&hit)) {
                let range = offset + secret.start()..offset + secret.end();
                found.push(Leak { rule: &self.id, range });
            }
        }
    }
}

/// What an allow list is asked about.
struct Hit<'c> {
    piece: &'c [u8],
    path: Option<&'c str>,
    whole: Range<usize>,
    secret: &'c [u8],
}

impl Hit<'_> {
    /// All lines the match stands in.
    fn lines(&self) -> &[u8] {
        let start = self.piece[..self.whole.start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let rest = self.piece[self.whole.end..].iter().position(|b| *b == b'\n');
        &self.piece[start..rest.map_or(self.piece.len(), |at| self.whole.end + at)]
    }
}

impl Allowlist {
    fn allows(&self, hit: &Hit<'_>) -> bool {
        let path = || hit.path.is_some_and(|path| self.allows_path(path));
        let regex = || {
            let target = match self.regex_target {
                Target::Secret => hit.secret,
                Target::Match => &hit.piece[hit.whole.clone()],
                Target::Line => hit.lines(),
            };
            self.regexes.iter().any(|regex| regex.get().is_match(target))
        };
        match self.condition {
            Condition::Any => path() || regex() || self.has_stopword(hit.secret),
            Condition::All => {
                (self.paths.is_empty() || path())
                    && (self.regexes.is_empty() || regex())
                    && (self.stopwords.is_empty() || self.has_stopword(hit.secret))
            }
        }
    }

    fn allows_path(&self, path: &str) -> bool {
        self.paths.iter().any(|regex| regex.get().is_match(path.as_bytes()))
    }

    fn has_stopword(&self, secret: &[u8]) -> bool {
        let search = self.stopword_search.get_or_init(|| {
            AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(&self.stopwords)
                .expect("some thousand short words")
        });
        search.is_match(secret)
    }
}

/// Bits per byte, as Shannon counts them.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let whole = bytes.len() as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / whole;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

/// A rule's name in words that follow "looks like".
pub(super) fn in_words(rule: &str) -> String {
    let words = rule.split('-').map(|word| match word {
        "api" => "API",
        "aws" => "AWS",
        "gcp" => "GCP",
        "id" => "ID",
        "jwt" => "JWT",
        "url" => "URL",
        "yaml" => "YAML",
        word => word,
    });
    let words = words.collect::<Vec<_>>().join(" ");
    let article = if words.starts_with(['a', 'e', 'i', 'o', 'A']) { "an" } else { "a" };
    format!("{article} {words}")
}

#[cfg(test)]
#[path = "gitleaks_tests.rs"]
mod tests;
