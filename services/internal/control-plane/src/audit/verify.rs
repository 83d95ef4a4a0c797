//! Is the log what was sealed? Every kept row is hashed again, every chain is walked from its
//! beginning or the checkpoint it begins at to its end, every checkpoint's signature is tried.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use domain::ids::{Id, ProjectId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    checkpoints::{self, Checkpoint},
    seal::{GENESIS, Hash, digest},
    store::{self, Event, Head, StoredSeal},
};
use crate::App;

/// Seals that are looked at together; each has at most as many rows as the sealer takes.
const PAGE: i64 = 20;
/// Sentences that are kept; the rest is counted.
const MOST_PROBLEMS: usize = 100;

/// What was found wrong, in sentences.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) sentences: Vec<String>,
    /// How many more there are.
    pub(crate) more: u64,
    /// Rows that were named once.
    named: HashSet<Uuid>,
}

impl Problems {
    fn say(&mut self, sentence: String) {
        if self.sentences.len() < MOST_PROBLEMS {
            self.sentences.push(sentence);
        } else {
            self.more += 1;
        }
    }

    fn name(&mut self, event: &Event, what: &str) {
        if self.named.insert(event.id) {
            let Event { id, sequence, happened_at, action, .. } = event;
            let at = happened_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            self.say(format!("Event {id} (sequence {sequence}, {action}, {at}) {what}."));
        }
    }
}

/// A chain that was walked.
#[derive(Debug)]
pub(crate) struct ChainReport {
    pub(crate) name: String,
    pub(crate) seals: u64,
    /// Rows that are there and are what was sealed.
    pub(crate) events: u64,
    /// Number of the last row, and hash of the last seal: worth keeping elsewhere.
    pub(crate) sequence: i64,
    pub(crate) hash: String,
    /// The newest checkpoint.
    pub(crate) checkpoint_at: Option<DateTime<Utc>>,
}

/// What verifying found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) chains: Vec<ChainReport>,
    pub(crate) problems: Problems,
    /// Rows without a number; they are not covered yet.
    pub(crate) unsealed: i64,
}

