//! Commands in comments: `/callboard run dev`.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// What a comment asks the platform to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `/callboard run <stage>`, with `revise` behind it or without.
    Run {
        /// The stage.
        stage: String,
        /// True: its newest open pull request is gone on with.
        revise: bool,
    },
    /// `/callboard cancel`
    Cancel,
    /// `/callboard retry`
    Retry,
    /// `/callboard status`
    Status,
    /// `/callboard explain`
    Explain,
}

/// A line that begins like a command and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotACommand {
    /// It does not read.
    Unknown {
        /// The line, as it was written.
        said: String,
        /// The command it resembles.
        did_you_mean: Option<String>,
    },
    /// One comment, several commands: none of them is done.
    Several,
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run { stage, revise: false } => write!(f, "{PREFIX} run {stage}"),
            Self::Run { stage, revise: true } => write!(f, "{PREFIX} run {stage} revise"),
            Self::Cancel => write!(f, "{PREFIX} cancel"),
            Self::Retry => write!(f, "{PREFIX} retry"),
            Self::Status => write!(f, "{PREFIX} status"),
            Self::Explain => write!(f, "{PREFIX} explain"),
        }
    }
}

const PREFIX: &str = "/callboard";
/// How every command is written, for sentences.
pub const KNOWN: [&str; 6] = [
    "/callboard run <stage>",
    "/callboard run <stage> revise",
    "/callboard cancel",
    "/callboard retry",
    "/callboard status",
    "/callboard explain",
];

/// The command of a comment; `None` when no line is one. Only a line of a paragraph of its own
/// counts: what is quoted, listed, shown as code, put into a table or hidden in HTML is not said
/// to us.
pub fn parse(markdown: &str) -> Option<Result<Command, NotACommand>> {
    let mut lines = command_lines(markdown).into_iter();
    let first = lines.next()?;
    Some(if lines.next().is_some() { Err(NotACommand::Several) } else { read(first) })
}

fn command_lines(markdown: &str) -> Vec<&str> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_GFM;
    let (mut depth, mut paragraph, mut found) = (0_u32, false, Vec::new());
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    paragraph = matches!(tag, Tag::Paragraph);
                }
                depth += 1;
            }
            Event::End(tag) => {
                depth -= 1;
                paragraph &= !matches!(tag, TagEnd::Paragraph);
            }
            Event::Text(_) if depth == 1 && paragraph => found.extend(command_at(markdown, range.start)),
            Event::Text(_)
            | Event::Code(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::Html(_)
            | Event::InlineHtml(_)
            | Event::FootnoteReference(_)
            | Event::SoftBreak
            | Event::HardBreak
            | Event::Rule
            | Event::TaskListMarker(_) => {}
        }
    }
    found
}

/// The line of the source that begins at `start`, if it begins there and is addressed to us.
fn command_at(markdown: &str, start: usize) -> Option<&str> {
    let before = markdown[..start].rsplit('\n').next().unwrap_or_default();
    let line = markdown[start..].lines().next().unwrap_or_default().trim_end();
    let name = line.split_whitespace().next().unwrap_or_default();
    (before.bytes().all(|b| b == b' ') && name.eq_ignore_ascii_case(PREFIX)).then_some(line)
}

fn read(line: &str) -> Result<Command, NotACommand> {
    let lower = line.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().skip(1).collect();
    let stage = |name: &str| may_be_a_stage(name);
    let run = |name: &str, revise| Command::Run { stage: name.to_owned(), revise };
    match words.as_slice() {
        ["run", name] if stage(name) => Ok(run(name, false)),
        ["run", name, "revise"] if stage(name) => Ok(run(name, true)),
        ["cancel"] => Ok(Command::Cancel),
        ["retry"] => Ok(Command::Retry),
        ["status"] => Ok(Command::Status),
        ["explain"] => Ok(Command::Explain),
        other => {
            Err(NotACommand::Unknown { said: line.chars().take(200).collect(), did_you_mean: meant(other) })
        }
    }
}

