//! Checkpoints of a working agent: its files and its session, taken while it holds still.

use std::{path::PathBuf, time::Duration};

use proto::v1::{
    Assignment, CheckpointEnd, CheckpointHead, CheckpointPart, CheckpointResponse, checkpoint_part::Part,
};
use sha1::{Digest, Sha1};
use tokio::{task::JoinHandle, time::Instant};
use tonic::Status;

use crate::{
    changeset::{self, Base, Change, Specials},
    gateway::Gateway,
    git::Git,
    processes,
    returned::{in_pieces, pieces},
    session,
    transcript::Transcript,
};

/// How long an agent is held still at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The last checkpoint before a deadline is taken so long before it.
const BEFORE_THE_DEADLINE: Duration = Duration::from_secs(5);
/// Attempts with less time than this have none before their deadline.
const SHORTEST_TIME: Duration = Duration::from_secs(30);

/// Which files and session a checkpoint has: two that are the same need not be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 20]);

impl Fingerprint {
    pub(crate) fn of(changes: &[Change], session: &[u8]) -> Self {
        let mut hash = Sha1::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for change in changes {
            part(&change.path);
            part(change.mode.as_str_name().as_bytes());
            part(&change.content);
        }
        part(session);
        Self(hash.finalize().into())
    }
}

/// What is looked at.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) git: Git,
    pub(crate) base: Base,
    pub(crate) repo: PathBuf,
    /// Where the agent keeps its sessions, when it does.
    pub(crate) sessions: Option<PathBuf>,
}

/// One on its way.
struct Sending {
    fingerprint: Fingerprint,
    /// In words for the transcript.
    what: String,
    call: JoinHandle<Result<CheckpointResponse, Status>>,
}

/// Takes checkpoints when they are due and sends them while the agent works on.
pub(crate) struct Keeper {
    source: Source,
    base_sha: String,
    most_bytes: u64,
    /// Absent: none are taken.
    every: Option<Duration>,
    next: Instant,
    /// Shortly before the deadline; absent once that is over.
    last_call: Option<Instant>,
    /// The one the platform has.
    kept: Option<Fingerprint>,
    sending: Option<Sending>,
    gateway: Gateway,
    transcript: Transcript,
}

impl Keeper {
    /// `since`: when the attempt's time began. `kept`: what was restored.
    pub(crate) fn new(
        assignment: &Assignment,
        source: Source,
        kept: Option<Fingerprint>,
        since: Instant,
        gateway: Gateway,
        transcript: Transcript,
    ) -> Self {
        let time = Duration::from_secs(u64::from(assignment.deadline_seconds));
        let every = Duration::from_secs(u64::from(assignment.checkpoint_seconds));
        Self {
            source,
            base_sha: assignment.base_sha.clone(),
            most_bytes: assignment.max_changeset_bytes,
            every: Some(every).filter(|every| !every.is_zero()),
            next: Instant::now() + every,
            last_call: (time > SHORTEST_TIME).then(|| since + time - BEFORE_THE_DEADLINE),
            kept,
            sending: None,
            gateway,
            transcript,
        }
    }

