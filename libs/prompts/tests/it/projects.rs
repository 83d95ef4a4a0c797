//! A project's own files over ours.

use std::time::Instant;

use prompts::{Kind, Language, Library, Problem, PromptContext, PromptError, Request};

use crate::data::{DEV, dev};

fn with(files: &[(&str, &str)]) -> Library {
    Library::with_project_files(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())))
}

fn problems(files: &[(&str, &str)]) -> String {
    with(files).check().iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

fn error(library: &Library, request: &Request<'_>) -> String {
    library.render(request, &PromptContext::sample()).expect_err("no prompt").to_string()
}

#[test]
fn a_file_with_our_path_takes_the_place_of_ours() {
    let block = with(&[("en/blocks/summary.md.j2", "Say it in three words.\n")]);
    let text = block.render(&DEV, &PromptContext::sample()).unwrap().text;
    assert!(text.contains("# At the end\n\nSay it in three words.\n"), "{text}");
    assert!(text.contains("- Work only in the current directory."), "the rest stays");

    let template = with(&[
        ("en/dev.work.md.j2", "Do #{{ issue.number }} as {{ role_profile }}"),
        ("en/roles/dev.md.j2", "a poet\n"),
    ]);
    assert_eq!(template.render(&DEV, &PromptContext::sample()).unwrap().text, "Do #7 as a poet");
    let russian = Request { language: Language::Ru, ..DEV };
    let text = template.render(&russian, &PromptContext::sample()).unwrap().text;
    assert!(!text.contains("a poet"), "another language is another file");
    assert_eq!(template.check(), []);
}

/// `run:translate` needs no code: a template, and what it does not say comes from us.
#[test]
fn a_stage_of_a_project_s_own() {
    let library = with(&[
        (
            "en/translate.work.md.j2",
            "{% extends \"blocks/frame.md.j2\" %}\n{% block ask %}\nTranslate what is new.\n{% endblock %}\n",
        ),
        ("README.md", "Not a template."),
    ]);
    assert_eq!(library.check(), []);
    let request =
        Request { template: "translate", role: "translator", kind: Kind::Work, language: Language::Ru };
    let text = library.render(&request, &PromptContext::sample()).unwrap().text;
    assert!(
        text.contains("in the role `translator`")
            && text.contains("# Task\n\nTranslate what is new.\n\n# Issue\n\nIssue: #7\n"),
        "{text}"
    );
    let (_, changes) = PromptContext::samples().into_iter().find(|(name, _)| *name == "changes").unwrap();
    let changes = PromptContext { stage: "translate".to_owned(), ..changes };
    let request = Request { kind: Kind::Revise, language: Language::En, ..request };
    let text = library.render(&request, &changes).unwrap().text;
    assert!(
        text.contains("Go on with the work of stage `translate`") && text.contains("This panics for"),
        "{text}"
    );
    let known = library
        .templates()
        .iter()
        .filter(|t| t.template == "translate")
        .map(|t| t.file.clone())
        .collect::<Vec<_>>();
    assert_eq!(
        known,
        [
            ".callboard/prompts/en/translate.work.md.j2",
            ".callboard/prompts/en/translate.work.md.j2",
            "built-in/en/revise.md.j2",
            "built-in/ru/revise.md.j2",
        ]
    );
}

/// Ours would revise a plan the project never asked for.
#[test]
fn a_stage_a_project_rewrote_is_not_revised_in_our_words() {
    let file = |library: &Library| {
        let of = |t: &prompts::Template| {
            t.template == "plan" && t.kind == Kind::Revise && t.language == Language::En
        };
        library.templates().into_iter().find(of).unwrap().file
    };
    assert_eq!(file(Library::built_in()), "built-in/en/plan.revise.md.j2");
    assert_eq!(file(&with(&[("en/plan.work.md.j2", "x")])), "built-in/en/revise.md.j2");
    let both = [("en/plan.work.md.j2", "x"), ("en/plan.revise.md.j2", "y")];
    assert_eq!(file(&with(&both)), ".callboard/prompts/en/plan.revise.md.j2");
}

#[test]
fn a_broken_file_stops_only_what_uses_it() {
    let library =
        with(&[("en/qa.work.md.j2", "fine so far\n{% if %}\n"), ("en/blocks/findings.md.j2", "{{ }}")]);
    assert_eq!(library.render(&DEV, &PromptContext::sample()).unwrap().text, dev(&PromptContext::sample()));
    insta::assert_snapshot!(error(&library, &Request { template: "qa", ..DEV }), @".callboard/prompts/en/qa.work.md.j2:2: syntax error: unexpected end of block");
    insta::assert_snapshot!(error(&library, &Request { kind: Kind::Review, ..DEV }), @".callboard/prompts/en/blocks/findings.md.j2:1: syntax error: unexpected end of variable block");
    let both: Vec<_> = library.check().iter().map(|problem| problem.file.clone()).collect();
    assert_eq!(both, [".callboard/prompts/en/blocks/findings.md.j2", ".callboard/prompts/en/qa.work.md.j2"]);
}

#[test]
fn mistakes_are_named_with_file_and_line() {
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "ok\n{{ absent }}")]), @".callboard/prompts/en/dev.work.md.j2:2: undefined value: `absent` is undefined");
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "ok\n{{ issue.absent }}")]), @".callboard/prompts/en/dev.work.md.j2:2: undefined value: `issue.absent` is undefined");
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "ok\n{% if absent %}{% endif %}")]), @".callboard/prompts/en/dev.work.md.j2:2: undefined value: `absent` is undefined");
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "ok\n\n{% include \"blocks/rulez.md.j2\" %}")]), @".callboard/prompts/en/dev.work.md.j2:3: there is no `blocks/rulez.md.j2`, neither in the project nor built in");
    // Also where no sample gets to.
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "{% if false %}{% extends \"blocks/rulez.md.j2\" %}{% endif %}")]), @".callboard/prompts/en/dev.work.md.j2:1: there is no `blocks/rulez.md.j2`, neither in the project nor built in");
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "{% set a = 1 %}\n{{ a|shout }}{{ shout(a) }}")]), @".callboard/prompts/en/dev.work.md.j2:2: unknown filter: filter shout is unknown");
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", "{% for c in comments %}\n{{ c.body.title() }}{% endfor %}")]), @".callboard/prompts/en/dev.work.md.j2:2: unknown method: string has no method named title");
    insta::assert_snapshot!(problems(&[("de/dev.work.md.j2", "Hallo")]), @".callboard/prompts/de/dev.work.md.j2: is not where a prompt is looked for; expected en/ or ru/ and then <template>.work.md.j2, <template>.revise.md.j2, revise.md.j2, review.md.j2, discussion.md.j2, blocks/<name>.md.j2 or roles/<role>.md.j2; names are lower case letters, digits and dashes, at most 40");
    insta::assert_snapshot!(problems(&[("en/dev.md.j2", "Hello")]), @".callboard/prompts/en/dev.md.j2: is not where a prompt is looked for; expected en/ or ru/ and then <template>.work.md.j2, <template>.revise.md.j2, revise.md.j2, review.md.j2, discussion.md.j2, blocks/<name>.md.j2 or roles/<role>.md.j2; names are lower case letters, digits and dashes, at most 40");
    let long = "x".repeat(64 * 1024 + 1);
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", &long)]), @".callboard/prompts/en/dev.work.md.j2: is longer than 65536 bytes");
}

