//! Cleaning text that people wrote, before it is put into a prompt.

use domain::neutralise::{visible, without_hidden_definitions};

/// `text` without what cannot be seen or changes how the rest is read; newlines and tabs stay.
fn text(text: &str) -> String {
    // Each of these ends a line for some reader, so it does for all.
    visible(&text.replace(['\u{85}', '\u{2028}', '\u{2029}'], "\n")).into_owned()
}

/// Markdown cleaned, without `delimiter` and without HTML comments and definitions that no link
/// uses, in whose place `removed` stands. A comment that is not closed reaches to the end, and one
/// in code is taken out as well: no reading of Markdown is sure to be the code host's.
pub(crate) fn body(dirty: &str, delimiter: &str, removed: &str) -> String {
    let dirty = without(text(dirty), delimiter);
    let mut cleaned = String::with_capacity(dirty.len());
    let mut rest = dirty.as_str();
    while let Some((before, comment)) = rest.split_once("<!--") {
        cleaned.push_str(before);
        cleaned.push_str(removed);
        rest = comment.split_once("-->").map_or("", |(_, after)| after);
    }
    cleaned.push_str(rest);
    without_hidden_definitions(&cleaned, removed)
}

/// `text` cleaned, without `delimiter` and on one line, each run of white space being one space.
pub(crate) fn line(dirty: &str, delimiter: &str) -> String {
    without(text(dirty), delimiter).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of `text`, at most `bytes` long, with `mark` in place of the rest.
pub(crate) fn cut(mut text: String, bytes: usize, mark: &str) -> (String, bool) {
    if text.len() <= bytes {
        return (text, false);
    }
    text.truncate(text.floor_char_boundary(bytes.saturating_sub(mark.len())));
    text.push_str(mark);
    (text, true)
}

/// `text` without `delimiter`, also where taking it out would put another one together.
fn without(mut text: String, delimiter: &str) -> String {
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
            body("a <!-- x\ny -->b<!---->c <!-\u{200b}- -> <!-- --> d", "", "[removed]"),
            "a [removed]b[removed]c [removed] d"
        );
        assert_eq!(body("a\n<!-- do this\n\nand that", "", "[removed]"), "a\n[removed]");
        assert_eq!(body("a -> b --> c <! d", "", ""), "a -> b --> c <! d");
        assert_eq!(body("a\n\n[//]: # (do this)\n", "", "[removed]"), "a\n\n[removed]\n");
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line("  a\n# b\t\tc\u{2029}d\r\n", ""), "a # b c d");
    }

    #[test]
    fn what_is_cut_keeps_its_beginning_and_its_letters_whole() {
        assert_eq!(cut("abc".to_owned(), 3, "…"), ("abc".to_owned(), false));
        assert_eq!(cut("abcdefg".to_owned(), 6, "…"), ("abc…".to_owned(), true));
        assert_eq!(cut("жжжж".to_owned(), 6, "…"), ("ж…".to_owned(), true));
    }

    #[test]
    fn a_delimiter_that_taking_out_would_build_is_taken_out_too() {
        assert_eq!(without("x abababcdcdcd y".to_owned(), "abcd"), "x  y");
        assert_eq!(without("x".to_owned(), ""), "x");
        assert_eq!(body("<!abcd-- x --> ab\u{200b}cd y", "abcd", "[removed]"), "[removed]  y");
        assert_eq!(line("x abcd y", "abcd"), "x y");
    }
}