    /// Returns when one should be taken: between tool calls, unless no such moment comes within
    /// another interval.
    pub(crate) fn due(&self, busy: bool) -> impl Future<Output = ()> + use<> {
        let due = self.every.filter(|_| self.sending.is_none()).map(|every| {
            let regular = if busy { self.next + every } else { self.next };
            self.last_call.map_or(regular, |last_call| last_call.min(regular))
        });
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// One is on its way.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Returns when the one on its way has arrived. May be dropped and called again.
    pub(crate) async fn sent(&mut self) {
        let Some(Sending { fingerprint, what, call }) = &mut self.sending else { return };
        let answer = call.await.unwrap_or_else(|_| Err(Status::internal("sending it failed")));
        let said = match answer {
            Ok(CheckpointResponse { stored: true, .. }) => {
                self.kept = Some(*fingerprint);
                format!("Checkpoint taken: {what}.")
            }
            Ok(CheckpointResponse { message, .. }) => format!("No checkpoint was taken: {message}"),
            Err(status) => format!("No checkpoint was taken: {}.", status.message()),
        };
        self.sending = None;
        self.transcript.runner(&said).await;
    }

    /// Takes the last one and waits until it has arrived.
    pub(crate) async fn last(&mut self) {
        if self.every.is_some() {
            self.sent().await;
            self.take().await;
            self.sent().await;
        }
    }

    /// Holds the agent still, looks, lets it go on, and begins to send what was found.
    pub(crate) async fn take(&mut self) {
        let found = {
            let _paused = processes::pause();
            tokio::time::timeout(LONGEST_PAUSE, self.look()).await
        };
        self.wind(Instant::now());
        let (changes, session) = match found.unwrap_or_else(|_| Err("it took too long.".to_owned())) {
            Ok(found) => found,
            Err(why) => return self.transcript.runner(&format!("No checkpoint was taken: {why}")).await,
        };
        let fingerprint = Fingerprint::of(&changes, &session);
        let nothing = changes.is_empty() && session.is_empty() && self.kept.is_none();
        if nothing || self.kept == Some(fingerprint) {
            return;
        }
        let parts = parts(&self.base_sha, &changes, &session);
        let bytes: usize = changes.iter().map(|change| change.content.len()).sum();
        let mut what = format!("{} files changed, {bytes} bytes", changes.len());
        if !session.is_empty() {
            what.push_str(", and the agent's session");
        }
        let gateway = self.gateway.clone();
        let call = tokio::spawn(async move { gateway.checkpoint(&parts).await });
        self.sending = Some(Sending { fingerprint, what, call });
    }

    /// Sets the time of the next one.
    fn wind(&mut self, now: Instant) {
        self.next = now + self.every.unwrap_or_default();
        self.last_call = self.last_call.filter(|last_call| *last_call > now);
    }

    /// Files and session as they are, without changing any.
    async fn look(&self) -> Result<(Vec<Change>, Vec<u8>), String> {
        let Source { git, base, repo, sessions } = &self.source;
        let found = changeset::compute(git, base, repo, self.most_bytes, Specials::LeaveOut).await;
        let changes = match found {
            Ok(changeset) => changeset.changes,
            Err(changeset::Failure::Agent(why)) => return Err(why),
            Err(changeset::Failure::Runner(error)) => return Err(format!("{error:#}.")),
        };
        let Some(sessions) = sessions.clone() else { return Ok((changes, Vec::new())) };
        let packed = tokio::task::spawn_blocking(move || session::pack(&sessions)).await;
        match packed.map_err(std::io::Error::other).flatten() {
            Ok(Some(session)) => Ok((changes, session)),
            Ok(None) => Err(format!("the agent's session is larger than {} bytes.", session::MOST_BYTES)),
            Err(error) => Err(format!("the agent's session cannot be read: {error}.")),
        }
    }
}

/// The messages of the stream: head, files, session, end.
fn parts(base_sha: &str, changes: &[Change], session: &[u8]) -> Vec<CheckpointPart> {
    let mut parts = vec![Part::Head(CheckpointHead { base_sha: base_sha.to_owned() })];
    for change in changes {
        let (file, more) = in_pieces(change);
        parts.push(Part::File(file));
        parts.extend(more.map(Part::MoreContent));
    }
    parts.extend(pieces(session).map(Part::Session));
    parts.push(Part::End(CheckpointEnd {
        files: u32::try_from(changes.len()).unwrap_or(u32::MAX),
        bytes: changes.iter().map(|change| change.content.len() as u64).sum(),
        session_bytes: session.len() as u64,
    }));
    parts.into_iter().map(|part| CheckpointPart { part: Some(part) }).collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use chrono::{DateTime, Utc};
    use domain::clock::Clock;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::connect::Connector;

    #[derive(Debug)]
    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
    }

    /// A keeper of an attempt with so many seconds, and nobody it could send anything to.
    fn keeper(deadline_seconds: u32, checkpoint_seconds: u32) -> Keeper {
        let nowhere = Path::new("/nonexistent");
        let connector = Connector::Unix(nowhere.to_owned());
        let gateway = Gateway::connect(&connector, &"token".to_owned().into()).expect("it connects later");
        let (transcript, _) = Transcript::start(gateway.clone(), Arc::new(Epoch), CancellationToken::new());
        let source = Source {
            git: Git::new(nowhere, nowhere),
            base: Base::default(),
            repo: nowhere.to_owned(),
            sessions: None,
        };
        let assignment = Assignment { deadline_seconds, checkpoint_seconds, ..Assignment::default() };
        Keeper::new(&assignment, source, None, Instant::now(), gateway, transcript)
    }

    /// Seconds until one is due.
    async fn due(keeper: &Keeper, busy: bool) -> Option<u64> {
        let now = Instant::now();
        tokio::time::timeout(Duration::from_secs(10_000), keeper.due(busy)).await.ok()?;
        Some(now.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_due_between_tool_calls_and_shortly_before_the_deadline() {
        assert_eq!(due(&keeper(3600, 120), false).await, Some(120));
        assert_eq!(due(&keeper(3600, 120), true).await, Some(240), "a tool call may take another interval");
        assert_eq!(due(&keeper(100, 120), true).await, Some(95), "the deadline does not wait");
        assert_eq!(due(&keeper(30, 120), false).await, Some(120), "so little time is not worth it");
        assert_eq!(due(&keeper(3600, 0), false).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_call_comes_once() {
        let mut keeper = keeper(100, 120);
        assert_eq!(due(&keeper, false).await, Some(95));
        keeper.wind(Instant::now());
        assert_eq!(due(&keeper, false).await, Some(120));
    }
}
