//! `callboard explain`

use proto::admin::{ExplainRequest, Explanation, Looked};

use super::{
    Result,
    connection::Connection,
    output::{Format, plain, print},
};

/// Every rule that was looked at, a line each.
fn trace(rules: &[Looked]) -> String {
    rules
        .iter()
        .map(|looked| {
            let sign = if looked.passed { "✓" } else { "✗" };
            let colon = if looked.found.is_empty() { "" } else { ": " };
            format!("\n    {sign} {}{colon}{}", plain(&looked.rule), plain(&looked.found))
        })
        .collect()
}

pub(super) fn words(explanations: &[Explanation]) -> String {
    let one = |e: &Explanation| {
        let mut text = format!(
            "{}  {}  {}\n  {} ({})\n  {}",
            e.at,
            e.kind,
            plain(&e.subject),
            e.outcome,
            e.reason,
            plain(&e.rule)
        );
        for (name, value) in [("next", &e.remedy), ("run", &e.run_id), ("delivery", &e.delivery_id)] {
            if !value.is_empty() {
                text.push_str(&format!("\n  {name}: {}", plain(value)));
            }
        }
        text.push_str(&trace(&e.trace));
        text
    };
    explanations.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

pub(crate) async fn explain(connection: &Connection, subject: &str, format: Format) -> Result<()> {
    let request = ExplainRequest { subject: subject.to_owned() };
    let found = connection
        .client()
        .explain(request)
        .await
        .map_err(|s| connection.explain(&s))?
        .into_inner()
        .explanations;
    print(format, &found, |found| words(found))
}
