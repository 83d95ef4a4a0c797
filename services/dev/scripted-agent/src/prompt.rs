//! What the scripted agent understands of a prompt.

/// The issue a prompt is about, as far as it can be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) number: u64,
    pub(crate) title: String,
}

/// Finds `Issue: #7` and `Title: …`, however they are decorated.
pub(crate) fn issue(prompt: &str) -> Issue {
    let value = |name: &str| {
        prompt.lines().find_map(|line| {
            let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
            let (key, value) = line.split_once(':')?;
            key.trim_end_matches(['*', '_', ' '])
                .eq_ignore_ascii_case(name)
                .then(|| value.trim_matches(['*', '_', ' ', '`']))
        })
    };
    let digits = |text: &str| -> Option<u64> {
        text.split(|c: char| !c.is_ascii_digit()).rfind(|digits| !digits.is_empty())?.parse().ok()
    };
    Issue {
        number: value("issue").and_then(digits).unwrap_or_default(),
        title: value("title").unwrap_or("an issue without a title").to_owned(),
    }
}

/// The content of the last ```` ```agent-script ```` block, also inside another fence or a
/// quotation: what was asked for last.
pub(crate) fn script(prompt: &str) -> Option<String> {
    let mut lines = prompt.lines();
    let mut last = None;
    while let Some(script) = next_script(&mut lines) {
        last = Some(script);
    }
    last
}

fn next_script<'p>(lines: &mut impl Iterator<Item = &'p str>) -> Option<String> {
    let (quotation, fence) = lines.by_ref().find_map(|line| {
        let start = line.find("```")?;
        let (before, rest) = line.split_at(start);
        let name = rest.trim_start_matches('`');
        let quoted = before.chars().all(|c| c == '>' || c.is_whitespace());
        (quoted && name.trim() == "agent-script")
            .then(|| (before.to_owned(), rest[..rest.len() - name.len()].to_owned()))
    })?;
    let content = lines
        .by_ref()
        // An editor may have dropped the spaces of an empty quoted line.
        .map(|line| line.strip_prefix(&quotation).unwrap_or(line.trim_start_matches(['>', ' '])))
        .take_while(|line| line.trim() != fence)
        .collect::<Vec<_>>();
    Some(content.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_issue() {
        let expected = Issue { number: 7, title: "Say: hello".into() };
        assert_eq!(issue("You are …\nIssue: #7\nTitle: Say: hello\n"), expected);
        assert_eq!(issue("- **Issue:** octocat/hello#7\n- **Title**: Say: hello"), expected);
        assert_eq!(issue("nothing").number, 0);
    }

    #[test]
    fn finds_a_script_inside_a_fence_with_a_delimiter() {
        let prompt = "Text:\n<<<8f3a\nPlease.\n\n```agent-script\n[{\"exit\":\n 3}]\n```\nmore\n8f3a>>>\n";
        assert_eq!(script(prompt).as_deref(), Some("[{\"exit\":\n 3}]"));
        let fenced = "~~~~8f3a\n````agent-script\n[]\n```\n````\n~~~~8f3a\n";
        assert_eq!(script(fenced).as_deref(), Some("[]\n```"));
        let two = "```agent-script\n[1]\n```\n\n> ```agent-script\n> [2]\n> ```\n";
        assert_eq!(script(two).as_deref(), Some("[2]"));
    }

    #[test]
    fn finds_a_quoted_script_and_no_other() {
        assert_eq!(
            script("> ```agent-script\n> [{\"hang\":true}]\n> ```\n").as_deref(),
            Some("[{\"hang\":true}]")
        );
        assert_eq!(script("use ```agent-script\n```json\n[]\n```\n"), None);
    }
}
