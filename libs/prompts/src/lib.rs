//! Prompts: what an agent is asked to do, rendered from a template.
//!
//! Text written by people reaches a prompt only as data: cleaned of what cannot be seen, fenced by
//! a delimiter that is random per run, and labelled with its author and right. Templates
//! are part of the program; a name they use that the context lacks is an error.

mod clean;
mod context;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};
use sha2::{Digest, Sha256};

pub use context::{CommentText, EarlierWork, IssueText, PromptContext};

/// The templates that come with the product: name and source.
const TEMPLATES: &[(&str, &str)] = &[("dev", include_str!("../templates/dev.md.j2"))];

/// The same, names only.
const NAMES: [&str; TEMPLATES.len()] = {
    let mut names = [""; TEMPLATES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TEMPLATES[at].0;
        at += 1;
    }
    names
};

/// The shortest delimiter that cannot be guessed: 64 bits as hex.
const MIN_DELIMITER: usize = 16;

/// A prompt, ready to be stored and given to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The prompt itself, Markdown.
    pub text: String,
    /// SHA-256 of `text` in UTF-8, as lower case hex.
    pub digest: String,
}

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
    /// The template does not parse, or uses a name the context lacks.
    #[error("the prompt template `{name}` cannot be rendered: {problem}")]
    Template {
        /// The template.
        name: String,
        /// What is wrong, with the line; never text from the context.
        problem: String,
    },
}

/// The names of all templates.
pub fn template_names() -> &'static [&'static str] {
    &NAMES
}

/// Renders `template` with `ctx`.
///
/// Texts are cleaned first: hidden characters ([`domain::neutralise::is_hidden`]) and the
/// delimiter are taken out of every text, HTML comments out of bodies, and all but bodies
/// become one line.
///
/// # Errors
/// [`PromptError`]; its words may be shown to people.
pub fn render(template: &str, ctx: &PromptContext) -> Result<RenderedPrompt, PromptError> {
    let Some((name, source)) = TEMPLATES.iter().find(|(name, _)| *name == template) else {
        return Err(PromptError::UnknownTemplate { name: clean::line(template), known: NAMES.join(", ") });
    };
    render_source(name, source, ctx)
}

fn render_source(name: &str, source: &str, ctx: &PromptContext) -> Result<RenderedPrompt, PromptError> {
    if ctx.delimiter.len() < MIN_DELIMITER || !ctx.delimiter.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(PromptError::Delimiter);
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let text = environment
        .add_template(name, source)
        .and_then(|()| environment.get_template(name))
        .and_then(|template| template.render(Serde(ctx.cleaned())))
        .map_err(|error| PromptError::Template { name: name.to_owned(), problem: error.to_string() })?;
    let digest = hex::encode(Sha256::digest(&text));
    Ok(RenderedPrompt { text, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undefined_name_is_an_error_that_names_the_template_and_the_line() {
        for source in ["ok\n{{ absent }}", "ok\n{{ issue.absent }}", "ok\n{% if absent %}{% endif %}"] {
            let error = render_source("odd", source, &PromptContext::sample()).unwrap_err().to_string();
            assert!(
                error.contains("`odd`") && error.contains("undefined") && error.contains("odd:2"),
                "{error}"
            );
        }
    }

    #[test]
    fn nothing_is_escaped() {
        let mut ctx = PromptContext::sample();
        ctx.issue.body = "a < b && \"c\"".to_owned();
        assert_eq!(render_source("x.html", "{{ issue.body }}", &ctx).unwrap().text, "a < b && \"c\"");
    }
}
