//! The part of Jinja that templates may use.
//!
//! Fuel limits how many steps a template takes, and the size of what it writes is limited; but one
//! step may double a text in memory. So whatever makes a bigger value of smaller ones is left out
//! of the language: operators, captured output, lists. A project's template can then not bring
//! the platform down, and what it includes is known without rendering it.

use minijinja::{
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
};

use crate::error;

/// Tags that are known.
const TAGS: [&str; 13] = [
    "if", "elif", "else", "endif", "for", "endfor", "with", "endwith", "set", "include", "extends", "block",
    "endblock",
];

/// A file that a template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Where, from 1.
    pub(crate) line: usize,
    /// The name as it is written, below the folder of the language.
    pub(crate) name: String,
}

/// A mistake, with its line.
pub(crate) type Mistake = (usize, String);

/// Lines are kept, a tag on a line of its own leaves none.
pub(crate) fn config() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .unwrap_or_default()
}

/// Checks a template; the files it names.
///
/// # Errors
/// The first thing that is not part of the language.
pub(crate) fn check(source: &str) -> Result<Vec<Reference>, Mistake> {
    let mut references = Vec::new();
    let mut part: Vec<Token<'_>> = Vec::new();
    for token in tokenize(source, false, config()) {
        let (token, span) = token.map_err(|e| (e.line().unwrap_or(1), error::words(&e)))?;
        let line = usize::from(span.start_line).max(1);
        match token {
            Token::TemplateData(_) => {}
            Token::VariableStart | Token::BlockStart => part.clear(),
            Token::VariableEnd => expression(&part).map_err(|problem| (line, problem))?,
            Token::BlockEnd => {
                let name = statement(&part).map_err(|problem| (line, problem))?;
                references.extend(name.map(|name| Reference { line, name }));
            }
            Token::Plus | Token::Mul | Token::Pow | Token::Tilde | Token::BracketOpen | Token::BraceOpen => {
                let problem = format!(
                    "{token} is not part of prompt templates: write texts one after the other, \
                     and `comments.0` for the first of a list"
                );
                return Err((line, problem));
            }
            Token::Ident(_)
            | Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_)
            | Token::Minus
            | Token::Div
            | Token::FloorDiv
            | Token::Mod
            | Token::Dot
            | Token::Comma
            | Token::Colon
            | Token::Assign
            | Token::Pipe
            | Token::Eq
            | Token::Ne
            | Token::Gt
            | Token::Gte
            | Token::Lt
            | Token::Lte
            | Token::BracketClose
            | Token::ParenOpen
            | Token::ParenClose
            | Token::BraceClose => part.push(token),
        }
    }
    Ok(references)
}

fn expression(part: &[Token<'_>]) -> Result<(), String> {
    match part {
        [Token::Ident("super"), Token::ParenOpen, Token::ParenClose] => Ok(()),
        other => without_captures(other),
    }
}

/// A statement; the file it names.
fn statement(part: &[Token<'_>]) -> Result<Option<String>, String> {
    let [Token::Ident(tag), rest @ ..] = part else { return Ok(None) };
    if !TAGS.contains(tag) {
        return Err(format!(
            "the tag `{tag}` is not part of prompt templates; there are {}",
            TAGS.join(", ")
        ));
    }
    without_captures(rest)?;
    match (*tag, rest) {
        ("include" | "extends", [Token::Str(name), ..]) => Ok(Some((*name).to_owned())),
        ("include" | "extends", _) => Err(format!("`{tag}` needs the name of a file in quotes")),
        ("set", rest) if !rest.iter().any(|token| matches!(token, Token::Assign)) => {
            Err("`set` needs a value: {% set name = value %}".to_owned())
        }
        _ => Ok(None),
    }
}

/// Nothing that keeps what was written as a value.
fn without_captures(part: &[Token<'_>]) -> Result<(), String> {
    const NAMES: [&str; 4] = ["super", "self", "caller", "recursive"];
    let mut after_dot = false;
    for token in part {
        if let Token::Ident(name) = token
            && !after_dot
            && NAMES.contains(name)
        {
            return Err(match *name {
                "super" => "`super` stands alone: {{ super() }}".to_owned(),
                name => format!("`{name}` is not part of prompt templates"),
            });
        }
        after_dot = matches!(token, Token::Dot);
    }
    Ok(())
}