/// A context may hold anything; an error goes to the issue and to logs.
#[test]
fn no_text_of_people_is_in_an_error() {
    for source in [
        "{% include issue.title %}",
        "{% include \"x\" %}{{ issue.title|nope }}",
        "{{ issue.title.nope() }}",
        "{{ issue.title() }}",
        "{{ -issue.title }}",
        "{{ issue.title - 1 }}",
        "{{ issue.title // comments }}",
        "{% for a, b in comments %}{% endfor %}",
        "{% for a in issue.number %}{% endfor %}",
        "{{ issue.title|length(issue.title) }}",
        "{% with a, b = issue.title %}{% endwith %}",
        "{{ issue.title is nope }}",
        "{{ issue|first(issue.title) }}",
    ] {
        let library = with(&[("en/dev.work.md.j2", source)]);
        let mut ctx = PromptContext::sample();
        ctx.issue.title = "hunter2".to_owned();
        let error = library.render(&DEV, &ctx).unwrap_err();
        assert!(matches!(&error, PromptError::Template(_)), "{source}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{source}: {error}");
    }
}

#[test]
fn an_over_long_prompt_is_refused_where_it_gets_too_long() {
    let twice = "{% for c in comments %}\n{{ c.body }}\n{{ c.body }}\n{{ c.body }}\n{% endfor %}";
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", twice)]), @".callboard/prompts/en/dev.work.md.j2:4: makes a prompt longer than 524288 bytes: say less, and no text of people twice");
    let raw = format!(
        "{}{}{{% endfor %}}{{% endfor %}}",
        "{% for a in issue.body %}{% for b in issue.body %}",
        "x".repeat(10_000)
    );
    insta::assert_snapshot!(problems(&[("en/dev.work.md.j2", &raw)]), @".callboard/prompts/en/dev.work.md.j2: makes a prompt longer than 524288 bytes: say less, and no text of people twice");
}

