//! `callboard prompts …`

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use ::prompts::{Library, PROJECT_FOLDER, Problem, Template, is_template};
use clap::Subcommand;
use proto::admin::RenderPromptRequest;
use serde::Serialize;

use super::{
    CommandError, Result,
    connection::Connection,
    output::{Format, complain, plain, print, table},
};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum PromptsCommand {
    /// Renders every prompt with sample texts: what comes with the product and, over it, the
    /// project's own. Needs no running platform.
    Check {
        /// The project's clone; its prompts are in .callboard/prompts.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// The prompt a run would get now; nothing is started.
    Render {
        /// The issue.
        #[arg(long)]
        issue: u64,
        /// The stage.
        #[arg(long)]
        stage: String,
        /// owner/name; absent: the only one of the configuration.
        #[arg(long)]
        repository: Option<String>,
    },
}

/// What was checked, and what is wrong.
#[derive(Debug, Serialize)]
struct Report {
    templates: Vec<Template>,
    problems: Vec<Problem>,
}

impl PromptsCommand {
    pub(crate) async fn run(self, config: Option<&Config>, format: Format) -> Result<ExitCode> {
        match self {
            Self::Render { issue, stage, repository } => {
                let connection = Connection::open(config)?;
                let request =
                    RenderPromptRequest { repository: repository.unwrap_or_default(), issue, stage };
                let done = connection.client().render_prompt(request).await;
                let rendered = done.map_err(|s| connection.explain(&s))?.into_inner();
                // As it is: it is for reading, and for comparing byte by byte.
                print(format, &rendered, |rendered| rendered.prompt.clone())?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Check { dir } => {
                if !dir.is_dir() {
                    let dir = dir.display();
                    return Err(CommandError::Usage(format!(
                        "{dir} is not a folder; name a project's clone"
                    )));
                }
                if !dir.join(PROJECT_FOLDER).is_dir() {
                    let dir = dir.display();
                    complain(&format!(
                        "{dir} has no {PROJECT_FOLDER}: only the built-in prompts are checked"
                    ));
                }
                let report = check(&dir)?;
                print(format, &report, words)?;
                for problem in &report.problems {
                    complain(&plain(&problem.to_string()));
                }
                Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
        }
    }
}

fn words(report: &Report) -> String {
    let rows = report.templates.iter().map(|template| {
        vec![
            plain(&template.template),
            template.kind.as_str().to_owned(),
            template.language.as_str().to_owned(),
            template.samples.len().to_string(),
            plain(&template.file),
        ]
    });
    table(&["template", "kind", "language", "samples", "file"], rows)
}

fn check(dir: &Path) -> io::Result<Report> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    let folder = dir.join(PROJECT_FOLDER);
    if folder.is_dir() {
        read(&folder, "", &mut files, &mut problems)?;
    }
    files.sort();
    let library = Library::with_project_files(files);
    problems.extend(library.check());
    Ok(Report { templates: library.templates(), problems })
}

/// All templates below `folder`. Links are not followed: the platform does not, either.
fn read(
    folder: &Path,
    name: &str,
    files: &mut Vec<(String, String)>,
    problems: &mut Vec<Problem>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{name}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read(&entry.path(), &format!("{name}/"), files, problems)?;
        } else if is_template(&name) {
            let text = if kind.is_file() { String::from_utf8(fs::read(entry.path())?).ok() } else { None };
            match text {
                Some(text) => files.push((name, text)),
                None => problems.push(Problem {
                    file: format!("{PROJECT_FOLDER}/{name}"),
                    line: None,
                    problem: "is no file of text in UTF-8".to_owned(),
                }),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_s_own_prompts_are_checked_with_the_built_in_ones() {
        let clone = tempfile::tempdir().unwrap();
        let report = check(clone.path()).unwrap();
        assert_eq!(report.problems, []);
        let built_in = report.templates.len();

        let english = clone.path().join(PROJECT_FOLDER).join("en");
        fs::create_dir_all(english.join("blocks")).unwrap();
        fs::write(english.join("translate.work.md.j2"), "Translate.\n{{ isue.title }}\n").unwrap();
        fs::write(english.join("blocks/rules.md.j2"), [0xff, 0xfe]).unwrap();
        fs::write(english.join("README.md"), "How we write prompts.").unwrap();
        let report = check(clone.path()).unwrap();
        let said: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            said,
            [
                ".callboard/prompts/en/blocks/rules.md.j2: is no file of text in UTF-8",
                ".callboard/prompts/en/translate.work.md.j2:2: undefined value: `isue` is undefined",
            ]
        );
        // Work and revise, in both languages.
        assert_eq!(report.templates.len(), built_in + 4);
        assert!(
            words(&report).contains("translate     work        en        4        .callboard/prompts/en/")
        );
    }
}
