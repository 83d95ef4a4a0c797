//! What happens, told while it happens.

use std::{sync::Arc, time::Duration};

use domain::clock::Clock;
use proto::v1::{TranscriptChunk, TranscriptLine, transcript_line::Stream};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::gateway::Gateway;

/// Bytes of one line.
pub(crate) const LINE_BYTES: usize = 16 * 1024;
/// How long a line may wait for others.
const PATIENCE: Duration = Duration::from_millis(200);
/// Lines sent together.
const BATCH: usize = 64;
/// Lines that wait to be sent; then the agent has to wait.
const WAITING: usize = 512;

/// Where lines go. The transcript is complete when every clone of this is gone.
#[derive(Clone)]
pub(crate) struct Transcript {
    lines: mpsc::Sender<TranscriptLine>,
    clock: Arc<dyn Clock>,
}

impl Transcript {
    /// Starts to send. Cancels `stop` when the platform wants the agent stopped.
    pub(crate) fn start(
        gateway: Gateway,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (lines, waiting) = mpsc::channel(WAITING);
        (Self { lines, clock }, tokio::spawn(send(gateway, waiting, stop)))
    }

    /// Something the runner did.
    pub(crate) async fn runner(&self, text: &str) {
        self.line(Stream::Runner, crate::returned::beginning(text, LINE_BYTES).to_owned()).await;
    }

    /// A line of the agent's.
    pub(crate) async fn line(&self, stream: Stream, text: String) {
        let line = TranscriptLine { stream: stream.into(), text, at_ms: self.clock.now().timestamp_millis() };
        // The sender goes on to the end, unless the runner is ending itself.
        let _ = self.lines.send(line).await;
    }
}

async fn send(gateway: Gateway, mut waiting: mpsc::Receiver<TranscriptLine>, stop: CancellationToken) {
    let mut sequence = 0;
    // The platform does not listen any more.
    let mut over = false;
    while let Some(first) = waiting.recv().await {
        let lines = batch(first, &mut waiting).await;
        if over {
            continue;
        }
        let chunk = TranscriptChunk { sequence, lines };
        sequence += 1;
        match gateway.transcript(&chunk).await {
            Ok(false) => {}
            Ok(true) => stop.cancel(),
            Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {
                over = true;
                stop.cancel();
            }
            Err(status) => eprintln!(
                "agent-runner: {} lines of the transcript are lost: {}",
                chunk.lines.len(),
                status.message()
            ),
        }
    }
}

async fn batch(first: TranscriptLine, waiting: &mut mpsc::Receiver<TranscriptLine>) -> Vec<TranscriptLine> {
    let until = Instant::now() + PATIENCE;
    let mut lines = vec![first];
    while lines.len() < BATCH
        && let Ok(Some(line)) = tokio::time::timeout_at(until, waiting.recv()).await
    {
        lines.push(line);
    }
    lines
}
