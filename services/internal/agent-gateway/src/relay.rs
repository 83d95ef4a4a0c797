//! Streams on their way back to a pod: counted, cut when the attempt ends, logged at the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use http::StatusCode;
use tokio::time::Instant;

use crate::{attempts::LiveAttempt, problem::Refusal};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One line in the log, written when the exchange is over, however it ended.
pub(crate) struct LogLine {
    what: &'static str,
    attempt: LiveAttempt,
    started: Instant,
    bytes: u64,
    /// What the pod was answered; missing when it went away before.
    pub(crate) status: Option<StatusCode>,
    outcome: &'static str,
}

impl LogLine {
    /// Starts the clock.
    pub(crate) fn start(what: &'static str, attempt: &LiveAttempt) -> Self {
        let attempt = attempt.clone();
        Self { what, attempt, started: Instant::now(), bytes: 0, status: None, outcome: "abandoned" }
    }

    /// Nothing was streamed: this is the whole answer.
    pub(crate) fn refused(mut self, status: StatusCode) {
        self.status = Some(status);
        self.outcome = "refused";
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        tracing::info!(
            run_id = %self.attempt.run(),
            attempt_id = %self.attempt.attempt(),
            trace_id = self.attempt.trace_id(),
            bytes = self.bytes,
            status = self.status.map(|status| status.as_u16()),
            duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome = self.outcome,
            "{} request ended",
            self.what,
        );
    }
}

/// A response body that passes chunks on as they come.
struct Relay {
    chunks: BoxStream<'static, Result<Bytes, BoxError>>,
    cut: BoxFuture<'static, Refusal>,
    line: LogLine,
}

/// Passes `chunks` on until they end or `cut` resolves. Dropping the body drops `chunks`, so a
/// pod that goes away takes the request behind it along.
pub(crate) fn body<S, E>(chunks: S, cut: BoxFuture<'static, Refusal>, line: LogLine) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let chunks = chunks.map(|chunk| chunk.map_err(Into::into)).boxed();
    Body::from_stream(Relay { chunks, cut, line })
}

impl Stream for Relay {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let relay = self.get_mut();
        if let Poll::Ready(refusal) = relay.cut.as_mut().poll(context) {
            relay.line.outcome = "cut";
            // An error, not an end: the pod must not take half an answer for a whole one.
            return Poll::Ready(Some(Err(refusal.into())));
        }
        let next = std::task::ready!(relay.chunks.poll_next_unpin(context));
        match &next {
            Some(Ok(chunk)) => relay.line.bytes += chunk.len() as u64,
            Some(Err(_)) => relay.line.outcome = "broken",
            None => relay.line.outcome = "complete",
        }
        Poll::Ready(next)
    }
}
