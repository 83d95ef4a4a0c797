//! Where the files of a library are, and what each is for.

use crate::language::{Kind, Language};

/// The folder of a project's own files, on its default branch.
pub const PROJECT_FOLDER: &str = ".callboard/prompts";

/// What every file ends with.
const ENDING: &str = ".md.j2";
/// Characters of a template's, block's or role's name.
const NAME_CHARS: usize = 40;

/// True for a path that is meant as a file of a library: others, as a README, are left alone.
pub fn is_template(path: &str) -> bool {
    path.ends_with(".j2")
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    /// A stage's template, by its name.
    Stage(&'a str, Kind),
    /// The one template of a kind; for [`Kind::Revise`] of stages that have none of their own.
    Kind(Kind),
    /// A part of templates.
    Block,
    /// Who the agent is told to be.
    Profile,
}

/// The language and meaning of a path below the library's folder.
///
/// # Errors
/// What a path has to look like.
pub(crate) fn read(path: &str) -> Result<(Language, Role<'_>), String> {
    let plain = |name: &str| {
        (1..=NAME_CHARS).contains(&name.len())
            && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    let (folder, rest) = path.split_once('/').unwrap_or_default();
    let language = Language::ALL.into_iter().find(|language| language.as_str() == folder);
    let role = rest.strip_suffix(ENDING).and_then(|name| {
        if let Some(name) = name.strip_prefix("blocks/") {
            return plain(name).then_some(Role::Block);
        }
        if let Some(name) = name.strip_prefix("roles/") {
            return plain(name).then_some(Role::Profile);
        }
        match name.split_once('.') {
            Some((name, "work")) if plain(name) => Some(Role::Stage(name, Kind::Work)),
            Some((name, "revise")) if plain(name) => Some(Role::Stage(name, Kind::Revise)),
            Some(_) => None,
            None => [Kind::Revise, Kind::Review, Kind::Discussion]
                .into_iter()
                .find(|kind| kind.as_str() == name)
                .map(Role::Kind),
        }
    });
    language.zip(role).ok_or_else(|| {
        format!(
            "is not where a prompt is looked for; expected en/ or ru/ and then <template>.work{ENDING}, \
             <template>.revise{ENDING}, revise{ENDING}, review{ENDING}, discussion{ENDING}, \
             blocks/<name>{ENDING} or roles/<role>{ENDING}; names are lower case letters, digits and \
             dashes, at most {NAME_CHARS}"
        )
    })
}

/// The path of a stage's template.
pub(crate) fn stage(template: &str, kind: Kind) -> String {
    format!("{template}.{}{ENDING}", kind.as_str())
}

/// The path of a kind's one template.
pub(crate) fn of_kind(kind: Kind) -> String {
    format!("{}{ENDING}", kind.as_str())
}

/// The path of a role's profile.
pub(crate) fn profile(role: &str) -> String {
    format!("roles/{role}{ENDING}")
}
