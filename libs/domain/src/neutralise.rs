//! Makes text written by an agent harmless before it is posted.
//!
//! Nothing here trusts that a code host reads Markdown as we do: what is dangerous outside
//! code is made inert inside code as well, only in a way that reads better there.

mod characters;
mod definitions;
mod signals;

use std::{ops::Range, sync::LazyLock};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};
use regex::Regex;

pub use characters::{is_hidden, visible};
pub use definitions::without_hidden_definitions;
use signals::without_signals;

/// Stands, unseen, inside what must not be recognised.
const BREAK: char = '\u{200b}';
/// Said where text was cut.
const CUT: &str = "… (cut)";
/// A longer code fence is cut off with its code, so that closing it cannot double the text.
const LONGEST_FENCE: usize = 40;
/// Bytes of a link that are read back to see whether an `@` belongs to it.
const LINK_BYTES: usize = 300;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is tested")
}

/// After `<`: an automatic link.
static LINK_IN_ANGLES: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^https?://[^\s<>]*>"));
/// After `&`: a character reference that could stand for `@` or `#`.
static CHARACTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(#?[A-Za-z0-9]{1,40});"));
/// What reads as a link, up to the end of the text.
static LINK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)(?:^|[^a-z0-9])https?://[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]+)?/[a-z0-9@./%_-]*$")
});

/// An agent's Markdown, harmless: no mentions, no HTML, no closing keywords, no images, no
/// marks or commands of ours, nothing invisible, no open code fence, and no headings or alerts
/// that could pass for the platform's. Links and references such as `#7` stay; an `@` in a link
/// becomes `%40`. Never longer than `max_chars` + 50 characters.
pub fn neutralise(text: &str, max_chars: usize) -> String {
    let text = without_headings(&without_images(&visible(text)));
    let text = without_signals(&text);
    let code = code_ranges(&text);
    let can_show_images = ["](", "][", "]:"].iter().any(|sign| text.contains(sign));
    let place = |at: usize| {
        if code.get(code.partition_point(|range| range.end <= at)).is_some_and(|range| range.contains(&at)) {
            Place::Code { can_show_images }
        } else if text[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            Place::Escaped
        } else {
            Place::Prose
        }
    };
    let mut text = inert(&text, place);
    let cut_at = text.char_indices().nth(max_chars).map(|(at, _)| at);
    if let Some(at) = cut_at {
        text.truncate(at);
    }
    close_fence(&mut text);
    if cut_at.is_some() {
        // On the line of a closing fence it would open it again.
        if text.trim_end_matches([' ', '\t']).ends_with(['`', '~']) {
            text.push('\n');
        }
        text.push_str(CUT);
    }
    text
}

/// The same for one line: a title, a cell of a table, between backticks. At most `max_chars`
/// characters.
pub fn neutralise_line(text: &str, max_chars: usize) -> String {
    let line =
        visible(text).split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "'").replace('|', "¦");
    let line = inert(&without_signals(&line), |_| Place::Code { can_show_images: true });
    if line.chars().count() <= max_chars {
        return line;
    }
    let mut cut: String = line.chars().take(max_chars.saturating_sub(1)).collect();
    if max_chars > 0 {
        cut.push('…');
    }
    cut
}

/// The parts of the text with what they are. Every `<` reads as a letter, because that is all
/// it will be in the end.
fn parts(text: &str) -> impl Iterator<Item = (Event<'static>, Range<usize>)> {
    let text = text.replace('<', "x");
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    let parts: Vec<_> = Parser::new_ext(&text, options)
        .into_offset_iter()
        .map(|(event, range)| (event.into_static(), range))
        .collect();
    parts.into_iter()
}

/// Images become links, so that opening a comment fetches nothing.
fn without_images(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (event, range) in parts(text) {
        if let Event::Start(Tag::Image { .. }) = event {
            out.push_str(text[end..range.start].trim_end_matches('!'));
            end = range.start + 1;
        }
    }
    out.push_str(&text[end..]);
    out
}