/// The platform renders what projects wrote, between the work of all other projects.
#[test]
fn no_template_takes_the_platform_down() {
    let started = Instant::now();
    let loops = "{% for a in run_id %}".repeat(9) + &"{% endfor %}".repeat(9);
    insta::assert_snapshot!(error(&with(&[("en/dev.work.md.j2", &loops)]), &DEV), @".callboard/prompts/en/dev.work.md.j2:1: takes too many steps: make its loops shorter");
    let itself = "a\n{% include \"dev.work.md.j2\" %}";
    insta::assert_snapshot!(error(&with(&[("en/dev.work.md.j2", itself)]), &DEV), @".callboard/prompts/en/dev.work.md.j2:2: files include each other too deeply: does one include itself?");
    let itself = "{% extends \"dev.work.md.j2\" %}";
    insta::assert_snapshot!(error(&with(&[("en/dev.work.md.j2", itself)]), &DEV), @".callboard/prompts/en/dev.work.md.j2:1: takes too many steps: make its loops shorter");
    let deep = "{% if issue %}".repeat(4000);
    insta::assert_snapshot!(error(&with(&[("en/dev.work.md.j2", &deep)]), &DEV), @".callboard/prompts/en/dev.work.md.j2:1: syntax error: template exceeds maximum recursion limits");
    let deep = format!("{{{{ {}1 }}}}", "(".repeat(60_000));
    insta::assert_snapshot!(error(&with(&[("en/dev.work.md.j2", &deep)]), &DEV), @".callboard/prompts/en/dev.work.md.j2:1: syntax error: template exceeds maximum recursion limits");
    // Each of these would double a text in memory with every step.
    for source in [
        "{% set a = issue.body ~ issue.body %}",
        "{% set a = issue.body + issue.body %}",
        "{% set a = issue.body * 1000000 %}",
        "{% set a = [issue, issue] %}",
        "{% set a = {\"b\": issue} %}",
        "{% set a %}{{ issue.body }}{{ issue.body }}{% endset %}",
        "{% filter upper %}x{% endfilter %}",
        "{% macro a(b) %}{{ b }}{% endmacro %}",
        "{% import \"blocks/rules.md.j2\" as a %}",
        "{% for a in comments recursive %}{% set b = loop(comments) %}{% endfor %}",
        "{% block a %}{% set b = super() %}{{ b }}{{ b }}{% endblock %}",
        "{% block a %}x{% endblock %}{% set b = self.a() %}",
        "{{ super()|upper }}",
        "{{ issue.body|replace(\"\", issue.body) }}",
        "{{ issue.body|indent(1000000000) }}",
        "{{ range(1000000) }}",
        "{{ namespace() }}",
        "{% do issue %}",
    ] {
        let problems = problems(&[("en/x.work.md.j2", source)]);
        assert!(problems.starts_with(".callboard/prompts/en/x.work.md.j2:1: "), "{source}: {problems}");
    }
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
}
