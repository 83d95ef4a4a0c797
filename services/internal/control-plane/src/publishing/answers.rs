//! What the platform answers on an issue besides the comments of runs. Marks are put before
//! these texts by whoever posts them.

use domain::{
    decision::{Decided, Looked, Start},
    neutralise::neutralise_line,
    stage::Stage,
};

use crate::{runs::Run, triggers::store::Explained};

/// Characters of a prompt that are shown.
const PROMPT_CHARS: usize = 40_000;

/// Labels were put back.
pub(crate) fn put_back(decided: &Decided) -> String {
    format!("**Callboard** · label put back\n\n{}\n\n{}\n", decided.rule, decided.remedy)
}

/// Where the runs of an issue are; newest first.
pub(crate) fn answer_status(runs: &[Run]) -> String {
    let mut text = "**Callboard** · status\n\n".to_owned();
    if runs.is_empty() {
        text.push_str("No run was asked for here yet.\n");
        return text;
    }
    text.push_str("| run | stage | state | |\n|---|---|---|---|\n");
    for run in runs {
        text.push_str(&format!(
            "| `{}` | `{}` | {} | {} |\n",
            run.id,
            run.stage,
            run.state,
            neutralise_line(&run.message, 200).replace('|', "\\|")
        ));
    }
    text
}

/// A rule that was looked at, in plain words.
fn looked(looked: &Looked) -> String {
    let sign = if looked.passed { "✓" } else { "✗" };
    let found = neutralise_line(&looked.found, 300);
    let colon = if found.is_empty() { "" } else { ": " };
    format!("- {sign} {}{colon}{found}\n", neutralise_line(&looked.rule, 200))
}

fn trace(rules: &[Looked]) -> String {
    rules.iter().map(looked).collect()
}

/// Why the last decision about an issue came out as it did.
pub(crate) fn answer_explain(last: Option<&Explained>) -> String {
    let Some(decision) = last else {
        return "**Callboard** · explanation\n\nNothing was decided here before.\n".to_owned();
    };
    let mut text = format!(
        "**Callboard** · explanation\n\n`{}` by `{}` at {}: **{}** (`{}`)\n\n{}\n",
        decision.subject,
        neutralise_line(decision.actor.as_deref().unwrap_or("nobody"), 60),
        decision.decided_at.format("%Y-%m-%d %H:%M UTC"),
        decision.decision,
        decision.reason,
        decision.rule,
    );
    if !decision.remedy.is_empty() {
        text.push_str(&format!("\n{}\n", decision.remedy));
    }
    if !decision.trace.is_empty() {
        text.push_str(&format!(
            "\n<details><summary>Every rule that was looked at</summary>\n\n{}\n</details>\n",
            trace(&decision.trace)
        ));
    }
    text
}

/// What a start would do; nothing is started. `prompt` is why there is none where that is so.
pub(crate) fn preview(
    rule: &str,
    rules: &[Looked],
    start: &Start,
    stage: &Stage,
    prompt: Result<&str, &str>,
) -> String {
    let list = |globs: &[String]| {
        if globs.is_empty() {
            return "nothing".to_owned();
        }
        globs.iter().map(|g| format!("`{}`", neutralise_line(g, 100))).collect::<Vec<_>>().join(", ")
    };
    let model = start.model.as_deref().or(stage.model.as_deref()).unwrap_or("the operator's");
    let reasoning = start.reasoning.or(stage.reasoning).map_or("the model's own", |r| r.as_str());
    let mut text = format!(
        "**Callboard** · preview of `{stage_name}` · nothing was started\n\n<details><summary>Decision, limits and prompt</summary>\n\n\
         {rule}\n\n{trace}\n| | |\n|---|---|\n| kind | {kind} |\n| role | `{role}` |\n| may write | {scope} |\n| time | {minutes} min |\n\
         | changeset | at most {files} files, {lines} lines, {bytes} bytes |\n| model | {model} |\n| reasoning | {reasoning} |\n\
         | tools | files and commands inside the sandbox, and the model; no other network |\n",
        stage_name = start.stage,
        trace = trace(rules),
        kind = start.kind.as_str(),
        role = neutralise_line(&stage.role, 60),
        scope = list(&stage.write_scope),
        minutes = stage.time_limit_minutes,
        files = stage.max_changeset_files,
        lines = stage.max_changeset_lines,
        bytes = stage.max_changeset_bytes,
        model = neutralise_line(model, 100),
    );
    match prompt {
        Ok(prompt) => {
            let shown: String = prompt.chars().take(PROMPT_CHARS).collect();
            let fence = fence(&shown);
            text.push_str(&format!("\n{fence}text\n{shown}\n{fence}\n"));
            if shown.len() < prompt.len() {
                text.push_str("\nThe prompt goes on; `callboard prompts render` shows all of it.\n");
            }
        }
        Err(why) => text.push_str(&format!("\nThe prompt cannot be shown: {}\n", neutralise_line(why, 500))),
    }
    text.push_str("\n</details>\n");
    text
}

/// A fence that the text cannot close.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_does_not_get_out_of_its_fence() {
        for (text, expected) in [("plain", "```"), ("a ``` b", "````"), ("`````", "``````")] {
            assert_eq!(fence(text), expected);
        }
    }
}
