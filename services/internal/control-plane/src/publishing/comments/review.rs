//! The summary of a review run: the body of the one review it writes.

use domain::{
    neutralise::{neutralise, neutralise_line},
    review::{ReviewFinding, Severity},
};

use forge::NewRemark;

use super::{
    MOST_CHARS, mark_of_review,
    phrases::{asked_by, name, summary},
};
use crate::{publishing::about::About, runs::Run};

/// Characters of the agent's summary.
const SUMMARY_CHARS: usize = 10_000;
/// Characters of one finding.
const FINDING_CHARS: usize = 4_000;

/// Counts, the agent's summary, and the findings that no line could carry. Approves nothing.
pub(in crate::publishing) fn review_body(
    run: &Run,
    about: &About,
    said: &str,
    all: &[ReviewFinding],
    without_line: &[&ReviewFinding],
) -> String {
    let mut text = format!(
        "{}\n**Callboard** · review by an agent · {}\n\n{}\n",
        mark_of_review(run.id),
        counts(all),
        summary(said, SUMMARY_CHARS)
    );
    let closing = format!(
        "\nThis is not an approval: a person with the right to approve decides.\n\n<sub>run `{}` · of `{}` · asked for by {}</sub>\n",
        run.id,
        run.base_sha.as_ref().map_or("?", |s| s.short()),
        asked_by(run, &about.asked, &about.policy.labels)
    );
    if !without_line.is_empty() {
        text.push_str("\n**Not on a line of the difference**\n\n");
    }
    let mut room = MOST_CHARS.saturating_sub(text.chars().count() + closing.chars().count() + 100);
    let mut left_out = 0;
    let mut by_weight = without_line.to_vec();
    by_weight.sort_by_key(|f| f.severity);
    for finding in by_weight {
        let entry = entry(finding);
        let chars = entry.chars().count();
        if left_out > 0 || chars > room {
            left_out += 1;
            continue;
        }
        room -= chars;
        text.push_str(&entry);
    }
    if left_out > 0 {
        text.push_str(&format!("- … and {left_out} more: `callboard run get {}`\n", run.id));
    }
    text.push_str(&closing);
    text
}

/// A finding as a remark on its line.
pub(in crate::publishing) fn remark(finding: &ReviewFinding) -> NewRemark {
    NewRemark {
        path: finding.path.clone(),
        line: finding.line,
        body: format!("**{}**: {}", finding.severity.as_str(), neutralise(&finding.body, FINDING_CHARS)),
    }
}

/// "2 blocking, 1 minor"
fn counts(all: &[ReviewFinding]) -> String {
    let of = |severity| all.iter().filter(|f| f.severity == severity).count();
    let counted: Vec<String> = Severity::ALL
        .into_iter()
        .filter(|severity| of(*severity) > 0)
        .map(|severity| format!("{} {}", of(severity), severity.as_str()))
        .collect();
    if counted.is_empty() { "no findings".to_owned() } else { counted.join(", ") }
}

fn entry(finding: &ReviewFinding) -> String {
    let place = match finding.line {
        Some(line) => format!("{}:{line}", neutralise_line(&finding.path, 200)),
        None => neutralise_line(&finding.path, 200),
    };
    // Indented, so that lists and fences of the finding stay inside its entry.
    let body = neutralise(finding.body.trim(), FINDING_CHARS).replace('\n', "\n  ");
    format!("- {}, {}: {body}\n", finding.severity.as_str(), name_of_place(&place))
}

fn name_of_place(place: &str) -> String {
    if place.is_empty() { name("?") } else { format!("`{place}`") }
}
