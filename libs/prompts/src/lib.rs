//! Prompts: what an agent is asked to do, rendered from a library of templates.
//!
//! The library comes with the product; a project replaces or adds files from its default branch.
//! Text written by people reaches a prompt only as data: cleaned of what cannot be seen, limited,
//! fenced by a delimiter that is random per run, and labelled with its author and right. A name
//! that a template uses and the context lacks is an error.

mod clean;
mod context;
mod error;
mod fit;
mod language;
mod layout;
mod library;
mod samples;
mod syntax;

pub use context::{
    AskedBy, CommentText, DocumentText, EarlierWork, IssueText, LeftOut, Limits, PromptContext,
    PullRequestText, RemarkText, ReviewText,
};
pub use error::{Problem, PromptError};
pub use fit::{BODY_LIMIT, DATA_LIMIT};
pub use language::{Kind, Language};
pub use layout::{PROJECT_FOLDER, is_template};
pub use library::{FILE_LIMIT, Library, PROMPT_LIMIT, RenderedPrompt, Request, Template};
