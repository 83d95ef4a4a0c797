use std::borrow::Cow;

use proptest::prelude::*;

use super::{
    signals::{COMMAND, TRAILER},
    *,
};

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
    assert_eq!(shown("https://@octocat xhttps://a.b/@octocat"), "https://@·octocat xhttps://a.b/@·octocat");
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
    assert_eq!(shown("Fixes #7, closes: o/r#8\nresolved GH-9"), "F·ixes #7, c·loses: o/r#8\nr·esolved GH-9");
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
        "/·callboard cancel\n> 1. /·Callboard x\nsee /·callboard"
    );
}

#[test]
fn signs_of_others_are_broken() {
    assert_eq!(
        shown("/lgtm\n- [x] /approve now\n/usr/bin/x\n/tmp and/or"),
        "/·lgtm\n- [x] /·approve now\n/usr/bin/x\n/·tmp and/or"
    );
    assert_eq!(shown("\\/callboard /call**board** x/callboard"), "\\/·callboard /·call**board** x/callboard");
    assert_eq!(shown("fix**es** #7, [fixes](u) #8"), "f·ix**es** #7, [f·ixes](u) #8");
    assert_eq!(shown("Co-authored-by: a\nSigned-off-by : b"), "Co-·authored-by: a\nSigned-·off-by : b");
    assert_eq!(line("Add docs [skip ci]"), "Add docs [·skip ci]");
    assert_eq!(shown("> [!NOTE]\n> approved"), "> [·!NOTE]\n> approved");
    assert_eq!(shown("[^1]\n\n[^1]: below"), "[^1]\n\n[^1]·: below");
}

#[test]
fn headings_are_the_smallest() {
    assert_eq!(shown("# a\n\n```\n# code\n```\n> ## b"), "###### a\n\n```\n# code\n```\n> ###### b");
    assert_eq!(shown("Checked\n===\n\ntext\n- - -\n"), "Checked\n\n\ntext\n- - -\n");
}

#[test]
fn images_become_links() {
    assert_eq!(shown("![a](https://h/a.png) Oh!![b](c)"), "[a](https://h/a.png) Oh[b](c)");
    assert_eq!(shown("![r]\n\n[r]: https://h/a.png"), "[r]\n\n[r]·: https://h/a.png");
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
