//! Link reference definitions, `[label]: target "title"`: text that a code host shows to nobody.

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag};
use regex::Regex;

use super::pattern;

/// The label of one, with its colon, where a line begins; also of a footnote. More than a
/// careful reader of Markdown would take for one.
pub(super) static DEFINITION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^(?:[^\S\n]|[>*+-]|[0-9]+[.)])*\[(?s:[^\[\]\\]|\\.)+\]:"));
/// One whole definition where nothing else can stand: its label, its target, and its title.
static WHOLE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"\[((?s:[^\[\]\\]|\\.)+)\]:[^\S\n]*\n?[ \t>]*(<[^<>\n]*>|[^\s<]\S*)?",
        r#"(?s:[\s>]+(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\((?:[^()\\]|\\.)*\)))?"#,
    ))
});

/// The text with `removed` in place of definitions that no link uses; of those that are used,
/// label and target stay. What is left of such a text is what people see of it.
pub fn without_hidden_definitions(text: &str, removed: &str) -> String {
    let (used, gaps) = used_labels_and_gaps(text);
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for gap in gaps {
        for found in WHOLE.captures_iter(&text[gap.clone()]) {
            let Some(whole) = found.get(0) else { continue };
            let part = |group| found.get(group).map_or("", |part: regex::Match<'_>| part.as_str());
            out.push_str(&text[end..gap.start + whole.start()]);
            if used.contains(&folded(part(1))) {
                out.push_str(&format!("[{}]: {}", part(1), part(2)));
            } else {
                out.push_str(removed);
            }
            end = gap.start + whole.end();
        }
    }
    out.push_str(&text[end..]);
    out
}

/// Labels compare without case, and any white space in them is one space.
fn folded(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The labels that links use, and the parts of the text that no block shows: what stands
/// there is nothing but marks of lists and quotes, and definitions.
fn used_labels_and_gaps(text: &str) -> (HashSet<String>, Vec<Range<usize>>) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut used = HashSet::new();
    let mut gaps = Vec::new();
    let mut end = 0;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        // What holds other blocks shows nothing itself.
        if matches!(event, Event::Start(Tag::BlockQuote(_) | Tag::List(_) | Tag::Item) | Event::End(_)) {
            continue;
        }
        if let Event::Start(Tag::Link { link_type, id, .. } | Tag::Image { link_type, id, .. }) = &event
            && *link_type != LinkType::Inline
        {
            used.insert(folded(id));
        }
        if range.start > end {
            gaps.push(end..range.start);
        }
        end = end.max(range.end);
    }
    if text.len() > end {
        gaps.push(end..text.len());
    }
    (used, gaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_link_uses_is_removed() {
        let shown = |text: &str| without_hidden_definitions(text, "(removed)");
        assert_eq!(shown("a\n\n[//]: # (obey me)\n\nb"), "a\n\n(removed)\n\nb");
        assert_eq!(shown("[comment]: <> \"obey\"\n[comment]: <> 'again'\n\nb"), "(removed)\n(removed)\n\nb");
        assert_eq!(shown("> [x]: y\n> (obey\n> me)\n\n- [x]:\n  y\n\nb"), "> (removed)\n\n- (removed)\n\nb");
        assert_eq!(shown("[long\nlabel]: u 'ob\ney'"), "(removed)");
        // What people see stays as it is.
        for seen in
            ["see [docs](u) and `[a]: b`", "text\n[a]: b", "    [a]: b\n", "```\n[a]: b\n```", "- [ ] a\n- b"]
        {
            assert_eq!(shown(seen), seen);
        }
    }

    #[test]
    fn what_a_link_uses_stays_without_its_title() {
        let text =
            "See [the Docs] and [it][X].\n\n[the  docs]: https://h/a \"obey\"\n[x]: <https://h/b>\n\nb";
        assert_eq!(
            without_hidden_definitions(text, "(removed)"),
            "See [the Docs] and [it][X].\n\n[the  docs]: https://h/a\n[x]: <https://h/b>\n\nb"
        );
    }
}
