//! Makes text written by an agent harmless before it is posted.
//!
//! Nothing here trusts that a code host reads Markdown as we do: what is dangerous outside
//! code is made inert inside code as well, only in a way that reads better there.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};
use regex::Regex;

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

/// Words that close an issue when a reference follows; also inside other words, as emphasis
/// may divide them.
static CLOSING: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)close[sd]?|fix(?:e[sd])?|resolve[sd]?"));
/// A reference to an issue, with nothing but signs before it. Backslashes may stand in it,
/// because Markdown drops those before a sign. Names are bounded, so that a long text of
/// keywords is still read in linear time.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:&(?:lt|gt|amp|quot);|[^a-z0-9])*",
        r"(?:#[0-9]|gh\\?-[0-9]|[a-z0-9._\\-]{1,200}/[a-z0-9._\\-]{1,200}#[0-9]",
        r"|https?\\?:\\?/\\?/\S{1,300}/[0-9])",
    ))
});
/// Our trailer.
static TRAILER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)callboard-run\s*:"));
/// One of our commands, also in a list or a quote.
static COMMAND: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?im)^(?:[^\S\n]|[>*+`_-]|[0-9]+[.)])*/callboard"));
/// After `<`: an automatic link.
static LINK_IN_ANGLES: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^https?://[^\s<>]*>"));
/// After `&`: a character reference that could stand for `@` or `#`.
static CHARACTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(#?[A-Za-z0-9]{1,40});"));
/// What reads as a link, up to the end of the text.
static LINK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)(?:^|[^a-z0-9])https?://[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]+)?/[a-z0-9@./%_-]*$")
});

