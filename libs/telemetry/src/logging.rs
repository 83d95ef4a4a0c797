//! One line per event that matters, ids as fields.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging to stderr: words on a terminal, JSON lines elsewhere. `CALLBOARD_LOG`
/// takes a `tracing` filter, `CALLBOARD_LOG_FORMAT` takes `text` or `json`.
/// A second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("CALLBOARD_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,octocrab=warn,sqlx=warn,hyper=warn,h2=warn,tower=warn"));
    let json = match std::env::var("CALLBOARD_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        _ => !std::io::stderr().is_terminal(),
    };
    let (lines, words) = if json {
        (Some(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)), None)
    } else {
        let colour = std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
        (None, Some(fmt::layer().with_ansi(colour).with_target(false).with_writer(std::io::stderr)))
    };
    // Fails only when a subscriber is set already, which a second call and tests do.
    drop(tracing_subscriber::registry().with(filter).with(lines).with(words).try_init());
}

/// The whole chain of causes on one line, for the log.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