/// A stage's name, as stages files may have it.
fn may_be_a_stage(name: &str) -> bool {
    name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The command that `words` resemble.
fn meant(words: &[&str]) -> Option<String> {
    let stage = |name: &&&str| may_be_a_stage(name);
    let (first, rest) = words.split_first()?;
    let near = |known: &str| crate::names::alike(first, known);
    let of = |rest: &[&str], tail: &str| {
        let stage = rest.first().filter(stage).copied().unwrap_or("<stage>");
        format!("{PREFIX} run {stage}{tail}")
    };
    if near("revise") {
        return Some(of(rest, " revise"));
    }
    if near("run") {
        let revise = rest.get(1).is_some_and(|word| crate::names::alike(word, "revise"));
        return Some(of(rest, if revise { " revise" } else { "" }));
    }
    let plain = [Command::Cancel, Command::Retry, Command::Status, Command::Explain].map(|c| c.to_string());
    plain.into_iter().find(|known| known.split(' ').nth(1).is_some_and(near))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stage: &str, revise: bool) -> Option<Result<Command, NotACommand>> {
        Some(Ok(Command::Run { stage: stage.to_owned(), revise }))
    }

    #[test]
    fn a_line_of_its_own_is_a_command() {
        assert_eq!(parse("/callboard run dev"), run("dev", false));
        assert_eq!(
            parse("Looks good.\r\n/Callboard  run doc-audit revise \r\nThanks!"),
            run("doc-audit", true)
        );
        assert_eq!(parse("Text\n\n   /callboard cancel\n\nText"), Some(Ok(Command::Cancel)));
        for command in [Command::Cancel, Command::Retry, Command::Status, Command::Explain] {
            assert_eq!(parse(&command.to_string()), Some(Ok(command)));
        }
    }

    /// None of these was said to us, however it looks.
    #[test]
    fn quotes_code_lists_tables_and_html_are_not_commands() {
        for text in [
            "",
            "/callboards run dev",
            "please /callboard run dev",
            "> /callboard run dev",
            "> quoted\n/callboard run dev",
            "`/callboard run dev`",
            "```\n/callboard run dev\n```",
            "~~~\n/callboard run dev",
            "    /callboard run dev",
            "- /callboard run dev",
            "- item\n/callboard run dev",
            "1. /callboard run dev",
            "- [ ] /callboard run dev",
            "# /callboard run dev",
            "/callboard run dev\n===",
            "| a |\n|---|\n| /callboard run dev |",
            "/callboard run dev | x\n---|---\n1 | 2",
            "<!-- /callboard run dev -->",
            "<!--\n/callboard run dev\n-->",
            "text <!--\n/callboard run dev\n--> text",
            "<details>\n/callboard run dev\n</details>",
            "<div>\n\n> /callboard run dev\n\n</div>",
            "\\/callboard run dev",
            "&#47;callboard run dev",
            "**/callboard run dev**",
            "[/callboard run dev](https://example.org)",
            "[^1]: /callboard run dev",
            "\u{200b}/callboard run dev",
            "\u{202e}/callboard run dev",
            "/call\u{200b}board run dev",
            "`code\n/callboard run dev\ncode`",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_read_is_answered_with_what_it_resembles() {
        let meant = |text: &str| match parse(text) {
            Some(Err(NotACommand::Unknown { did_you_mean, .. })) => did_you_mean.unwrap_or_default(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(meant("/callboard rnu dev"), "/callboard run dev");
        assert_eq!(meant("/callboard run"), "/callboard run <stage>");
        assert_eq!(meant("/callboard run dev now"), "/callboard run dev");
        assert_eq!(meant("/callboard run dev revize"), "/callboard run dev revise");
        assert_eq!(meant("/callboard revise dev"), "/callboard run dev revise");
        assert_eq!(meant("/callboard cancle"), "/callboard cancel");
        assert_eq!(meant("/callboard stauts please"), "/callboard status");
        assert_eq!(meant("/callboard run dev <!-- hidden -->"), "/callboard run dev");
        assert_eq!(meant("/callboard deploy everything"), "");
        assert_eq!(meant("/callboard"), "");
        assert_eq!(
            parse("/callboard run dev\n/callboard cancel"),
            Some(Err(NotACommand::Several)),
            "one of them would be done, and which is a guess"
        );
    }
}
