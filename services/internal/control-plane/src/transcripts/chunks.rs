//! A chunk comes in.

use std::collections::BTreeSet;

use domain::{
    censor::{Censor, CensoredLines},
    ids::Id,
    neutralise::visible,
};
use proto::v1::{TranscriptChunk, transcript_line::Stream};
use serde_json::{Value, json};

use crate::{
    App,
    runs::Attempt,
    steps::{self, Step},
    wake::Topic,
};

/// Bytes of one line that are kept.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is kept, was kept before, or came too late.
    Done,
    /// It is kept, and the attempt has said more than it may.
    OverLimit,
}

fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Unspecified | Stream::Runner => "runner",
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::Agent => "agent",
    }
}

/// Stores a chunk once. Secrets are gone from it before that; a private key may begin in one
/// chunk and end in another, so the attempt's row remembers in which streams one is open.
pub(crate) async fn store(
    app: &App,
    attempt: &Attempt,
    censor: &Censor,
    chunk: &TranscriptChunk,
) -> sqlx::Result<Stored> {
    // What a line and a chunk take in storage counts too, or empty ones would be free.
    let bytes: usize = 256 + chunk.lines.iter().map(|l| l.text.len() + 64).sum::<usize>();
    let size = i32::try_from(bytes).unwrap_or(i32::MAX);
    let mut tx = app.db.begin().await?;
    // Its row is locked from here on: chunks and their compaction come one after the other. Runs are
    // locked before their attempts, so it is changed once: for a second change in one transaction
    // Postgres locks what its foreign keys refer to, its run among it.
    let open = sqlx::query_scalar!(
        "select open_key_blocks from attempts where attempt_id = $1 and transcript_key is null for no key update",
        attempt.id.uuid(),
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(open) = open else { return Ok(Stored::Done) };
    let mut open: BTreeSet<String> = open.into_iter().collect();
    let lines = censored(censor, &mut open, chunk);
    let stored = sqlx::query!(
        "insert into transcript_chunks (attempt_id, sequence, lines, bytes, stored_at) values ($1, $2, $3, $4, $5)
         on conflict (attempt_id, sequence) do nothing",
        attempt.id.uuid(),
        i64::try_from(chunk.sequence).unwrap_or(i64::MAX),
        Value::Array(lines),
        size,
        app.clock.now(),
    )
    .execute(&mut *tx)
    .await?;
    if stored.rows_affected() == 0 {
        // Sent again: nothing is counted twice.
        tx.rollback().await?;
        return Ok(Stored::Done);
    }
    let open: Vec<String> = open.into_iter().collect();
    let output_bytes = sqlx::query_scalar!(
        "update attempts set output_bytes = output_bytes + $2, open_key_blocks = $3 where attempt_id = $1
         returning output_bytes",
        attempt.id.uuid(),
        i64::from(size),
        &open
    )
    .fetch_one(&mut *tx)
    .await?;
    Topic::Runs.notify(&mut tx).await?;
    steps::commit(tx, Step::TranscriptStored).await?;
    let over_limit = u64::try_from(output_bytes).unwrap_or_default() > app.agents.output_bytes;
    Ok(if over_limit { Stored::OverLimit } else { Stored::Done })
}

/// The lines as they are stored; `open` names the streams in which a private key goes on.
fn censored(censor: &Censor, open: &mut BTreeSet<String>, chunk: &TranscriptChunk) -> Vec<Value> {
    let censor_line = |line: &proto::v1::TranscriptLine| {
        let stream = stream_name(line.stream());
        let mut lines = CensoredLines::new(censor, open.contains(stream));
        let cut = &line.text[..line.text.floor_char_boundary(MAX_LINE_BYTES)];
        // Letters of a secret with something invisible between them are still the secret.
        let text = lines.next(&visible(cut)).replace('\0', "\u{fffd}");
        if lines.key_is_open() {
            open.insert(stream.to_owned());
        } else {
            open.remove(stream);
        }
        json!({ "stream": stream, "text": text, "at_ms": line.at_ms })
    };
    chunk.lines.iter().map(censor_line).collect()
}
