//! Characters nobody sees.

use std::borrow::Cow;

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
/// between its letters would not be found. Not for what [`super::neutralise`] and
/// [`super::neutralise_line`] return: the breaks they set are hidden characters too.
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
