//! The files of a library, and how a prompt is made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, LazyLock},
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value, filters, value::Serde,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    clean,
    context::PromptContext,
    error::{Problem, PromptError, innermost, words},
    fit::MIN_DELIMITER,
    language::{Kind, Language},
    layout::{self, PROJECT_FOLDER, Role},
    syntax::{self, Reference},
};

/// The files that come with the product: path and source.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Bytes of a prompt.
pub const PROMPT_LIMIT: usize = 512 * 1024;
/// Bytes of one file of a project.
pub const FILE_LIMIT: usize = 64 * 1024;
/// Files of a project.
const FILES_LIMIT: usize = 300;
/// Steps that a prompt may take.
const FUEL: u64 = 50_000;
/// How deep files may include each other, in the engine's own measure: 10 for each.
const DEPTH: usize = 120;
/// Where the engine keeps count of what was written.
const WRITTEN: &str = "written";

/// Stands for a file that cannot be read: using it is the error, having it is none.
const BROKEN: &str = "{{ this_file_is_broken }}";

/// A prompt, ready to be stored and given to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The prompt itself, Markdown; at most [`PROMPT_LIMIT`] bytes.
    pub text: String,
    /// SHA-256 of `text` in UTF-8, as lower case hex.
    pub digest: String,
}

impl RenderedPrompt {
    /// With its digest.
    pub fn of(text: String) -> Self {
        let digest = hex::encode(Sha256::digest(&text));
        Self { text, digest }
    }
}

/// Which prompt is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The stage's template; a review and a discussion have one each, whatever the stage.
    pub template: &'a str,
    /// Who the agent is told to be; a role without a profile is only named.
    pub role: &'a str,
    /// What the run is for.
    pub kind: Kind,
    /// In which language, as far as the library has it.
    pub language: Language,
}

/// A prompt that a library can make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Template {
    /// What stages name; for a review and a discussion the name of the kind.
    pub template: String,
    /// What it is for.
    pub kind: Kind,
    /// The language that was asked for.
    pub language: Language,
    /// The file that answers: in another language, or for other stages too, when there is no nearer one.
    pub file: String,
    /// The samples it is checked with.
    pub samples: Vec<&'static str>,
}

/// Templates, blocks and role profiles: the product's own, and over them a project's.
#[derive(Debug)]
pub struct Library {
    environment: Environment<'static>,
    /// All paths; true for those of the project.
    files: Arc<BTreeMap<String, bool>>,
    references: Vec<(String, Reference)>,
    broken: BTreeMap<String, Problem>,
    /// Files that belong to no library.
    strays: Vec<Problem>,
}

static BUILT_IN_LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::with_project_files(Vec::<(String, String)>::new()));

