//! `callboard audit …`

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use proto::admin::{AuditEvent, EventsRequest, VerifyAuditRequest, VerifyAuditResponse};
use serde::Serialize;

use super::{
    Result,
    connection::Connection,
    output::{Format, line, plain, print},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Is the log what was sealed? Names what was changed, deleted or added; exit code 1 then.
    Verify {
        /// Only this project's chain.
        #[arg(long)]
        project: Option<String>,
    },
    /// Writes the log to standard output, in the order of its sequence numbers.
    Export {
        /// Only this project's events.
        #[arg(long)]
        project: Option<String>,
        /// Only events after this sequence number.
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// How events are written.
        #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
        format: ExportFormat,
        /// Go on with events to come.
        #[arg(long, short)]
        follow: bool,
    },
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A JSON object per line.
    Jsonl,
    /// RFC 4180, with a header. What a spreadsheet would take for a formula has a ' before it.
    Csv,
}

fn verdict(answer: &VerifyAuditResponse) -> String {
    let mut out = Vec::new();
    for chain in &answer.chains {
        let checkpoint = match chain.checkpoint_at.as_str() {
            "" => "no checkpoint yet".to_owned(),
            at => format!("checkpoint {at}"),
        };
        out.push(format!(
            "{}: {} events under {} seals, up to sequence {}, head {}, {checkpoint}",
            plain(&chain.name),
            chain.events,
            chain.seals,
            chain.sequence,
            chain.hash
        ));
    }
    if answer.unsealed > 0 {
        out.push(format!("{} events wait for their number and are not covered yet", answer.unsealed));
    }
    out.extend(answer.problems.iter().map(|problem| format!("✗ {}", plain(problem))));
    if answer.more_problems > 0 {
        out.push(format!("✗ … and {} more", answer.more_problems));
    }
    if answer.problems.is_empty() {
        out.push("✓ The log is what was sealed.".to_owned());
    } else {
        out.push(
            "The log is not what was sealed. Keep this database as it is, and compare it with a backup."
                .to_owned(),
        );
    }
    out.join("\n")
}

/// An event as it is exported.
#[derive(Serialize)]
struct Line<'a> {
    sequence: i64,
    id: &'a str,
    at: &'a str,
    project: Option<&'a str>,
    run_id: Option<&'a str>,
    actor: &'a str,
    action: &'a str,
    subject: &'a str,
    text: &'a str,
    detail: serde_json::Value,
    trace_id: Option<&'a str>,
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn json(event: &AuditEvent) -> Result<String> {
    Ok(serde_json::to_string(&Line {
        sequence: event.sequence,
        id: &event.id,
        at: &event.at,
        project: given(&event.project),
        run_id: given(&event.run_id),
        actor: &event.actor,
        action: &event.action,
        subject: &event.subject,
        text: &event.text,
        detail: serde_json::from_str(&event.detail)?,
        trace_id: given(&event.trace_id),
    })?)
}

const CSV_HEADER: &str = "sequence,id,at,project,run_id,actor,action,subject,text,detail,trace_id";

/// One field. Text from elsewhere must not become a formula in a spreadsheet.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn csv(event: &AuditEvent) -> String {
    let fields = [
        &event.sequence.to_string(),
        &event.id,
        &event.at,
        &event.project,
        &event.run_id,
        &event.actor,
        &event.action,
        &event.subject,
        &event.text,
        &event.detail,
        &event.trace_id,
    ];
    fields.map(|text| field(text)).join(",")
}

impl AuditCommand {
    pub(crate) async fn run(self, connection: &Connection, format: Format) -> Result<ExitCode> {
        let mut client = connection.client();
        let explain = |status| connection.explain(&status);
        match self {
            Self::Verify { project } => {
                let request = VerifyAuditRequest { project: project.unwrap_or_default() };
                let answer = client.verify_audit(request).await.map_err(explain)?.into_inner();
                print(format, &answer, verdict)?;
                Ok(if answer.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
            }
            Self::Export { project, after, format, follow } => {
                let request = EventsRequest { after, project: project.unwrap_or_default(), follow };
                let mut events = client.events(request).await.map_err(explain)?.into_inner();
                if format == ExportFormat::Csv {
                    line(CSV_HEADER)?;
                }
                while let Some(event) = events.message().await.map_err(explain)? {
                    match format {
                        ExportFormat::Jsonl => line(&json(&event)?)?,
                        ExportFormat::Csv => line(&csv(&event))?,
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_quoted_and_are_no_formulas() {
        assert_eq!(field("run.queued"), "run.queued");
        assert_eq!(field("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(field("two\nlines"), "\"two\nlines\"");
        assert_eq!(field("=HYPERLINK(\"http://x\")"), "\"'=HYPERLINK(\"\"http://x\"\")\"");
        assert_eq!(field("-1"), "'-1");
    }
}