/// The smallest headings there are: a larger one could pass for a section of the platform's own
/// text around it.
fn without_headings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (event, range) in parts(text) {
        let Event::Start(Tag::Heading { .. }) = event else { continue };
        let heading = &text[range.clone()];
        let signs = heading.bytes().take_while(|byte| *byte == b'#').count();
        if signs > 0 {
            out.push_str(&text[end..range.start]);
            out.push_str("######");
            end = range.start + signs;
        } else {
            // Underlined: the line goes.
            let underlined = heading.trim_end().trim_end_matches(['=', '-']);
            out.push_str(&text[end..range.start + underlined.len()]);
            end = range.start + heading.trim_end().len();
        }
    }
    out.push_str(&text[end..]);
    out
}

fn code_ranges(text: &str) -> Vec<Range<usize>> {
    let is_code = |event: &Event<'_>| matches!(event, Event::Code(_) | Event::Start(Tag::CodeBlock(_)));
    parts(text).filter(|(event, _)| is_code(event)).map(|(_, range)| range).collect()
}

/// Where a character stands.
#[derive(Clone, Copy)]
enum Place {
    /// In text, where character references are read.
    Prose,
    /// In text, after a backslash.
    Escaped,
    /// In code, or what we take for it.
    Code {
        /// False when nothing in the text could be an image, so that `vec![1]` stays as it is.
        can_show_images: bool,
    },
}

/// Makes HTML, character references, images and mentions plain characters.
fn inert(text: &str, place: impl Fn(usize) -> Place) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut closing_angle = None;
    let mut before = None;
    for (at, c) in text.char_indices() {
        let rest = &text[at + c.len_utf8()..];
        let next = rest.chars().next();
        let starts_name = next.is_some_and(|n| n.is_ascii_alphanumeric());
        match c {
            '<' if next.is_some_and(|n| n.is_ascii_alphabetic() || matches!(n, '/' | '!' | '?')) => {
                match place(at) {
                    Place::Prose => {
                        out.push_str("&lt;");
                        closing_angle =
                            LINK_IN_ANGLES.find(rest).map(|link| at + link.end()).or(closing_angle);
                    }
                    Place::Escaped | Place::Code { .. } => out.extend([c, BREAK]),
                }
            }
            // Else the link would end in it.
            '>' if closing_angle == Some(at) => out.push_str("&gt;"),
            '&' if is_character_reference(rest) => match place(at) {
                Place::Prose => out.push_str("&amp;"),
                Place::Escaped | Place::Code { .. } => out.extend([c, BREAK]),
            },
            '!' if next == Some('[') => match place(at) {
                Place::Code { can_show_images: false } => out.push(c),
                Place::Prose | Place::Escaped | Place::Code { can_show_images: true } => {
                    out.extend([c, BREAK]);
                }
            },
            '@' if starts_name && !before.is_some_and(|b: char| b.is_ascii_alphanumeric()) => {
                // Not left alone in a link: the code host may not take it for one.
                if ends_in_link(&text[..at]) {
                    out.push_str("%40");
                } else {
                    out.extend([c, BREAK]);
                }
            }
            _ => out.push(c),
        }
        before = Some(c);
    }
    out
}

/// True for what a renderer replaces by a character, except where the sign itself is harmless.
fn is_character_reference(after_ampersand: &str) -> bool {
    let name = CHARACTER.captures(after_ampersand).and_then(|c| c.get(1)).map(|m| m.as_str());
    name.is_some_and(|name| !matches!(name, "lt" | "gt" | "amp" | "quot"))
}

fn ends_in_link(text: &str) -> bool {
    LINK.is_match(&text[text.ceil_char_boundary(text.len().saturating_sub(LINK_BYTES))..])
}

/// Closes a code fence that would swallow what is written after the text.
fn close_fence(text: &mut String) {
    let end = text.len();
    let probe = format!("{text}\n\nx");
    let is_fence =
        |event: &Event<'_>| matches!(event, Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))));
    let open = parts(&probe)
        .find(|(event, range)| is_fence(event) && range.end > end + 2)
        .map(|(_, range)| range.start);
    let Some(start) = open else { return };
    let Some(sign) = text[start..].trim_start().chars().next() else { return };
    let length = text[start..].trim_start().chars().take_while(|c| *c == sign).count();
    if length > LONGEST_FENCE {
        text.truncate(start);
        return;
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.extend(std::iter::repeat_n(sign, length));
    text.push('\n');
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