impl Library {
    /// What comes with the product.
    pub fn built_in() -> &'static Self {
        &BUILT_IN_LIBRARY
    }

    /// The same with a project's files, by their path below [`PROJECT_FOLDER`]: one with the path
    /// of ours takes its place. A mistake in one of them is told by [`Library::check`], and stops
    /// only the prompts that use it.
    pub fn with_project_files<I: IntoIterator<Item = (String, String)>>(files: I) -> Self {
        let mut sources: BTreeMap<String, (String, bool)> = BUILT_IN
            .iter()
            .map(|(path, source)| ((*path).to_owned(), ((*source).to_owned(), false)))
            .collect();
        let mut strays = Vec::new();
        for (count, (path, source)) in
            files.into_iter().filter(|(path, _)| layout::is_template(path)).enumerate()
        {
            let stray = if count >= FILES_LIMIT {
                Some(format!("is one file too many; a project may have {FILES_LIMIT}"))
            } else {
                layout::read(&path).err()
            };
            match stray {
                Some(problem) => {
                    let file = format!("{PROJECT_FOLDER}/{}", clean::line(&path, ""));
                    strays.push(Problem { file, line: None, problem });
                }
                None => drop(sources.insert(path, (source, true))),
            }
        }
        let names = Arc::new(sources.iter().map(|(path, (_, project))| (path.clone(), *project)).collect());
        let mut library = Self {
            environment: environment(Arc::clone(&names)),
            files: names,
            references: Vec::new(),
            broken: BTreeMap::new(),
            strays,
        };
        for (path, (source, _)) in sources {
            library.add(path, source);
        }
        library
    }

    fn add(&mut self, path: String, source: String) {
        let added = if source.len() > FILE_LIMIT {
            Err((None, format!("is longer than {FILE_LIMIT} bytes")))
        } else {
            syntax::check(&source).map_err(|(line, problem)| (Some(line), problem)).and_then(|references| {
                self.environment
                    .add_template_owned(path.clone(), source)
                    .map_err(|error| (error.line(), words(&error)))?;
                Ok(references)
            })
        };
        match added {
            Ok(references) => {
                self.references.extend(references.into_iter().map(|reference| (path.clone(), reference)));
            }
            Err((line, problem)) => {
                let problem = Problem { file: self.place(&path), line, problem };
                // Parsed by a test; using the path without a template would be an error all the same.
                drop(self.environment.add_template_owned(path.clone(), BROKEN));
                self.broken.insert(path, problem);
            }
        }
    }

    /// Renders a prompt. Texts of the context are made fit first ([`PromptContext::fitted`]); what
    /// the request says of role, kind and language holds in the context too.
    ///
    /// # Errors
    /// [`PromptError`]; its words may be shown to people.
    pub fn render(&self, request: &Request<'_>, ctx: &PromptContext) -> Result<RenderedPrompt, PromptError> {
        if ctx.delimiter.len() < MIN_DELIMITER || !ctx.delimiter.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PromptError::Delimiter);
        }
        let ctx = PromptContext { language: request.language, ..ctx.clone() }.fitted();
        let text = self.fill(request, ctx)?;
        Ok(RenderedPrompt::of(text))
    }

    /// The prompt of a context that is fit for it.
    fn fill(&self, request: &Request<'_>, fitted: PromptContext) -> Result<String, PromptError> {
        let path = self.find(request.template, request.kind, request.language).ok_or_else(|| {
            PromptError::UnknownTemplate {
                name: clean::line(request.template, ""),
                known: self.stages().join(", "),
            }
        })?;
        let ctx = PromptContext {
            role: clean::line(request.role, &fitted.delimiter),
            kind: request.kind,
            language: request.language,
            ..fitted
        };
        let role_profile = match resolve(&self.files, request.language, &layout::profile(request.role)) {
            Some(path) => self.text(&path, &ctx)?.trim().to_owned(),
            None => String::new(),
        };
        self.text(&path, &Named { ctx: &ctx, role_profile: &role_profile })
    }

    fn text<T: Serialize>(&self, path: &str, ctx: &T) -> Result<String, PromptError> {
        let mut written = Limited(Vec::new());
        let rendered = self
            .environment
            .get_template(path)
            .and_then(|template| template.render_captured_to(Serde(ctx), &mut written).map(drop));
        match rendered {
            Ok(()) => Ok(String::from_utf8_lossy(&written.0).into_owned()),
            Err(error) => Err(PromptError::Template(self.problem(path, &error))),
        }
    }

    fn problem(&self, path: &str, error: &minijinja::Error) -> Problem {
        let error = innermost(error);
        let path = error.name().unwrap_or(path);
        let missing = self.missing().find(|problem| {
            error.kind() == ErrorKind::TemplateNotFound
                && problem.file == self.place(path)
                && problem.line == error.line()
        });
        if let Some(missing) = missing {
            return missing;
        }
        match self.broken.get(path) {
            Some(problem) => problem.clone(),
            None => Problem { file: self.place(path), line: error.line(), problem: words(error) },
        }
    }

    /// Names of files that are not there.
    fn missing(&self) -> impl Iterator<Item = Problem> {
        let missing = |(path, Reference { line, name }): &(String, Reference)| {
            resolve(&self.files, language_of(path), name).is_none().then(|| Problem {
                file: self.place(path),
                line: Some(*line),
                problem: format!("there is no `{name}`, neither in the project nor built in"),
            })
        };
        self.references.iter().filter_map(missing)
    }

    /// Everything that is wrong with the library: all its templates, in all languages, rendered
    /// with all samples that fit them, and every name of a file in them.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems: BTreeSet<Problem> =
            self.strays.iter().chain(self.broken.values()).cloned().collect();
        problems.extend(self.missing());
        let templates = self.templates();
        for language in Language::ALL {
            for (name, sample) in PromptContext::samples() {
                let sample = PromptContext { language, ..sample }.fitted();
                let of_this =
                    |template: &&Template| template.language == language && template.samples.contains(&name);
                for template in templates.iter().filter(of_this) {
                    let request = Request {
                        template: &template.template,
                        role: &sample.role,
                        kind: template.kind,
                        language,
                    };
                    match self.fill(&request, sample.clone()) {
                        Ok(_) => {}
                        Err(PromptError::Template(problem)) => drop(problems.insert(problem)),
                        Err(error @ (PromptError::UnknownTemplate { .. } | PromptError::Delimiter)) => {
                            let problem = error.to_string();
                            problems.insert(Problem { file: template.file.clone(), line: None, problem });
                        }
                    }
                }
            }
        }
        problems.into_iter().collect()
    }

    /// The prompts there are, by stage template, kind and language.
    pub fn templates(&self) -> Vec<Template> {
        let mut wanted: Vec<(String, Kind)> = Vec::new();
        for stage in self.stages() {
            wanted.extend([Kind::Work, Kind::Revise].map(|kind| (stage.clone(), kind)));
        }
        wanted.extend([Kind::Review, Kind::Discussion].map(|kind| (kind.as_str().to_owned(), kind)));
        let samples = PromptContext::samples();
        let of = |kind: Kind| -> Vec<_> {
            let fits = |sample: &PromptContext| sample.pull_request.is_some() == kind.has_pull_request();
            samples.iter().filter(|(_, sample)| fits(sample)).map(|(name, _)| *name).collect()
        };
        wanted
            .into_iter()
            .flat_map(|(template, kind)| Language::ALL.map(|language| (template.clone(), kind, language)))
            .filter_map(|(template, kind, language)| {
                let file = self.place(&self.find(&template, kind, language)?);
                Some(Template { template, kind, language, file, samples: of(kind) })
            })
            .collect()
    }

    /// Names of all stage templates.
    fn stages(&self) -> Vec<String> {
        let name = |path: &String| match layout::read(path) {
            Ok((_, Role::Stage(name, Kind::Work))) => Some(name.to_owned()),
            Ok(_) | Err(_) => None,
        };
        self.files.keys().filter_map(name).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The file of a prompt.
    fn find(&self, template: &str, kind: Kind, language: Language) -> Option<String> {
        let generic = || resolve(&self.files, language, &layout::of_kind(kind));
        match kind {
            Kind::Review | Kind::Discussion => generic(),
            Kind::Work => resolve(&self.files, language, &layout::stage(template, kind)),
            Kind::Revise => {
                let work = resolve(&self.files, language, &layout::stage(template, Kind::Work))?;
                let revise = resolve(&self.files, language, &layout::stage(template, kind));
                let is_ours = |path: &String| self.files.get(path) == Some(&false);
                // Ours says how to revise what ours asked for, not what the project's asks for.
                revise.filter(|revise| is_ours(&work) || !is_ours(revise)).or_else(generic)
            }
        }
    }

    /// How a file is called for people.
    fn place(&self, path: &str) -> String {
        match self.files.get(path) {
            Some(true) => format!("{PROJECT_FOLDER}/{path}"),
            Some(false) | None => format!("built-in/{path}"),
        }
    }
}

