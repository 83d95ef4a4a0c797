//! Typed ids: UUIDv7, one type per thing, so that a run's id cannot be passed for an attempt's.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;

/// Any of the typed ids below.
pub trait Id: Copy {
    /// Wraps a UUID read from storage.
    fn from_uuid(uuid: Uuid) -> Self;
    /// The UUID inside, for storage.
    fn uuid(self) -> Uuid;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl Id for $name {
            fn from_uuid(uuid: Uuid) -> Self { Self(uuid) }
            fn uuid(self) -> Uuid { self.0 }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self).map_err(|_| InvalidId { kind: stringify!($name), text: text.chars().take(80).collect() })
            }
        }
    )+};
}

ids! {
    /// A tenant: repositories, members, policy.
    ProjectId,
    /// A repository of a project.
    RepositoryId,
    /// One stored webhook call.
    DeliveryId,
    /// What a delivery, command or click led to.
    DecisionId,
    /// One piece of work an agent is asked to do.
    RunId,
    /// One try at a run on one worker.
    AttemptId,
    /// A changeset's way to the forge.
    PublicationId,
    /// One change in the outside world.
    EffectId,
    /// One row of the log of events.
    EventId,
    /// An enrolled worker.
    WorkerId,
    /// One process of a worker, from its start to its end.
    WorkerProcessId,
    /// One pause that stands.
    PauseId,
    /// One approval of a result.
    ApprovalId,
    /// One discussion on an issue.
    DiscussionId,
    /// One time in which something was missed.
    GapId,
    /// One stored secret.
    SecretId,
}

/// Text that is not an id.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{text}` is not a {kind}: expected a UUID such as 0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
}

/// Makes ids, trace ids and nonces from an injected clock and an injected seed.
#[derive(Clone, Debug)]
pub struct Ids {
    clock: Arc<dyn Clock>,
    rng: Arc<Mutex<StdRng>>,
}

impl Ids {
    /// For production: seeded by the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; nothing can be done safely then.
    pub fn from_os(clock: Arc<dyn Clock>) -> Self {
        let rng =
            StdRng::try_from_rng(&mut rand::rngs::SysRng).expect("the operating system gives randomness");
        Self { clock, rng: Arc::new(Mutex::new(rng)) }
    }

    /// For tests: the same seed gives the same ids.
    pub fn seeded(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// A new id, ordered by time.
    pub fn next<T: Id>(&self) -> T {
        let millis = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or_default();
        T::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid())
    }

    /// A trace id: 32 hex digits, as W3C Trace Context writes them.
    pub fn trace_id(&self) -> String {
        let bytes: [u8; 16] = self.bytes();
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A number in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        f64::from(u32::from_le_bytes(self.bytes())) / (f64::from(u32::MAX) + 1.0)
    }
}
