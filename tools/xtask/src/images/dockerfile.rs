//! Reads our Dockerfiles, and refuses what it does not know: an image that is made without Docker
//! must not leave out silently what Docker would do.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// From one `FROM` to the next.
#[derive(Debug)]
pub(super) struct Stage {
    /// What it starts from; variables are replaced by their defaults.
    pub(super) from: String,
    /// What `COPY --from` calls it.
    pub(super) name: Option<String>,
    /// In their order.
    pub(super) instructions: Vec<(Line, Instruction)>,
}

/// Where an instruction starts, from 1.
pub(super) type Line = usize;

/// What a stage does, as far as our files do it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Commands joined by `&&`, word by word.
    Run(Vec<Vec<String>>),
    /// One file or folder.
    Copy {
        from: Option<String>,
        mode: Option<u32>,
        source: String,
        target: String,
    },
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    User(String),
    Workdir(String),
    Entrypoint(Vec<String>),
    Expose(Vec<String>),
}

/// The stages of a Dockerfile; at least one.
///
/// # Errors
/// Names the line that is not understood.
pub(super) fn read(text: &str) -> Result<Vec<Stage>> {
    let mut defaults = BTreeMap::new();
    let mut stages: Vec<Stage> = Vec::new();
    for (line, text) in logical_lines(text)? {
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let rest = rest.trim();
        let read = match (keyword, stages.last_mut()) {
            ("ARG", None) => pair(rest).map(|(name, value)| drop(defaults.insert(name, value))),
            ("FROM", _) => stage(rest, &defaults).map(|stage| stages.push(stage)),
            (_, None) => Err(anyhow::anyhow!("nothing but ARG comes before FROM")),
            (_, Some(stage)) => {
                instruction(keyword, rest).map(|instruction| stage.instructions.push((line, instruction)))
            }
        };
        read.with_context(|| format!("line {line}: `{text}`"))?;
    }
    if stages.is_empty() {
        bail!("there is no FROM");
    }
    Ok(stages)
}

/// Lines without comments, put together where a backslash goes on; with the number of the first.
fn logical_lines(text: &str) -> Result<Vec<(Line, String)>> {
    let mut lines = Vec::new();
    let mut open: Option<(Line, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (start, mut so_far) = open.take().unwrap_or((number + 1, String::new()));
        let goes_on = line.strip_suffix('\\');
        so_far.push_str(goes_on.unwrap_or(line).trim());
        if goes_on.is_some() {
            so_far.push(' ');
            open = Some((start, so_far));
        } else {
            lines.push((start, so_far));
        }
    }
    match open {
        None => Ok(lines),
        Some((line, _)) => bail!("line {line} goes on after the end of the file"),
    }
}

fn stage(rest: &str, defaults: &BTreeMap<String, String>) -> Result<Stage> {
    let words: Vec<_> = rest.split_whitespace().collect();
    let (from, name) = match words[..] {
        [from] => (from, None),
        [from, "AS", name] => (from, Some(name.to_owned())),
        _ => bail!("expected FROM IMAGE or FROM IMAGE AS NAME"),
    };
    let from = match from.strip_prefix("${").and_then(|name| name.strip_suffix('}')) {
        Some(variable) => defaults.get(variable).context("no ARG above gives that variable a value")?,
        None => from,
    };
    Ok(Stage { from: from.to_owned(), name, instructions: Vec::new() })
}

fn instruction(keyword: &str, rest: &str) -> Result<Instruction> {
    Ok(match keyword {
        "RUN" => {
            let words = words(rest)?;
            Instruction::Run(words.split(|word| word == "&&").map(<[String]>::to_vec).collect())
        }
        "COPY" => copy(rest)?,
        "ENV" => Instruction::Env(pairs(rest)?),
        "LABEL" => Instruction::Label(pairs(rest)?),
        "USER" => Instruction::User(rest.to_owned()),
        "WORKDIR" => Instruction::Workdir(rest.to_owned()),
        "ENTRYPOINT" => {
            Instruction::Entrypoint(serde_json::from_str(rest).context("expected a list, [\"PROGRAM\", …]")?)
        }
        "EXPOSE" => Instruction::Expose(words(rest)?),
        other => bail!("{other} is not known here"),
    })
}

fn copy(rest: &str) -> Result<Instruction> {
    let (mut from, mut mode) = (None, None);
    let mut paths = Vec::new();
    for word in words(rest)? {
        match word.strip_prefix("--").map(|option| option.split_once('=')) {
            None => paths.push(word),
            Some(Some(("from", stage))) => from = Some(stage.to_owned()),
            Some(Some(("chmod", octal))) => mode = Some(u32::from_str_radix(octal, 8)?),
            Some(_) => bail!("{word} is not known here"),
        }
    }
    match <[String; 2]>::try_from(paths) {
        Ok([source, target]) => Ok(Instruction::Copy { from, mode, source, target }),
        Err(_) => bail!("expected one source and one target"),
    }
}

fn pairs(rest: &str) -> Result<Vec<(String, String)>> {
    words(rest)?.iter().map(|word| pair(word)).collect()
}

fn pair(word: &str) -> Result<(String, String)> {
    let (name, value) = word.split_once('=').context("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Splits as a shell does where there are only words and quoted words. Everything else a shell
/// knows is refused, but for what has no meaning to us.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '$' | '`' | '|' | '<' | '>' | '\\') | (Some('"'), '$' | '`' | '\\') => {
                bail!("{character} is not known here")
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None | Some(_), _) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        bail!("a quote stays open");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_line_by_line() {
        let text = concat!(
            "# what it is\nARG BASE=ours:1\nFROM rust AS build\nRUN a \\\n  # why\n && b 'c d'\n",
            "FROM ${BASE}\nCOPY --from=build --chmod=0755 /x /y\nLABEL a=\"b c\" \\\n  d=e\n",
        );
        let stages = read(text).expect("read");
        assert_eq!((stages[0].from.as_str(), stages[0].name.as_deref()), ("rust", Some("build")));
        let run = vec![vec!["a".to_owned()], vec!["b".to_owned(), "c d".to_owned()]];
        assert_eq!(stages[0].instructions, [(4, Instruction::Run(run))]);
        assert_eq!((stages[1].from.as_str(), stages[1].name.as_deref()), ("ours:1", None));
        let copy = Instruction::Copy {
            from: Some("build".into()),
            mode: Some(0o755),
            source: "/x".into(),
            target: "/y".into(),
        };
        let labels = Instruction::Label(vec![("a".into(), "b c".into()), ("d".into(), "e".into())]);
        assert_eq!(stages[1].instructions, [(8, copy), (9, labels)]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_line() {
        let refused = |text: &str| format!("{:#}", read(text).expect_err("refused"));
        assert_eq!(refused("RUN a"), "line 1: `RUN a`: nothing but ARG comes before FROM");
        assert_eq!(refused("FROM a\n\nVOLUME /x"), "line 3: `VOLUME /x`: VOLUME is not known here");
        assert_eq!(refused("FROM a\nRUN a | b"), "line 2: `RUN a | b`: | is not known here");
        assert_eq!(
            refused("FROM a\nCOPY --chown=1 a b"),
            "line 2: `COPY --chown=1 a b`: --chown=1 is not known here"
        );
        assert_eq!(refused("FROM ${A}"), "line 1: `FROM ${A}`: no ARG above gives that variable a value");
    }
}
