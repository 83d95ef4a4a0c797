//! Printing: data on standard output, words on standard error.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use domain::censor::Censor;
use serde::Serialize;

use super::Result;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Prints data; `table` makes the form for people.
pub(crate) fn print<T: Serialize>(format: Format, data: &T, table: impl FnOnce(&T) -> String) -> Result<()> {
    let text = match format {
        Format::Table => table(data),
        Format::Json => serde_json::to_string_pretty(data)?,
        Format::Yaml => serde_yaml::to_string(data)?.trim_end().to_owned(),
    };
    line(&text)
}

/// A line of data. A reader that went away (`| head`) is no error.
pub(crate) fn line(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Words for the person, not part of the result. Somebody may have written a secret where the name
/// of its file belongs.
pub(crate) fn complain(text: &str) {
    let text = Censor::default().censor(text).into_owned();
    // Nothing can be done when standard error is gone.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// A table without lines.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Text from elsewhere must not drive the terminal: control characters become visible.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
