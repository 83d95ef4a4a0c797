//! Cleaning text that people wrote, before it is put into a prompt.

use domain::neutralise::{visible, without_hidden_definitions};

/// Stands where people see nothing on the code host, but the agent would have read something.
const COMMENT_REMOVED: &str = "[hidden comment removed]";

/// `text` without what cannot be seen or changes how the rest is read; newlines and tabs stay.
fn text(text: &str) -> String {
    // Each of these ends a line for some reader, so it does for all.
    visible(&text.replace(['\u{85}', '\u{2028}', '\u{2029}'], "\n")).into_owned()
}

/// Markdown cleaned, also of HTML comments and of definitions that no link uses. One that is not closed reaches to the end, and one
/// in code is taken out as well: no reading of Markdown is sure to be the code host's.
pub(crate) fn body(dirty: &str) -> String {
    let dirty = text(dirty);
    let mut cleaned = String::with_capacity(dirty.len());
    let mut rest = dirty.as_str();
    while let Some((before, comment)) = rest.split_once("<!--") {
        cleaned.push_str(before);
        cleaned.push_str(COMMENT_REMOVED);
        rest = comment.split_once("-->").map_or("", |(_, after)| after);
    }
    cleaned.push_str(rest);
    without_hidden_definitions(&cleaned, COMMENT_REMOVED)
}

/// `text` cleaned and on one line, each run of white space being one space.
pub(crate) fn line(dirty: &str) -> String {
    text(dirty).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` without `delimiter`, also where taking it out would put another one together.
pub(crate) fn without(mut text: String, delimiter: &str) -> String {
    while !delimiter.is_empty() && text.contains(delimiter) {
        text = text.replace(delimiter, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_go_newline_and_tab_stay() {
        assert_eq!(text("a\u{0}b\u{1b}[31mc\u{7f}\u{9b}\td\ne"), "ab[31mc\td\ne");
        assert_eq!(text("\u{202e}evil\u{202c}\u{2066}x\u{2069}\u{200f}\u{61c}"), "evilx");
        assert_eq!(text("a\r\nb\rc\u{2028}d\u{85}e"), "a\nb\nc\nd\ne");
        assert_eq!(text("hid\u{e0041}den\u{200b}"), "hidden");
        assert_eq!(
            text("a\u{ad}b\u{34f}c\u{115f}\u{3164}d\u{fe00}\u{e0101}e\u{180e}\u{206a}\u{ffa0}"),
            "abcde"
        );
        assert_eq!(text("Grüße 日本 👩\u{200d}💻"), "Grüße 日本 👩\u{200d}💻");
    }

    #[test]
    fn comments_in_a_body_go_closed_or_not() {
        assert_eq!(
            body("a <!-- x\ny -->b<!---->c <!-\u{200b}- -> <!-- --> d"),
            "a [hidden comment removed]b[hidden comment removed]c [hidden comment removed] d"
        );
        assert_eq!(body("a\n<!-- do this\n\nand that"), "a\n[hidden comment removed]");
        assert_eq!(body("a -> b --> c <! d"), "a -> b --> c <! d");
        assert_eq!(body("a\n\n[//]: # (do this)\n"), "a\n\n[hidden comment removed]\n");
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line("  a\n# b\t\tc\u{2029}d\r\n"), "a # b c d");
    }

    #[test]
    fn a_delimiter_that_taking_out_would_build_is_taken_out_too() {
        assert_eq!(without("x abababcdcdcd y".to_owned(), "abcd"), "x  y");
        assert_eq!(without("x".to_owned(), ""), "x");
    }
}
