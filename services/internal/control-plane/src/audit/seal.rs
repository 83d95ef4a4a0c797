//! What is hashed, byte by byte. Pure.

use chrono::{Datelike, NaiveDate};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::store::Event;

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// What a chain begins with.
pub(super) const GENESIS: Hash = [0; 32];

const EVENT: &[u8] = b"callboard event 1\0";
const SEAL: &[u8] = b"callboard seal 1\0";

/// Days since the common era, which orders months and fits four bytes.
pub(super) fn day(date: NaiveDate) -> [u8; 4] {
    date.num_days_from_ce().to_be_bytes()
}

/// Every column, each with its length before it, so that nothing can move from one to the next.
pub(super) fn digest(event: &Event) -> Hash {
    let mut hash = Sha256::new_with_prefix(EVENT);
    let mut column = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => {
            hash.update([1]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        None => hash.update([0]),
    };
    column(Some(event.id.as_bytes()));
    column(Some(&event.happened_at.timestamp_micros().to_be_bytes()));
    column(Some(&event.ordinal.to_be_bytes()));
    column(event.project.as_ref().map(|p| p.as_bytes().as_slice()));
    column(event.run.as_ref().map(|r| r.as_bytes().as_slice()));
    for text in [&event.actor, &event.action, &event.subject, &event.text, &event.detail] {
        column(Some(text.as_bytes()));
    }
    column(event.trace_id.as_ref().map(String::as_bytes));
    column(Some(&event.sequence.to_be_bytes()));
    hash.finalize().into()
}

/// What a seal says.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    pub(super) chain: Uuid,
    pub(super) number: i64,
    /// First day of the month its rows are of.
    pub(super) month: NaiveDate,
    /// Rising.
    pub(super) sequences: Vec<i64>,
    /// 32 bytes for each sequence.
    pub(super) digests: Vec<u8>,
    pub(super) previous: Vec<u8>,
}

impl Seal {
    /// Of rows of one chain and one month, in their order.
    pub(super) fn of(chain: Uuid, number: i64, month: NaiveDate, previous: Hash, rows: &[&Event]) -> Self {
        Self {
            chain,
            number,
            month,
            sequences: rows.iter().map(|r| r.sequence).collect(),
            digests: rows.iter().flat_map(|r| digest(r)).collect(),
            previous: previous.to_vec(),
        }
    }

    /// Number of its last row.
    pub(super) fn last(&self) -> i64 {
        self.sequences.last().copied().unwrap_or_default()
    }

    /// Is it one that the sealer can have written?
    pub(super) fn is_well_formed(&self) -> bool {
        !self.sequences.is_empty()
            && self.digests.len() == self.sequences.len() * size_of::<Hash>()
            && self.sequences.windows(2).all(|pair| pair[0] < pair[1])
    }

    pub(super) fn hash(&self) -> Hash {
        let mut hash = Sha256::new_with_prefix(SEAL);
        hash.update((self.previous.len() as u64).to_be_bytes());
        hash.update(&self.previous);
        hash.update(self.chain.as_bytes());
        hash.update(self.number.to_be_bytes());
        hash.update(day(self.month));
        hash.update((self.sequences.len() as u64).to_be_bytes());
        self.sequences.iter().for_each(|n| hash.update(n.to_be_bytes()));
        hash.update(&self.digests);
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn event() -> Event {
        Event {
            id: Uuid::from_u128(1),
            happened_at: DateTime::<Utc>::UNIX_EPOCH,
            ordinal: 2,
            project: Some(Uuid::from_u128(3)),
            run: None,
            actor: "mona".to_owned(),
            action: "run.queued".to_owned(),
            subject: "run:1".to_owned(),
            text: String::new(),
            detail: "{}".to_owned(),
            trace_id: None,
            sequence: 4,
        }
    }

    /// Rows sealed by one release are verified by the next: the encoding never changes.
    #[test]
    fn the_encoding_stays() {
        assert_eq!(
            hex::encode(digest(&event())),
            "6d47d6af34e8d2acca079ccf144eb5dea7f52564568517aad51e2527b22ee8a0"
        );
        let month = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day");
        let seal = Seal::of(Uuid::from_u128(3), 1, month, GENESIS, &[&event()]);
        assert_eq!(
            hex::encode(seal.hash()),
            "e550d276cebc9bc713c048612be388b9c9da7009d91bff920e8fcac6883bf724"
        );
    }

    #[test]
    fn text_does_not_move_between_columns() {
        let moved = Event { actor: "mon".to_owned(), action: "arun.queued".to_owned(), ..event() };
        assert_ne!(digest(&moved), digest(&event()));
        let (none, empty) = (event(), Event { trace_id: Some(String::new()), ..event() });
        assert_ne!(digest(&none), digest(&empty));
    }
}