/// The context of a whole prompt.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    ctx: &'a PromptContext,
    role_profile: &'a str,
}

/// The path of `name` in `language`, or else in English.
fn resolve(files: &BTreeMap<String, bool>, language: Language, name: &str) -> Option<String> {
    [language, Language::En]
        .into_iter()
        .map(|language| format!("{}/{name}", language.as_str()))
        .find(|path| files.contains_key(path))
}

fn language_of(path: &str) -> Language {
    layout::read(path).map(|(language, _)| language).unwrap_or_default()
}

fn environment(files: Arc<BTreeMap<String, bool>>) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_syntax(syntax::config());
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // Only for words: which name is undefined.
    environment.set_debug(true);
    environment.set_formatter(write);
    environment.set_path_join_callback(move |name, parent| {
        resolve(&files, language_of(parent), name).unwrap_or_else(|| name.to_owned()).into()
    });
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment
}

/// Writes a value, and stops at the one that is too much: there the line is known.
fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let before = state.get_temp(WRITTEN).and_then(|written| written.as_usize()).unwrap_or_default();
    let written = before.saturating_add(value.as_str().map_or(0, str::len));
    if written > PROMPT_LIMIT {
        return Err(minijinja::Error::from(ErrorKind::WriteFailure));
    }
    state.set_temp(WRITTEN, Value::from(written));
    minijinja::escape_formatter(out, state, value)
}

/// Takes as much as a prompt may have.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.0.len() + more.len() > PROMPT_LIMIT {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
