//! Cleaning text that people wrote, before it is put into a prompt.

/// `text` without what cannot be seen or changes how the rest is read; newlines and tabs stay.
pub(crate) fn text(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            // Each of these ends a line for some reader, so it does for all.
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => cleaned.push('\n'),
            '\n' | '\t' => cleaned.push(character),
            _ if character.is_control() || is_bidi(character) || is_invisible(character) => {}
            _ => cleaned.push(character),
        }
    }
    cleaned
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

fn is_bidi(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters that only a machine reads: zero-width space, byte order mark, and the tag and
/// selector block that can carry a hidden message. Joiners stay, emoji and scripts need them.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
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
        assert_eq!(text("Grüße 日本 👩\u{200d}💻"), "Grüße 日本 👩\u{200d}💻");
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
