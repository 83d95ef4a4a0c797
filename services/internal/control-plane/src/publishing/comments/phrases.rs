//! Pieces of sentences that several texts have in common.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    changeset::{Change, Changeset, Finding},
    neutralise::{neutralise, neutralise_line},
    run::RunKind,
};

use super::SUMMARY_CHARS;
use crate::{
    publishing::about::{Asked, How},
    runs::Run,
};

/// Findings listed; of more the number is said.
const LISTED_FINDINGS: usize = 30;
/// Files named in a sentence.
const NAMED_FILES: usize = 10;
/// The longest run of signs that makes a fence.
const LONGEST_FENCE: usize = 40;

/// A name from outside, as code on one line.
pub(super) fn name(text: &str) -> String {
    format!("`{}`", neutralise_line(text, 60))
}

/// A sentence of ours with words from outside in it, on one line, code and all.
pub(super) fn sentence(text: &str, max_chars: usize) -> String {
    neutralise(text, max_chars).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How long something took. Whole minutes, so that a text that says it changes once a minute.
pub(super) fn took(span: TimeDelta) -> String {
    let minutes = span.num_minutes();
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (..=0, ..=0, ..=0) => "under a minute".to_owned(),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// A time of day in a text that began on another day, perhaps.
pub(super) fn time(at: DateTime<Utc>, began: DateTime<Utc>) -> String {
    let days = (at.date_naive() - began.date_naive()).num_days();
    let later = if days > 0 { format!(" (+{days} d)") } else { String::new() };
    format!("{}{later}", at.format("%H:%M"))
}

/// "`dev`", "`dev` revised on #12".
pub(super) fn work(run: &Run) -> String {
    let stage = name(&run.stage);
    let pull = || run.pull_request.map_or_else(|| "a pull request".to_owned(), |n| format!("#{n}"));
    match run.kind {
        RunKind::Work => stage,
        RunKind::Revise => format!("{stage} again on {}", pull()),
        RunKind::Review => format!("{stage} of {}", pull()),
        RunKind::Discussion => stage,
    }
}

/// The label that asks for a run like this, and where it is put: "`run:dev` on this issue".
pub(super) fn label_again(run: &Run, labels: &domain::stage::Labels) -> String {
    let pull = || run.pull_request.map_or_else(|| "the pull request".to_owned(), |n| format!("#{n}"));
    let (label, place) = match run.kind {
        RunKind::Work => (labels.run_label(&run.stage), "this issue".to_owned()),
        RunKind::Revise => (labels.revise_label(&run.stage), pull()),
        RunKind::Review => (labels.need_label("reviewer"), pull()),
        RunKind::Discussion => (labels.discussion.clone(), "this issue".to_owned()),
    };
    format!("{} on {place}", name(&label))
}

/// Who asked for it, and how: "`mona` with the label `run:dev`".
pub(super) fn asked_by(run: &Run, asked: &Asked, labels: &domain::stage::Labels) -> String {
    let who = name(&run.actor);
    let here = |words: &str| match &asked.url {
        Some(url) => format!("[{words}]({})", url.replace([')', ' ', '\n'], "")),
        None => words.to_owned(),
    };
    let label = |label: String| format!("{who} with the label {}", name(&label));
    match (asked.how, run.kind) {
        (How::Label, RunKind::Work) => label(labels.run_label(&run.stage)),
        (How::Label, RunKind::Revise) => label(labels.revise_label(&run.stage)),
        (How::Label, RunKind::Review) => label(labels.need_label("reviewer")),
        (How::Label, RunKind::Discussion) => label(labels.discussion.clone()),
        (How::Command, _) => format!("{who} with {}", here("a command")),
        (How::Review, _) => format!("{who} with {}", here("a review that requests changes")),
        (How::Comment, _) => format!("{who} with {}", here("a comment")),
        (How::CommandLine, _) => format!("{who} on the command line"),
    }
}

/// What an agent says it did.
pub(super) fn summary(text: &str, max_chars: usize) -> String {
    let text = neutralise(text.trim(), max_chars.min(SUMMARY_CHARS));
    if text.trim().is_empty() { "_The agent left no summary._".to_owned() } else { text }
}

/// A line for each finding of the checks.
pub(super) fn findings(findings: &[Finding]) -> String {
    let mut text: String = findings
        .iter()
        .take(LISTED_FINDINGS)
        .map(|f| format!("- {}\n", sentence(&f.sentence, 300)))
        .collect();
    if findings.len() > LISTED_FINDINGS {
        text.push_str(&format!("- … and {} more\n", findings.len() - LISTED_FINDINGS));
    }
    text
}

/// Paths for a sentence; the first few of many.
pub(in crate::publishing) fn paths(paths: &[&str]) -> String {
    let mut words: Vec<String> =
        paths.iter().take(NAMED_FILES).map(|p| format!("`{}`", neutralise_line(p, 200))).collect();
    if paths.len() > NAMED_FILES {
        words.push(format!("and {} more", paths.len() - NAMED_FILES));
    }
    words.join(", ")
}

/// "2 files written, 1 deleted"
pub(super) fn counts(changeset: &Changeset) -> String {
    let deleted = changeset.files.iter().filter(|f| matches!(f.change, Change::Delete)).count();
    let written = changeset.files.len() - deleted;
    let files = |n: usize| plural(n, "file", "files");
    match (written, deleted) {
        (w, 0) => format!("{} written", files(w)),
        (0, d) => format!("{} deleted", files(d)),
        (w, d) => format!("{} written, {d} deleted", files(w)),
    }
}

/// "1 file", "2 files"
pub(super) fn plural(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// Something that opens on a click. The empty lines make what is inside Markdown again.
pub(super) fn folded(title: &str, text: &str) -> String {
    format!("\n<details><summary>{title}</summary>\n\n{}\n\n</details>\n", text.trim_end())
}

/// A text as it is, in a fence that no line of it can close.
pub(super) fn fenced(text: &str) -> String {
    let mut longest = 0;
    let mut of_this = 0;
    let mut out = String::with_capacity(text.len() + 32);
    for c in text.chars() {
        of_this = if c == '`' { of_this + 1 } else { 0 };
        if of_this > LONGEST_FENCE {
            // Nobody writes that; it would only make the fence long.
            out.push('\u{200b}');
            of_this = 1;
        }
        longest = longest.max(of_this);
        out.push(c);
    }
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", out.trim_end_matches(['\n', '\r']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

    use super::*;

    #[test]
    fn spans_are_said_in_whole_minutes() {
        let said = |seconds| took(TimeDelta::seconds(seconds));
        assert_eq!(
            [-5, 59, 60, 119, 3_599, 3_600, 86_399, 86_400, 200_000].map(said),
            [
                "under a minute",
                "under a minute",
                "1 min",
                "1 min",
                "59 min",
                "1 h 0 min",
                "23 h 59 min",
                "1 d 0 h",
                "2 d 7 h"
            ]
        );
    }

    #[test]
    fn the_next_day_is_said() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let began = at("2026-11-22T23:59:00Z");
        assert_eq!(time(at("2026-11-22T23:59:30Z"), began), "23:59");
        assert_eq!(time(at("2026-11-23T00:01:00Z"), began), "00:01 (+1 d)");
    }

    proptest! {
        /// Whatever the text: it is one code block, and what follows it is not code.
        #[test]
        fn nothing_leaves_the_fence(pieces in proptest::collection::vec(
            proptest::sample::select(vec!["`", "```", "````", "~~~", "\n", "\r\n", "   ", "</details>", "<!--", "> ", "- ", "x", "@mona"]), 0..60)) {
            let text = pieces.concat();
            let page = format!("{}\n\nafterwards", fenced(&text));
            let mut events = Parser::new(&page);
            let is_fence = matches!(events.next(), Some(Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_)))));
            prop_assert!(is_fence);
            let last = events.by_ref().find(|event| !matches!(event, Event::Text(_)));
            prop_assert_eq!(last, Some(Event::End(TagEnd::CodeBlock)));
            prop_assert_eq!(events.next(), Some(Event::Start(Tag::Paragraph)));
            prop_assert_eq!(events.next(), Some(Event::Text("afterwards".into())));
        }
    }

    #[test]
    fn a_very_long_run_of_signs_does_not_make_a_very_long_fence() {
        let text = fenced(&"`".repeat(10_000));
        assert!(text.chars().count() < 10_500, "{}", text.len());
    }
}
