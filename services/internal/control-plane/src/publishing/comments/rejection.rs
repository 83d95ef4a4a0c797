//! Why nothing was done, or something was undone.

use domain::decision::{Decided, Decision};

use super::phrases::name;

/// Why nothing was started. Rules and remedies are sentences of ours.
pub(in crate::publishing) fn rejection(decided: &Decided, mark: &str) -> String {
    let mut text = format!("{mark}\n**Callboard** · nothing was started\n\n{}\n", decided.rule);
    if !decided.remedy.is_empty() {
        text.push_str(&format!("\n**Next:** {}\n", decided.remedy));
    }
    if let Decision::Reject { need, .. } = &decided.decision
        && !need.is_empty()
    {
        let need: Vec<String> = need.iter().map(|label| name(label)).collect();
        text.push_str(&format!("\n{} stands here until somebody has answered that.\n", need.join(", ")));
    }
    text.push_str(&reason(decided));
    text
}

/// Why labels were put as our records have them.
#[cfg_attr(not(test), expect(dead_code, reason = "labels are not kept yet"))]
pub(in crate::publishing) fn put_back(decided: &Decided, mark: &str) -> String {
    let mut text = format!("{mark}\n**Callboard** · labels put right\n\n{}\n", decided.rule);
    if let Decision::KeepLabels { add, remove, .. } = &decided.decision {
        let put = add.iter().map(|label| format!("{} is back on", name(label)));
        let taken = remove.iter().map(|label| format!("{} is off again", name(label)));
        let what: Vec<String> = put.chain(taken).collect();
        text.push_str(&format!("\n{}.\n", what.join(", ")));
    }
    if !decided.remedy.is_empty() {
        text.push_str(&format!("\n**Next:** {}\n", decided.remedy));
    }
    text.push_str(&reason(decided));
    text
}

fn reason(decided: &Decided) -> String {
    format!("\n<sub>reason `{}` · `/callboard explain` tells more</sub>\n", decided.reason.code())
}
