//! How much one attempt may have open at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::ids::AttemptId;
use telemetry::listener::{Connection, Mark};

/// Counts what attempts have open.
#[derive(Clone)]
pub(crate) struct Limit {
    most: usize,
    open: Arc<Mutex<HashMap<AttemptId, usize>>>,
}

/// One of the places of an attempt, until it is dropped.
pub(crate) struct Place {
    limit: Limit,
    attempt: AttemptId,
}

impl Limit {
    /// Every attempt may have `most` open.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// A place, when the attempt has one left.
    pub(crate) fn take(&self, attempt: AttemptId) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = open.entry(attempt).or_default();
        (*taken < self.most).then(|| {
            *taken += 1;
            Place { limit: self.clone(), attempt }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = open.get_mut(&self.attempt) {
            *taken -= 1;
            if *taken == 0 {
                open.remove(&self.attempt);
            }
        }
    }
}

/// Knows by which connections attempts come.
#[derive(Clone)]
pub(crate) struct Connections {
    most: usize,
    open: Arc<Mutex<HashMap<AttemptId, Vec<Mark>>>>,
}

impl Connections {
    /// Every attempt may have `most` open.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Whether the attempt may come by this connection: it does already, or has not too many.
    pub(crate) fn admit(&self, attempt: AttemptId, connection: &Connection) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&attempt).is_some_and(|marks| marks.iter().any(|mark| mark.is_of(connection))) {
            return true;
        }
        open.retain(|_, marks| {
            marks.retain(Mark::is_open);
            !marks.is_empty()
        });
        let marks = open.entry(attempt).or_default();
        let free = marks.len() < self.most;
        if free {
            marks.push(connection.mark());
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_comes_by_so_many_connections_and_by_those_again() {
        let connections = Connections::new(1);
        let [one, other] = ["0198a6a4-7c1e-7d5b-9a51-000000000001", "0198a6a4-7c1e-7d5b-9a51-000000000002"]
            .map(|id| id.parse().expect("an id"));
        let [first, second] = [Connection::default(), Connection::default()];
        assert!(connections.admit(one, &first) && connections.admit(one, &first));
        assert!(!connections.admit(one, &second));
        assert!(connections.admit(other, &second), "each has its own");
        drop(first);
        assert!(connections.admit(one, &second), "one that has ended does not count");
    }

    #[test]
    fn attempts_have_places_of_their_own_and_get_them_back() {
        let limit = Limit::new(1);
        let [one, other] = ["0198a6a4-7c1e-7d5b-9a51-000000000001", "0198a6a4-7c1e-7d5b-9a51-000000000002"]
            .map(|id| id.parse().expect("an id"));
        let place = limit.take(one).expect("free");
        assert!(limit.take(one).is_none());
        let another = limit.take(other).expect("free");
        drop(place);
        drop(limit.take(one).expect("free again"));
        drop(another);
        assert!(limit.open.lock().expect("whole").is_empty());
    }
}
