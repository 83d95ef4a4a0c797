//! Reading a run's transcripts on from where one was.

use chrono::{DateTime, SecondsFormat};
use domain::ids::{Id, RunId};
use proto::admin::LogLine;
use sqlx::types::Json;

use super::object::{self, Line};
use crate::App;

/// Chunks read at once.
const CHUNKS: i64 = 200;

/// How far a reader is: the attempt's number, and the chunk of it. It stays good when the
/// chunks become an object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    attempt: i32,
    /// `i64::MAX`: to its end.
    sequence: i64,
}

impl Cursor {
    /// The chunk of this attempt that was read last.
    fn within(self, attempt: i32) -> Option<i64> {
        (self.attempt == attempt).then_some(self.sequence)
    }
}

/// Why lines cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Objects(#[from] object_store::Error),
    #[error("the transcript object {key} is damaged: {problem}")]
    Damaged { key: String, problem: std::io::Error },
}

/// The next lines after the cursor, which moves on, and whether there was anything to read.
pub(crate) async fn next_lines(
    app: &App,
    run: RunId,
    cursor: &mut Cursor,
) -> Result<(Vec<LogLine>, bool), NotRead> {
    // One statement, one snapshot: chunks and the key that replaces them are never both missed.
    let rows = sqlx::query!(
        r#"select a.number, a.transcript_key, c.sequence as "sequence?", c.lines as "lines?: Json<Vec<Line>>"
           from attempts a left join transcript_chunks c on c.attempt_id = a.attempt_id and (a.number, c.sequence) > ($2, $3)
           where a.run_id = $1 and a.number >= $2 and (c.sequence is not null or a.transcript_key is not null)
             and not (a.number = $2 and $3 = 9223372036854775807)
           order by a.number, c.sequence limit $4"#,
        run.uuid(),
        cursor.attempt,
        cursor.sequence,
        CHUNKS,
    )
    .fetch_all(&app.db)
    .await?;
    let read = !rows.is_empty();
    let mut all = Vec::new();
    for row in rows {
        let (lines, sequence) = match (row.transcript_key, row.sequence, row.lines) {
            (Some(key), _, _) => (whole(app, key, cursor.within(row.number)).await?, i64::MAX),
            (None, Some(sequence), Some(Json(lines))) => (lines, sequence),
            (None, _, _) => continue,
        };
        *cursor = Cursor { attempt: row.number, sequence };
        all.extend(lines.into_iter().map(|line| view(row.number, line)));
        // An object holds a whole transcript; the next one is read when these lines are sent.
        if sequence == i64::MAX {
            break;
        }
    }
    Ok((all, read))
}

/// Everything after `sequence` of an attempt whose transcript is an object.
async fn whole(app: &App, key: String, sequence: Option<i64>) -> Result<Vec<Line>, NotRead> {
    let object = match app.objects.get(&key).await {
        Ok(object) => object,
        Err(object_store::Error::NotFound { .. }) => {
            return Ok(vec![Line {
                sequence: None,
                stream: "runner".to_owned(),
                text: "The transcript of this attempt is not kept any more.".to_owned(),
                at_ms: 0,
            }]);
        }
        Err(error) => return Err(error.into()),
    };
    let lines = tokio::task::spawn_blocking(move || object::read_after(&object, sequence)).await;
    lines
        .unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))
        .map_err(|problem| NotRead::Damaged { key, problem })
}

fn view(attempt: i32, line: Line) -> LogLine {
    let at = DateTime::from_timestamp_millis(line.at_ms);
    LogLine {
        attempt: u32::try_from(attempt).unwrap_or_default(),
        stream: line.stream,
        text: line.text,
        at: at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default(),
    }
}
