//! What can be wrong with a prompt, in words that hold nothing of what people wrote.

use std::fmt;

use minijinja::ErrorKind;
use serde::Serialize;

use crate::{fit::MIN_DELIMITER, library::PROMPT_LIMIT};

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No template has this name.
    #[error("there is no prompt template `{name}`; known templates: {known}")]
    UnknownTemplate {
        /// The name that was asked for.
        name: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// The delimiter is not hex or could be guessed; a fence around nothing certain is none.
    #[error("the delimiter of a prompt has to be at least {MIN_DELIMITER} hex digits")]
    Delimiter,
    /// A file does not parse, uses a name the context lacks, or makes too long a prompt.
    #[error("{0}")]
    Template(Problem),
}

/// One mistake in one file of a library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file: `.callboard/prompts/…` of the project, or `built-in/…`.
    pub file: String,
    /// The line, from 1; absent when it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong; never text from a context.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

/// The error where it arose, not where that file was included.
pub(crate) fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut innermost = error;
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<minijinja::Error>() {
            innermost = error;
        }
        next = error.source();
    }
    innermost
}

/// What is wrong, without any value of the context: details are kept only where the engine makes
/// them of the template's own text.
pub(crate) fn words(error: &minijinja::Error) -> String {
    let own_text = matches!(
        error.kind(),
        ErrorKind::SyntaxError
            | ErrorKind::BadEscape
            | ErrorKind::UndefinedError
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
    );
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "takes too many steps: make its loops shorter".to_owned(),
        (ErrorKind::WriteFailure, _) => {
            format!("makes a prompt longer than {PROMPT_LIMIT} bytes: say less, and no text of people twice")
        }
        (ErrorKind::InvalidOperation, Some("recursion limit exceeded")) => {
            "files include each other too deeply: does one include itself?".to_owned()
        }
        (kind, Some(detail)) if own_text => format!("{kind}: {detail}"),
        (kind, Some(_) | None) => kind.to_string(),
    }
}
