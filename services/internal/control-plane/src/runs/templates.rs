//! The prompt templates of a project: its own files over ours.

use domain::names::{CommitSha, RepositoryName};
use prompts::{Library, PROJECT_FOLDER, is_template};

use super::prepare::{NotPrepared, of_forge};
use crate::App;

/// The library at a commit of the default branch. A file that does not read as text stays out:
/// what uses it then says which it is.
pub(super) async fn of_project(
    app: &App,
    repository: &RepositoryName,
    at: &CommitSha,
) -> Result<Library, NotPrepared> {
    let listed = app.forge.files_below(repository, PROJECT_FOLDER, at).await;
    let listed = listed.map_err(|e| of_forge("The project's prompts cannot be read", &e))?;
    let mut files = Vec::new();
    for path in listed {
        let name = path.strip_prefix(PROJECT_FOLDER).and_then(|rest| rest.strip_prefix('/'));
        let Some(name) = name.filter(|name| is_template(name)) else { continue };
        let text = app.forge.file(repository, &path, at).await;
        let text = text.map_err(|e| of_forge("The project's prompts cannot be read", &e))?;
        files.push((name.to_owned(), String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()));
    }
    Ok(Library::with_project_files(files))
}
