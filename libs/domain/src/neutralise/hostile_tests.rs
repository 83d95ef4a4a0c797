//! Every hostile text in the middle of a comment of ours, read as the code host reads it.

use pulldown_cmark::{BlockQuoteKind, HeadingLevel, TagEnd};

use super::*;
use crate::hostile;

const MARK: &str = "<!-- callboard:run=1 -->";

/// What a reader of the rendered comment sees.
#[derive(Default, Debug)]
struct Seen {
    /// Headings as large as ours.
    sections: Vec<String>,
    /// Blocks of text with how many quotes, lists and tables they stand in.
    blocks: Vec<(usize, String)>,
    html: Vec<String>,
    images: usize,
    alerts: Vec<BlockQuoteKind>,
    footnotes: usize,
    definitions: usize,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a reader's events: what is not named here is not looked at"
)]
fn seen(markdown: &str) -> Seen {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM;
    let parser = Parser::new_ext(markdown, options);
    let mut seen = Seen { definitions: parser.reference_definitions().iter().count(), ..Seen::default() };
    let (mut depth, mut words, mut in_code) = (0, String::new(), false);
    for event in parser {
        match event {
            Event::Start(Tag::Paragraph | Tag::Heading { .. } | Tag::TableCell | Tag::Item) => words.clear(),
            Event::End(TagEnd::Heading(HeadingLevel::H6))
            | Event::End(TagEnd::Paragraph | TagEnd::TableCell | TagEnd::Item) => {
                seen.blocks.push((depth, std::mem::take(&mut words)));
            }
            Event::End(TagEnd::Heading(_)) => seen.sections.push(std::mem::take(&mut words)),
            _ => {}
        }
        match event {
            Event::Start(Tag::BlockQuote(kind)) => {
                depth += 1;
                seen.alerts.extend(kind);
            }
            Event::Start(Tag::List(_) | Tag::Table(_)) => depth += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Table) => depth -= 1,
            Event::Start(Tag::CodeBlock(_)) => {
                in_code = true;
                words.clear();
            }
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Start(Tag::Image { .. }) => seen.images += 1,
            Event::Start(Tag::FootnoteDefinition(_)) | Event::FootnoteReference(_) => seen.footnotes += 1,
            Event::Html(html) | Event::InlineHtml(html) => seen.html.push(html.trim().to_owned()),
            Event::Text(text) if !in_code => words.push_str(&text),
            Event::Code(text) => words.push_str(&text),
            Event::SoftBreak | Event::HardBreak => words.push('\n'),
            _ => {}
        }
    }
    seen
}

static MENTION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:^|[^A-Za-z0-9])@[A-Za-z0-9]"));
static CLOSES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)[\s:]+(?:#\d|gh-\d|[a-z.-]+/[a-z.-]+#\d|https?://\S{1,100}/\d)",
    )
});
static COMMAND: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?im)^\s*/(?:callboard|lgtm|approve|merge)\b"));

fn check_harmless(name: &str, out: &str) {
    let comment = format!("{MARK}\n### Done\n\n{out}\n\n### Checked\n\nThe platform's own words.\n");
    let seen = seen(&comment);
    let context = || format!("{name}:\n{comment}\n{seen:#?}");
    assert_eq!(seen.sections, ["Done", "Checked"], "{}", context());
    assert_eq!(seen.blocks.last(), Some(&(0, "The platform's own words.".to_owned())), "{}", context());
    assert_eq!(seen.html, [MARK], "{}", context());
    assert_eq!((seen.images, seen.footnotes, seen.definitions), (0, 0, 0), "{}", context());
    assert!(seen.alerts.is_empty(), "{}", context());
    for (_, block) in &seen.blocks {
        assert!(
            !MENTION.is_match(block) && !CLOSES.is_match(block) && !COMMAND.is_match(block),
            "{}",
            context()
        );
    }
    check_characters(name, out);
}

/// What must not stand in the text at all, whoever reads it.
fn check_characters(name: &str, out: &str) {
    assert!(!out.contains("<!--") && !out.to_lowercase().contains("callboard-run:"), "{name}: {out}");
    assert!(!out.contains("[skip ci]"), "{name}: {out}");
    assert!(
        !out.contains(|c| is_hidden(c) && !matches!(c, BREAK | '\u{200d}' | '\u{fe0f}')),
        "{name}: {out:?}"
    );
}

#[test]
fn comments_stay_harmless_around_hostile_texts() {
    for hostile in hostile::texts() {
        let length = hostile.text.chars().count();
        // Whole, and cut anywhere.
        for max_chars in (0..=length).chain([10_000]) {
            check_harmless(&hostile.name, &neutralise(&hostile.text, max_chars));
        }
        // Between other words of an agent's.
        check_harmless(
            &hostile.name,
            &neutralise(&format!("Words.\n\n{0}\n{0}\nWords.", hostile.text), 10_000),
        );
    }
}

#[test]
fn titles_and_cells_stay_one_line_around_hostile_texts() {
    for hostile in hostile::texts() {
        let out = neutralise_line(&hostile.text, 500);
        assert!(!out.contains(['\n', '`', '|']), "{}: {out}", hostile.name);
        assert!(
            !MENTION.is_match(&out) && !CLOSES.is_match(&out) && !COMMAND.is_match(&out),
            "{}: {out}",
            hostile.name
        );
        check_characters(&hostile.name, &out);
        let table = format!("| a | b |\n|---|---|\n| {out} | `{out}` |\n\nThe platform's own words.\n");
        let seen = seen(&table);
        assert_eq!(seen.blocks.last(), Some(&(0, "The platform's own words.".to_owned())), "{table}");
        assert_eq!(seen.blocks.len(), 5, "{table}");
        assert!(seen.html.is_empty() && seen.images == 0, "{table}");
    }
}
