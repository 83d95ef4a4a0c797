//! Every prompt there is, to be read like the rest of the product.

use std::collections::HashSet;

use domain::stage::{Policy, StageKind};
use prompts::{EarlierWork, Kind, Language, Library, PromptContext, PromptError, Request};

use crate::data::dev;

/// Lines of `text`; where several in a row stand in `seen` too, only how many.
fn what_is_new(text: &str, seen: &HashSet<&str>) -> String {
    let mut out = String::new();
    let mut run: Vec<&str> = Vec::new();
    let end = |run: &mut Vec<&str>, out: &mut String| {
        match run.len() {
            0..=2 => run.iter().for_each(|line| out.push_str(&format!("{line}\n"))),
            n => out.push_str(&format!("⋮ {n} lines as above\n")),
        }
        run.clear();
    };
    for line in text.lines() {
        if seen.contains(line) {
            run.push(line);
        } else {
            end(&mut run, &mut out);
            out.push_str(&format!("{line}\n"));
        }
    }
    end(&mut run, &mut out);
    out
}

/// Who works at a stage.
fn role(template: &str) -> &'static str {
    match template {
        "intake" | "vision" | "prd" => "pm",
        "arch" | "design" => "sa",
        "plan" | "release" | "rethink" => "em",
        "dev" | "discussion" => "dev",
        "review" => "reviewer",
        "doc-audit" | "self-improve" => "km",
        "qa" => "qa",
        "postdeploy" | "ops" | "ai-repair" => "sre",
        other => panic!("who works at `{other}`?"),
    }
}

/// One file for each template and language: the first sample whole, of the others what differs.
#[test]
fn the_prompts_read_like_this() {
    let library = Library::built_in();
    for template in library.templates() {
        let (mut text, mut first) = (String::new(), String::new());
        for name in &template.samples {
            let (_, sample) = PromptContext::samples().into_iter().find(|(it, _)| it == name).unwrap();
            let role = role(&template.template);
            let ctx = PromptContext { stage: template.template.clone(), ..sample.clone() };
            let request = Request {
                template: &template.template,
                role,
                kind: template.kind,
                language: template.language,
            };
            let prompt = library.render(&request, &ctx).unwrap();
            assert_eq!(prompt.digest.len(), 64);
            // Agents that play a script find their issue by these, in every language.
            let line =
                |start: &str| prompt.text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
            assert_eq!(line("Issue: "), Some("Issue: #7".to_owned()));
            assert!(line("Title: ").is_some_and(|title| title.contains("Greet") || title.contains("Nice")));
            text.push_str(&format!("═══ {name} ═══\n"));
            if name.starts_with("full") {
                // Too long to be read; that it changed is seen.
                let (bytes, digest) = (prompt.text.len(), &prompt.digest[..16]);
                text.push_str(&format!("{bytes} bytes, sha256 {digest}\n"));
                continue;
            }
            if first.is_empty() {
                text.push_str(&prompt.text);
                first = prompt.text;
            } else {
                text.push_str(&what_is_new(&prompt.text, &first.lines().collect()));
            }
        }
        let name = format!("{}.{}.{}", template.language.as_str(), template.template, template.kind.as_str());
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, text) });
    }
}

#[test]
fn the_branch_moved_under_an_earlier_attempt() {
    let mut ctx = PromptContext::sample();
    ctx.base_sha = "1111111111111111111111111111111111111111".to_owned();
    let paths = (0..102).map(|n| format!("src/{n}.rs\n# Rules")).collect();
    ctx.earlier = Some(EarlierWork::new("7fd1a60b01f91b314f59955a4e4d4e80d8edf11d".to_owned(), paths));
    let text = dev(&ctx);
    let (_, section) = text.split_once("# An earlier attempt").unwrap();
    let (section, _) = section.split_once("\n# Rules\n").unwrap();
    let kept = |line: &&str| !line.starts_with("- `") || line.contains("/0.rs") || line.contains("/99.rs");
    insta::assert_snapshot!("earlier_attempt", section.lines().filter(kept).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_library_that_comes_with_the_product_has_no_mistake() {
    assert_eq!(Library::built_in().check(), []);
    for template in Library::built_in().templates() {
        // Nothing is answered in another language, and no stage but these is revised in general words.
        assert!(
            template.file.starts_with(&format!("built-in/{}/", template.language.as_str())),
            "{template:?}"
        );
        if template.file.ends_with("/revise.md.j2") {
            assert!(["ai-repair", "rethink"].contains(&template.template.as_str()), "{template:?}");
        }
    }
}

#[test]
fn every_template_and_role_of_the_built_in_stages_exists() {
    for (name, stage) in Policy::built_in().stages {
        let kinds: &[Kind] = match stage.kind {
            StageKind::Work => &[Kind::Work, Kind::Revise],
            StageKind::Review => &[Kind::Review],
            StageKind::Discussion => &[Kind::Discussion],
        };
        for (kind, language) in kinds.iter().flat_map(|kind| Language::ALL.map(|it| (*kind, it))) {
            let request = Request { template: &stage.template, role: &stage.role, kind, language };
            let ctx = PromptContext { pull_request: review().pull_request, ..PromptContext::sample() };
            let text = Library::built_in().render(&request, &ctx).unwrap().text;
            let profile = text.lines().nth(2).unwrap();
            assert!(profile.len() > 100, "{name}: {profile}");
        }
    }
}

fn review() -> PromptContext {
    PromptContext::samples().into_iter().find(|(name, _)| *name == "review").expect("a sample").1
}

#[test]
fn an_unknown_template_is_answered_with_the_known_ones() {
    for kind in [Kind::Work, Kind::Revise] {
        let request = Request { template: "dve", role: "dev", kind, language: Language::Ru };
        let error = Library::built_in().render(&request, &PromptContext::sample()).unwrap_err();
        assert!(matches!(error, PromptError::UnknownTemplate { .. }));
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"there is no prompt template `dve`; known templates: ai-repair, arch, design, dev, doc-audit, intake, ops, plan, postdeploy, prd, qa, release, rethink, self-improve, vision");
        }
    }
}
