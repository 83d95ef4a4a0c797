//! Pages that are made of the rules themselves, so that they cannot drift from them.

use std::{fmt::Write, path::Path};

use domain::stage::{FIELDS, Field, Holds, Labels, Policy, Progress, StageKind, schema};

/// Compares a page with what it should say; with `CALLBOARD_DOCS=write` it is written instead.
/// Between the marks `generated` only, where the page has them.
pub(crate) fn keep(page: &str, content: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/product").join(page);
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    let (begin, end) = ("<!-- generated: begin -->\n", "<!-- generated: end -->");
    let after = match (before.split_once(begin), before.split_once(end)) {
        (Some((head, _)), Some((_, tail))) => format!("{head}{begin}\n{content}\n{end}{tail}"),
        _ => content.to_owned(),
    };
    if std::env::var("CALLBOARD_DOCS").is_ok_and(|wish| wish == "write") {
        std::fs::write(&file, after).expect("the page can be written");
    } else {
        assert!(before == after, "docs/product/{page} is not what the rules say; run `cargo xtask docs`");
    }
}

#[test]
fn generated_docs_of_the_schema() {
    keep("stages.schema.json", &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"));
}

#[test]
fn generated_docs_of_stages() {
    let policy = Policy::built_in();
    let mut page = String::from(
        "### Fields of a stage\n\n| field | holds | meaning | without it | the operator's ceiling |\n|---|---|---|---|---|\n",
    );
    rows(&mut page, FIELDS, "", "required in a stage of your own");
    page.push_str("\n### The stages that come with the product\n\n| started by | role | what it does | may change | minutes | asks for | offers |\n|---|---|---|---|---|---|---|\n");
    for (name, stage) in &policy.stages {
        let label = match stage.kind {
            StageKind::Work if stage.revise => {
                format!("`{}`, `{}`", policy.labels.run_label(name), policy.labels.revise_label(name))
            }
            StageKind::Work => format!("`{}`", policy.labels.run_label(name)),
            StageKind::Review => format!("`{}` on a pull request", policy.labels.need_label("reviewer")),
            StageKind::Discussion => format!("`{}` on an issue", policy.labels.discussion),
        };
        let scope =
            if stage.write_scope.is_empty() { "nothing".to_owned() } else { code(&stage.write_scope) };
        let mut asks: Vec<String> = stage
            .requires
            .iter()
            .map(|r| {
                let is = match r.is {
                    Progress::Published => "published",
                    Progress::Approved => "approved",
                    Progress::Merged => "merged",
                };
                format!("`{}` {is}", r.stage)
            })
            .collect();
        asks.push(format!("{} permission", stage.start));
        writeln!(
            page,
            "| {label} | `{}` | {} | {scope} | {} | {} | {} |",
            stage.role,
            stage.description,
            stage.time_limit_minutes,
            asks.join(", "),
            code(&stage.next)
        )
        .unwrap();
    }
    page.push_str("\n### Paths\n\n| path | stages |\n|---|---|\n");
    for (name, stages) in &policy.profiles {
        writeln!(page, "| `{name}` | {} |", stages.join(" → ")).unwrap();
    }
    let Labels { run, revise, preview, state, need, discussion, model, reasoning } = &policy.labels;
    page.push_str("\n### Names of labels\n\n| `labels:` | without it |\n|---|---|\n");
    for (key, value) in [
        ("run", run),
        ("revise", revise),
        ("preview", preview),
        ("state", state),
        ("need", need),
        ("discussion", discussion),
        ("model", model),
        ("reasoning", reasoning),
    ] {
        writeln!(page, "| `{key}` | `{value}` |").unwrap();
    }
    keep("stages.md", &page);
}

/// One row for each field, and those inside it below it.
fn rows(page: &mut String, fields: &[Field], of: &str, required: &str) {
    for field in fields {
        let Field { name, holds, meaning, default, ceiling } = field;
        let default = if default.is_empty() { required } else { default };
        let expected = holds.expected();
        let ceiling = ceiling.unwrap_or("–");
        writeln!(page, "| `{of}{name}` | {expected} | {meaning} | {default} | {ceiling} |")
            .expect("text is written");
        match holds {
            Holds::Fields(inside) => rows(page, inside, &format!("{of}{name}."), "required"),
            Holds::Each(inside) => rows(page, inside, &format!("{of}{name}[]."), "required"),
            Holds::Text(_)
            | Holds::Whole(..)
            | Holds::OneOf(_)
            | Holds::Switch
            | Holds::Globs
            | Holds::Stages
            | Holds::Requirements
            | Holds::LabelKey
            | Holds::LabelValue
            | Holds::Labels
            | Holds::Image => {}
        }
    }
}

fn code(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