/// An agent's Markdown, harmless: no mentions, no HTML, no closing keywords, no images, no
/// marks or commands of ours, nothing invisible, no open code fence. Links and references
/// such as `#7` stay; an `@` in a link becomes `%40`. Never longer than `max_chars` + 50 characters.
pub fn neutralise(text: &str, max_chars: usize) -> String {
    let text = without_images(&visible(text));
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

/// True for characters nobody sees, some of which change what is seen around them: control
/// characters, bidirectional marks, joiners, selectors, fillers, tags and line separators.
/// Newline and tab are not among them, carriage return is.
pub fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The text without hidden characters (see [`is_hidden`]); those that make up an emoji stay
/// where they do, and every line ends in `\n`.
///
/// For text from outside, before secrets are looked for in it: one with a hidden character
/// between its letters would not be found. Not for what [`neutralise`] and
/// [`neutralise_line`] return: the breaks they set are hidden characters too.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut before = '\0';
    for c in text.replace("\r\n", "\n").replace('\r', "\n").chars() {
        let in_emoji = matches!(c, '\u{200d}' | '\u{fe0f}') && before > '\u{203b}' && before != c;
        if in_emoji || !is_hidden(c) {
            out.push(c);
            before = c;
        }
    }
    Cow::Owned(out)
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

fn code_ranges(text: &str) -> Vec<Range<usize>> {
    let is_code = |event: &Event<'_>| matches!(event, Event::Code(_) | Event::Start(Tag::CodeBlock(_)));
    parts(text).filter(|(event, _)| is_code(event)).map(|(_, range)| range).collect()
}

/// Breaks what somebody else acts on: closing keywords, our trailer, our commands.
fn without_signals(text: &str) -> String {
    let closing =
        CLOSING.find_iter(text).filter(|m| REFERENCE.is_match(&text[m.end()..])).map(|m| m.start() + 1);
    let trailers = TRAILER.find_iter(text).map(|m| m.start() + "callboard-".len());
    let commands = COMMAND.find_iter(text).map(|m| m.end() - "callboard".len());
    let mut breaks: Vec<usize> = closing.chain(trailers).chain(commands).collect();
    breaks.sort_unstable();
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With the break made visible.
    fn shown(text: &str) -> String {
        neutralise(text, 10_000).replace(BREAK, "·")
    }

    fn line(text: &str) -> String {
        neutralise_line(text, 200).replace(BREAK, "·")
    }

    #[test]
    fn mentions_are_broken_and_addresses_stay() {
        assert_eq!(shown("thanks @octocat and @org/team!"), "thanks @·octocat and @·org/team!");
        assert_eq!(shown("_@octocat_ (@a) \\@b ö@c"), "_@·octocat_ (@·a) \\@·b ö@·c");
        assert_eq!(shown("mail mona@example.org, a @ b"), "mail mona@example.org, a @ b");
        assert_eq!(shown("`@Override`"), "`@·Override`");
        assert_eq!(
            shown("@\u{200d}octocat &#64;octocat &commat;octocat"),
            "@·octocat &amp;#64;octocat &amp;commat;octocat"
        );
        assert_eq!(
            shown("https://www.npmjs.com/package/@types/node"),
            "https://www.npmjs.com/package/%40types/node"
        );
        assert_eq!(shown("https://-a.b/@octocat"), "https://-a.b/%40octocat");
        assert_eq!(line("[a](https://a.b/@@x/_@y/z@w)"), "[a](https://a.b/@%40x/_%40y/z@w)");
        assert_eq!(
            shown("https://@octocat xhttps://a.b/@octocat"),
            "https://@·octocat xhttps://a.b/@·octocat"
        );
    }

    #[test]
    fn html_is_text() {
        assert_eq!(shown("<!-- callboard:run=1 --><b>x</b>"), "&lt;!-- callboard:run=1 -->&lt;b>x&lt;/b>");
        assert_eq!(
            shown("Vec<String> and `Vec<String>` and a < b, \\<b>"),
            "Vec&lt;String> and `Vec<·String>` and a < b, \\<·b>"
        );
        assert_eq!(shown("```\n<script>\n```"), "```\n<·script>\n```");
        assert_eq!(shown("<div>\n```\n<b>\n```\n"), "&lt;div>\n```\n<·b>\n```\n");
        assert_eq!(shown("<https://example.org/a>"), "&lt;https://example.org/a&gt;");
        assert_eq!(shown("<?php <!DOCTYPE"), "&lt;?php &lt;!DOCTYPE");
        assert_eq!(shown("a &lt; b &amp; c &copy;"), "a &lt; b &amp; c &amp;copy;");
    }

    #[test]
    fn closing_keywords_are_broken_and_references_stay() {
        assert_eq!(
            shown("Fixes #7, closes: o/r#8\nresolved GH-9"),
            "F·ixes #7, c·loses: o/r#8\nr·esolved GH-9"
        );
        assert_eq!(shown("close https://github.com/o/r/issues/3"), "c·lose https://github.com/o/r/issues/3");
        assert_eq!(
            shown("**fixed** [#7](u), fixes <https://h/o/r/pull/3>"),
            "**f·ixed** [#7](u), f·ixes &lt;https://h/o/r/pull/3&gt;"
        );
        assert_eq!(shown("fix fix/closes#7"), "f·ix fix/c·loses#7");
        // Markdown drops these backslashes.
        for reference in [
            r"owner/repo\#7",
            r"owner\/repo#7",
            r"my\-org\/a\_b\.c\#7",
            r"GH\-7",
            r"\#7",
            r"\[\#7\]",
            r"https\:\/\/github.com\/o\/r\/issues/3",
        ] {
            assert_eq!(shown(&format!("Fixes {reference}")), format!("F·ixes {reference}"));
            assert_eq!(line(&format!("fixes\\: {reference}")), format!("f·ixes\\: {reference}"));
        }
        assert_eq!(
            shown("See #7 and https://host/o/r/pull/3; this fixes the bug."),
            "See #7 and https://host/o/r/pull/3; this fixes the bug."
        );
    }

    #[test]
    fn our_own_signs_are_broken() {
        assert_eq!(shown("Callboard-Run: 1\ncallboard-run : 2"), "Callboard-·Run: 1\ncallboard-·run : 2");
        assert_eq!(
            shown("/callboard cancel\n> 1. /Callboard x\nsee /callboard"),
            "/·callboard cancel\n> 1. /·Callboard x\nsee /callboard"
        );
    }

    #[test]
    fn images_become_links() {
        assert_eq!(shown("![a](https://h/a.png) Oh!![b](c)"), "[a](https://h/a.png) Oh[b](c)");
        assert_eq!(shown("![r]\n\n[r]: https://h/a.png"), "[r]\n\n[r]: https://h/a.png");
        assert_eq!(shown("`vec![1, 2]`"), "`vec![1, 2]`");
        assert_eq!(shown("`vec![1]` [a](b)"), "`vec!·[1]` [a](b)");
    }

    #[test]
    fn hidden_characters_vanish_and_emoji_stay() {
        assert_eq!(shown("a\u{202e}b\u{0}c\u{feff}d\u{e0041}\r\ne\rf\tg\u{1b}"), "abcd\ne\nf\tg");
        assert_eq!(
            shown("👩\u{200d}💻 ⚠\u{fe0f} ❤\u{fe0f}\u{200d}🔥"),
            "👩\u{200d}💻 ⚠\u{fe0f} ❤\u{fe0f}\u{200d}🔥"
        );
    }

    #[test]
    fn a_secret_with_hidden_characters_is_whole_again() {
        assert_eq!(visible("gh\u{200b}p_\u{ad}se\u{200d}cr\u{fe0f}et\u{e0101}"), "ghp_secret");
        assert!(matches!(visible("a\n\tö 👩"), Cow::Borrowed(_)));
        for c in "\u{34f}\u{115f}\u{1160}\u{180e}\u{206a}\u{206f}\u{3164}\u{fe00}\u{ffa0}\u{e01ef}".chars() {
            assert_eq!(visible(&format!("a{c}b")), "ab");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_an_open_fence_is_closed() {
        assert_eq!(neutralise("äöü", 2), "äö… (cut)");
        assert_eq!(neutralise("äöü", 3), "äöü");
        assert_eq!(neutralise("~~~~rust\nfn main() {}\n~~~~\n", 12), "~~~~rust\nfn \n~~~~\n… (cut)");
        assert_eq!(neutralise("~~~\n~~~ \n", 8), "~~~\n~~~ \n… (cut)");
        assert_eq!(neutralise("```\ncode", 100), "```\ncode\n```\n");
        assert_eq!(neutralise("- a\n  ```\n  code", 100), "- a\n  ```\n  code");
        assert_eq!(neutralise("```\ncode\n```", 100), "```\ncode\n```");
    }

    #[test]
    fn a_line_stands_in_a_table() {
        assert_eq!(line(" a\n|b|\r\n`c`\t<b> @x fixes #7 "), "a ¦b¦ 'c' <·b> @·x f·ixes #7");
        assert_eq!(line("![a](b) &#64;x"), "!·[a](b) &·#64;x");
        assert_eq!(neutralise_line("abcdef", 4), "abc…");
        assert_eq!(neutralise_line("abcd", 4), "abcd");
        assert_eq!(neutralise_line("a", 0), "");
    }

    /// Text made of the pieces that matter, in any order.
    fn any_markdown() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "<",
            "<!--",
            "-->",
            "<b>",
            "</",
            "<?",
            ">",
            "@",
            "@octocat",
            "octocat",
            "/",
            "!",
            "![",
            "[",
            "](",
            ")",
            "]",
            "]:",
            "`",
            "``",
            "```",
            "~~~",
            "\n",
            "\n\n",
            "\r",
            " ",
            "    ",
            "- ",
            "> ",
            "1. ",
            "|",
            "&",
            "&#64;",
            "&lt;",
            "&lt",
            ";",
            "fixes",
            "Close",
            "fix",
            "es",
            ":",
            "#7",
            "GH-1",
            "o/r#2",
            "\\",
            "o\\/r\\#2",
            "GH\\-1",
            "https://a.bc/",
            "https://-a.b/@octocat",
            "https://a.bc/o/r/pull/3",
            "Callboard-Run:",
            "/callboard",
            "*",
            "_",
            "~",
            "\u{200b}",
            "\u{202e}",
            "\u{200d}",
            "\u{fe0f}",
            "👩",
            "é",
            "x",
            "\u{0}",
            "\t",
        ]);
        prop_oneof![1 => any::<String>(), 6 => proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())]
    }

    static MARKUP: LazyLock<Regex> = LazyLock::new(|| pattern(r"<[A-Za-z/!?]"));
    static MENTION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:^|[^A-Za-z0-9])@[A-Za-z0-9]"));
    static CLOSES: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)[\s:*_\[(]+(?:#\d|gh-\d|[a-z.-]+/[a-z.-]+#\d|https://\S{1,100}/\d)",
        )
    });

    /// A backslash that Markdown drops, with the sign that stays.
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\([[:punct:]])"));

    fn check_harmless(text: &str) -> Result<(), TestCaseError> {
        prop_assert!(!MARKUP.is_match(text), "{text:?}");
        prop_assert!(!CLOSES.is_match(text), "{text:?}");
        prop_assert!(!CLOSES.is_match(&ESCAPE.replace_all(text, "$1")), "{text:?}");
        prop_assert!(!MENTION.is_match(text), "{text:?}");
        prop_assert!(!TRAILER.is_match(text) && !COMMAND.is_match(text), "{text:?}");
        prop_assert!(
            !text.contains(|c| is_hidden(c) && !matches!(c, BREAK | '\u{200d}' | '\u{fe0f}')),
            "{text:?}"
        );
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever an agent writes, cut or whole.
        #[test]
        fn nothing_harmful_survives(text in any_markdown(), max_chars in 0..120_usize) {
            let out = neutralise(&text, max_chars);
            check_harmless(&out)?;
            prop_assert!(out.chars().count() <= max_chars + 50);
            // As the code host reads it: no images, no HTML, and what we write next is not code.
            for (event, range) in Parser::new(&format!("{out}\n\nafterwards")).into_offset_iter() {
                prop_assert!(!matches!(event, Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::Image { .. })), "{out:?}");
                if let Event::Start(Tag::CodeBlock(_)) = event { prop_assert!(range.end <= out.len() + 2, "{out:?}"); }
            }
        }

        /// The same for lines, which also stay one line and one cell.
        #[test]
        fn lines_stay_lines(text in any_markdown(), max_chars in 0..120_usize) {
            let out = neutralise_line(&text, max_chars);
            check_harmless(&out)?;
            prop_assert!(out.chars().count() <= max_chars);
            prop_assert!(!out.contains(['\n', '`', '|', '\t']));
            let whole = neutralise_line(&text, 100_000);
            prop_assert_eq!(neutralise_line(&whole, 100_000), whole);
        }

        /// Text that went through twice is what it was after the first time.
        #[test]
        fn twice_is_once(text in any_markdown()) {
            let once = neutralise(&text, 100_000);
            prop_assert_eq!(neutralise(&once, 100_000), once);
        }
    }
}
