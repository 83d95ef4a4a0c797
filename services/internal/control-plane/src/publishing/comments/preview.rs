//! What a run would be, without starting it: the answer to `run:<stage>:preview`.

use domain::{decision::Decided, neutralise::neutralise_line, stage::Stage};

use super::{
    answers::rules_looked_at,
    phrases::{fenced, folded, name},
};

/// Characters of a prompt that are shown: the whole must fit into one comment.
const PROMPT_CHARS: usize = 50_000;

/// What would be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preview<'a> {
    pub(crate) decided: &'a Decided,
    pub(crate) stage: &'a str,
    pub(crate) definition: &'a Stage,
    /// The prompt, or why there is none.
    pub(crate) prompt: Result<&'a str, &'a str>,
    /// What the agent could use.
    pub(crate) tools: &'a [&'a str],
}

/// Decision, prompt, tools and limits; all but the decision is folded.
pub(crate) fn preview(preview: &Preview<'_>, mark: &str) -> String {
    let Preview { decided, stage, definition, prompt, tools } = *preview;
    let mut text = format!(
        "{mark}\n**Callboard** · preview of {} · nothing was started\n\nIt would start: {}\n",
        name(stage),
        decided.rule
    );
    text.push_str(&folded("Rules that were looked at", rules_looked_at(&decided.trace).trim_start()));
    text.push_str(&folded("Limits", &limits(definition)));
    let tools: String = tools.iter().map(|tool| format!("- {}\n", neutralise_line(tool, 200))).collect();
    text.push_str(&folded("Tools", if tools.is_empty() { "None." } else { &tools }));
    match prompt {
        Err(problem) => {
            text.push_str(&format!("\nIts prompt cannot be made: {}\n", neutralise_line(problem, 500)));
        }
        Ok(prompt) => {
            let all = prompt.chars().count();
            let shown: String = prompt.chars().take(PROMPT_CHARS).collect();
            let mut block = fenced(&shown);
            if all > PROMPT_CHARS {
                block.push_str(&format!("\n\n… and {} characters more.", all - PROMPT_CHARS));
            }
            text.push_str(&folded("Prompt", &block));
        }
    }
    text
}

fn limits(stage: &Stage) -> String {
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&format!("- {words}\n"));
    match stage.write_scope.as_slice() {
        [] => line("changes nothing".to_owned()),
        globs => {
            let globs: Vec<String> = globs.iter().map(|glob| name(glob)).collect();
            line(format!("may change {}", globs.join(", ")));
            line(format!(
                "at most {} files, {} lines, {} KiB",
                stage.max_changeset_files,
                stage.max_changeset_lines,
                stage.max_changeset_bytes / 1024
            ));
        }
    }
    line(format!("{} minutes for an attempt", stage.time_limit_minutes));
    if let Some(model) = &stage.model {
        line(format!("model {}", name(model)));
    }
    if let Some(reasoning) = stage.reasoning {
        line(format!("reasoning `{}`", reasoning.as_str()));
    }
    let pod = &stage.pod;
    let sizes = [
        (pod.cpu_millis, "thousandths of a processor"),
        (pod.memory_mib, "MiB of memory"),
        (pod.storage_mib, "MiB of files"),
    ];
    for (most, unit) in sizes {
        if let Some(most) = most {
            line(format!("at most {most} {unit}"));
        }
    }
    if let Some(image) = &pod.image {
        line(format!("image `{}`", neutralise_line(image, 200)));
    }
    for (labels, who) in [(&pod.node_selector, "nodes"), (&stage.worker_labels, "workers")] {
        if !labels.is_empty() {
            let labels: Vec<String> =
                labels.iter().map(|(key, value)| name(&format!("{key}={value}"))).collect();
            line(format!("only {who} with {}", labels.join(", ")));
        }
    }
    text
}
