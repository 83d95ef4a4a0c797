//! `callboard explain`

use proto::admin::{ExplainRequest, Explanation};

use super::{
    Result,
    connection::Connection,
    output::{Format, plain, print},
};

fn words(explanations: &[Explanation]) -> String {
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
