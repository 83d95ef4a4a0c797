//! What somebody else acts on when they read it: the code host, its robots, and we ourselves.

use std::sync::LazyLock;

use regex::Regex;

use super::{BREAK, definitions::DEFINITION, pattern};

/// A word that is still read as one when Markdown's signs stand between its letters.
fn word(letters: &str) -> String {
    let letters: Vec<String> = letters.chars().map(String::from).collect();
    letters.join("[*_~`]*")
}

/// Words that close an issue when a reference follows; also inside other words, as emphasis
/// may divide them.
static CLOSING: LazyLock<Regex> = LazyLock::new(|| {
    let words = ["closes", "closed", "close", "fixes", "fixed", "fix", "resolves", "resolved", "resolve"];
    pattern(&format!("(?i){}", words.map(word).join("|")))
});
/// A reference to an issue, with nothing but signs before it, or the target of a link. Backslashes may stand in it,
/// because Markdown drops those before a sign. Names are bounded, so that a long text of
/// keywords is still read in linear time.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:\]\([^()\n]{0,300}\)|&(?:lt|gt|amp|quot);|[^a-z0-9])*",
        r"(?:#[0-9]|gh\\?-[0-9]|[a-z0-9._\\-]{1,200}/[a-z0-9._\\-]{1,200}#[0-9]",
        r"|https?\\?:\\?/\\?/\S{1,300}/[0-9])",
    ))
});
/// Trailers: our own, and those that say who wrote or saw a commit, which a squash takes over
/// from the text of a pull request.
pub(super) static TRAILER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)(?:callboard-|co-authored-|signed-off-|reviewed-|acked-|approved-)(?:run|by)\s*:")
});
/// One of our commands, wherever a word may begin.
pub(super) static COMMAND: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"(?i)(?:^|[^a-z0-9])(/){}", word("callboard"))));
/// A command of anybody's: a line of its own, also in a list, a quote, a heading or a cell.
static ANY_COMMAND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?im)^(?:[^\S\n]|[>*+`_~#|-]|\[[ x]\]|[0-9]+[.)])*(/)[a-z][a-z0-9_-]*(?:[^\S\n]|$)")
});
/// What keeps pipelines from running, and what makes a quote look like a notice of the code host.
static BRACKETS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\[(?:skip[ -]ci|ci[ -]skip|no[ -]ci|skip[ -]actions|actions[ -]skip)\]",
        r"|\[!(?:note|tip|important|warning|caution)\]",
    ))
});

/// Breaks closing keywords, trailers, commands, notices, and definitions, which nobody sees.
pub(super) fn without_signals(text: &str) -> String {
    let closing =
        CLOSING.find_iter(text).filter(|m| REFERENCE.is_match(&text[m.end()..])).map(|m| m.start() + 1);
    let trailers = TRAILER.find_iter(text).filter_map(|m| Some(m.start() + m.as_str().find('-')? + 1));
    let commands = [&*COMMAND, &*ANY_COMMAND];
    let commands = commands.into_iter().flat_map(|command| command.captures_iter(text));
    let commands = commands.filter_map(|captures| captures.get(1)).map(|slash| slash.end());
    let brackets = BRACKETS.find_iter(text).map(|m| m.start() + 1);
    let definitions = DEFINITION.find_iter(text).map(|m| m.end() - 1);
    let breaks = closing.chain(trailers).chain(commands).chain(brackets).chain(definitions);
    let mut breaks: Vec<usize> = breaks.collect();
    breaks.sort_unstable();
    breaks.dedup();
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for at in breaks {
        out.push_str(&text[end..at]);
        out.push(BREAK);
        end = at;
    }
    out.push_str(&text[end..]);
    out
}
