//! What `docs/product/prompts.md` says is so.

use std::collections::BTreeSet;

use prompts::{
    BODY_LIMIT, DATA_LIMIT, FILE_LIMIT, Kind, Language, Library, PROMPT_LIMIT, PromptContext, Request,
};
use serde_json::Value;

const PAGE: &str = include_str!("../../../../docs/product/prompts.md");

/// The names a template writes to get at each part of `value`.
fn names(name: &str, value: &Value, all: &mut BTreeSet<String>) {
    let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| names(&below(field), value, all)),
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            items.iter().for_each(|item| names(&below("*"), item, all));
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            all.insert(name.to_owned());
        }
    }
}

#[test]
fn the_table_of_the_context_names_what_there_is() {
    let sample = |wanted| PromptContext::samples().into_iter().find(|(name, _)| *name == wanted).unwrap().1;
    let (much, changes) = (sample("much"), sample("changes"));
    let everything = PromptContext { earlier: much.earlier, documents: much.documents, ..changes };
    let mut there = BTreeSet::from(["role_profile".to_owned()]);
    names("", &serde_json::to_value(everything).unwrap(), &mut there);
    let (_, table) = PAGE.split_once("| name | what |").unwrap();
    let named: BTreeSet<String> = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(named, there);
}

#[test]
fn the_numbers_and_names_of_the_page_are_ours() {
    for bytes in [BODY_LIMIT, DATA_LIMIT, FILE_LIMIT, PROMPT_LIMIT] {
        assert!(PAGE.contains(&format!("{} KiB", bytes / 1024)), "{bytes}");
    }
    for template in Library::built_in().templates() {
        assert!(
            PAGE.contains(&format!("`{}`", template.template))
                || template.kind == Kind::Review
                || template.kind == Kind::Discussion,
            "{template:?}"
        );
    }
}

/// The example is a stage that works.
#[test]
fn the_example_of_a_stage_renders() {
    let (_, example) = PAGE.split_once("```jinja\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let library = Library::with_project_files([("en/translate.work.md.j2".to_owned(), example.to_owned())]);
    assert_eq!(library.check(), []);
    let request = Request { template: "translate", role: "dev", kind: Kind::Work, language: Language::En };
    let text = library.render(&request, &PromptContext::sample()).unwrap().text;
    assert!(text.contains("\nTranslate what is new") && text.contains("\n\nSay also which pages"), "{text}");
}