/// Verifies the whole log, or one project's chain, as of one moment.
pub(crate) async fn verify(app: &App, project: Option<ProjectId>) -> sqlx::Result<Report> {
    let mut tx = app.db.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read read only").execute(&mut *tx).await?;
    let mut problems = Problems::default();
    let mut heads: BTreeMap<Uuid, Head> =
        store::heads(&mut tx).await?.into_iter().map(|h| (h.chain, h)).collect();
    let checkpoints = signed(&mut tx, app, &mut problems).await?;
    let kept_from = checkpoints::kept_from(&checkpoints);
    let sealed = sqlx::query_scalar!("select distinct chain from seals").fetch_all(&mut *tx).await?;
    let mut chains: BTreeSet<Uuid> = heads.keys().copied().collect();
    chains.extend(sealed);
    chains.extend(checkpoints.iter().map(|c| c.chain));
    if let Some(project) = project {
        chains.retain(|chain| *chain == project.uuid());
        if chains.is_empty() {
            problems.say(
                "Nothing of this project is in the log: no seal, no end of its chain, no checkpoint."
                    .to_owned(),
            );
        }
    }
    let mut reports = Vec::new();
    let mut begin_after = 0;
    for chain in chains {
        let name = store::chain_name(&mut tx, chain).await?;
        let mut walk = Walk {
            chain,
            name,
            kept_from,
            checkpoints: checkpoints.iter().filter(|c| c.chain == chain).collect(),
            problems: &mut problems,
        };
        let (report, anchor) = walk.walk(&mut tx, heads.remove(&chain)).await?;
        begin_after = begin_after.max(anchor);
        reports.push(report);
    }
    if project.is_none() {
        gaps(&mut tx, begin_after, &mut problems).await?;
    }
    let unsealed = sqlx::query_scalar!(r#"select count(*) as "n!" from events where sequence is null"#)
        .fetch_one(&mut *tx)
        .await?;
    Ok(Report { chains: reports, problems, unsealed })
}

/// The checkpoints whose signature is ours; the others are said.
async fn signed(tx: &mut PgConnection, app: &App, problems: &mut Problems) -> sqlx::Result<Vec<Checkpoint>> {
    let (good, bad) = checkpoints::signed(tx, app).await?;
    for checkpoint in bad {
        let name = store::chain_name(tx, checkpoint.chain).await?;
        problems.say(format!(
            "The checkpoint of {name} at seal {} has a bad signature: it was changed, or not written by this platform.",
            checkpoint.number
        ));
    }
    Ok(good)
}

/// Numbers that no seal covers, though every number after `begin_after` should be covered.
async fn gaps(tx: &mut PgConnection, begin_after: i64, problems: &mut Problems) -> sqlx::Result<()> {
    let last = sqlx::query_scalar!("select sequence from sealer").fetch_optional(&mut *tx).await?;
    let Some(last) = last else {
        problems.say("The sealer's row is missing.".to_owned());
        return Ok(());
    };
    let holes = sqlx::query!(
        r#"select before + 1 as "first!", number - 1 as "last!"
           from (select number, lag(number) over (order by number) as before
                 from (select $1::bigint as number union all select $2::bigint + 1
                       union all select n from seals, unnest(sequences) n where n > $1 and n <= $2) numbers) pairs
           where number > before + 1 order by number limit 100"#,
        begin_after,
        last
    )
    .fetch_all(&mut *tx)
    .await?;
    for hole in holes {
        problems.say(format!("No seal covers the sequence numbers from {} to {}.", hole.first, hole.last));
    }
    let beyond = sqlx::query_scalar!(r#"select max(sequences[cardinality(sequences)]) as "last" from seals"#)
        .fetch_one(tx)
        .await?;
    if let Some(beyond) = beyond.filter(|n| *n > last) {
        problems.say(format!("The sealer says that {last} was its last number, and a seal covers {beyond}."));
    }
    Ok(())
}

/// One chain, being walked.
struct Walk<'a> {
    chain: Uuid,
    name: String,
    kept_from: NaiveDate,
    checkpoints: Vec<&'a Checkpoint>,
    problems: &'a mut Problems,
}

/// Where a walk is.
struct Place {
    /// The seal before, and its stored hash.
    number: i64,
    hash: Vec<u8>,
    /// Number of the last row so far.
    sequence: i64,
}

impl Walk<'_> {
    /// Walks the chain. Besides what it found: the number after which its seals are kept.
    async fn walk(&mut self, tx: &mut PgConnection, head: Option<Head>) -> sqlx::Result<(ChainReport, i64)> {
        let mut page = store::seals(tx, self.chain, 0, PAGE).await?;
        let mut at = self.beginning(page.first(), head.as_ref());
        let anchor = at.sequence;
        let (mut seals, mut events, mut from) = (0, 0, i64::MIN);
        if page.is_empty() {
            self.rows(tx, &page, from, i64::MAX).await?;
        }
        while let Some(last) = page.last() {
            let next = store::seals(tx, self.chain, last.seal.number + 1, PAGE).await?;
            // The last page takes in rows that claim numbers beyond the end.
            let to = if next.is_empty() { i64::MAX } else { last.seal.last() };
            events += self.rows(tx, &page, from, to).await?;
            from = to.saturating_add(1);
            for stored in &page {
                self.link(&mut at, stored);
                seals += 1;
            }
            page = next;
        }
        self.end(&at, head.as_ref());
        let report = ChainReport {
            name: self.name.clone(),
            seals,
            events,
            sequence: at.sequence,
            hash: hex::encode(&at.hash),
            checkpoint_at: self.checkpoints.iter().map(|c| c.taken_at).max(),
        };
        Ok((report, anchor))
    }

    /// Where the chain begins: at nothing, or at the checkpoint before its first seal.
    fn beginning(&mut self, first: Option<&StoredSeal>, head: Option<&Head>) -> Place {
        let before = match (first, head) {
            (Some(first), _) => first.seal.number - 1,
            // Everything was dropped: the end is the beginning.
            (None, Some(head)) => head.number,
            (None, None) => 0,
        };
        if before == 0 {
            return Place { number: 0, hash: GENESIS.to_vec(), sequence: 0 };
        }
        match self.checkpoints.iter().find(|c| c.begins && c.number == before) {
            Some(c) => Place { number: c.number, hash: c.hash.clone(), sequence: c.sequence },
            None => {
                self.problems.say(format!(
                    "Seals 1 to {before} of {} are missing, and no checkpoint says that they were dropped.",
                    self.name
                ));
                let hash = first.map(|f| f.seal.previous.clone()).unwrap_or_default();
                Place { number: before, hash, sequence: 0 }
            }
        }
    }

    /// One seal: what it says, its hash, the one before, the checkpoint on it.
    fn link(&mut self, at: &mut Place, stored: &StoredSeal) {
        let StoredSeal { seal, hash } = stored;
        let (name, number) = (&self.name, seal.number);
        if number > at.number + 1 {
            self.problems.say(format!("Seals {} to {} of {name} are missing.", at.number + 1, number - 1));
        } else if seal.previous != at.hash {
            self.problems.say(format!(
                "Seal {number} of {name} does not follow seal {}: one of the two was changed.",
                at.number
            ));
        }
        if !seal.is_well_formed() || seal.hash().as_slice() != hash {
            self.problems
                .say(format!("Seal {number} of {name} was changed: its hash is not that of what it says."));
        }
        if seal.sequences.first().is_some_and(|first| *first <= at.sequence) {
            self.problems
                .say(format!("Seal {number} of {name} covers sequence numbers that an earlier one covers."));
        }
        self.compare(number, hash);
        *at = Place { number, hash: hash.clone(), sequence: seal.last() };
    }

    fn compare(&mut self, number: i64, hash: &[u8]) {
        if self.checkpoints.iter().any(|c| c.number == number && c.hash != hash) {
            self.problems.say(format!(
                "Seal {number} of {} is not the one the platform signed: the chain was written anew.",
                self.name
            ));
        }
    }

    /// The chain's end is where its head and the newest checkpoint say.
    fn end(&mut self, at: &Place, head: Option<&Head>) {
        let name = &self.name;
        match head {
            Some(head) if (head.number, &head.hash, head.sequence) == (at.number, &at.hash, at.sequence) => {}
            Some(head) if head.number > at.number => self.problems.say(format!(
                "Seals {} to {} of {name} are missing: the head says that it ends at seal {}, sequence {}.",
                at.number + 1,
                head.number,
                head.number,
                head.sequence
            )),
            Some(head) => self.problems.say(format!(
                "The head of {name} is wrong: it says seal {}, sequence {}; the chain ends at seal {}, sequence {}.",
                head.number, head.sequence, at.number, at.sequence
            )),
            None => self.problems.say(format!("The head of {name} is missing.")),
        }
        if let Some(beyond) = self.checkpoints.iter().map(|c| c.number).max().filter(|n| *n > at.number) {
            self.problems.say(format!(
                "The end of {name} is missing: the platform signed seal {beyond}, and the chain ends at seal {}.",
                at.number
            ));
        }
    }

    /// The rows of some seals, and rows numbered between that no seal covers. Returns how many
    /// are as they were sealed.
    async fn rows(
        &mut self,
        tx: &mut PgConnection,
        page: &[StoredSeal],
        from: i64,
        to: i64,
    ) -> sqlx::Result<u64> {
        let mut wanted = HashMap::<i64, (Hash, NaiveDate)>::new();
        for stored in page {
            let (digests, _) = stored.seal.digests.as_chunks::<32>();
            let numbers = stored.seal.sequences.iter().copied();
            wanted.extend(numbers.zip(digests.iter().map(|d| (*d, stored.seal.month))));
        }
        let numbers: Vec<i64> = wanted.keys().copied().collect();
        let mut good = 0;
        let rows = store::rows(tx, &numbers, self.chain, from, to).await?;
        let mut seen = HashSet::new();
        for event in &rows {
            match wanted.get(&event.sequence) {
                Some((sealed, _)) if digest(event) == *sealed => {
                    good += 1;
                    seen.insert(event.sequence);
                }
                Some(_) => {
                    self.problems.name(
                        event,
                        "is not as it was sealed: it was changed, or another one has its number",
                    );
                    seen.insert(event.sequence);
                }
                None => self.problems.name(event, "is covered by no seal: it was added or renumbered"),
            }
        }
        let mut missing: Vec<i64> = wanted
            .iter()
            .filter(|(number, (_, month))| !seen.contains(number) && *month >= self.kept_from)
            .map(|(number, _)| *number)
            .collect();
        missing.sort_unstable();
        for number in missing {
            let name = &self.name;
            self.problems.say(format!(
                "The event with sequence {number} of {name} is missing: it was deleted or renumbered."
            ));
        }
        Ok(good)
    }
}
