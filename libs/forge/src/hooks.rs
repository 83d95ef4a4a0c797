//! Webhooks, and what became of their deliveries.

use chrono::{DateTime, Utc};
use domain::names::RepositoryName;
use secrecy::SecretString;
use serde_json::Value;

/// A repository's webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Id at the host.
    pub id: u64,
    /// Where deliveries go.
    pub url: String,
    /// Names of the events it sends; `*` is all of them.
    pub events: Vec<String>,
    /// False: it sends nothing.
    pub active: bool,
    /// True when bodies are sent as JSON.
    pub sends_json: bool,
    /// True when certificates are not checked.
    pub is_insecure: bool,
    /// True when deliveries are signed.
    pub has_secret: bool,
    /// Status and words of the last delivery.
    pub last_response: Option<(u16, String)>,
}

/// A webhook as it should be: JSON, active, certificates checked.
#[derive(Clone, Debug)]
pub struct NewHook {
    /// Where deliveries go.
    pub url: String,
    /// Names of the events.
    pub events: Vec<String>,
    /// What deliveries are signed with. It cannot be read back, and a change that leaves it out
    /// takes it away.
    pub secret: SecretString,
}

/// Whose deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOf {
    /// The App's only one.
    App,
    /// One of a repository's.
    Repository {
        /// The repository.
        name: RepositoryName,
        /// Id of the hook.
        id: u64,
    },
}

/// An attempt of the host's to deliver an event, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentDelivery {
    /// Id of this attempt; later ones are greater.
    pub id: u64,
    /// The event's own id, the same for every attempt.
    pub guid: String,
    /// When it was sent.
    pub delivered_at: DateTime<Utc>,
    /// True when it was asked for again.
    pub is_redelivery: bool,
    /// What was answered; `None` when nobody answered.
    pub status_code: Option<u16>,
    /// Name of the event.
    pub event: String,
    /// Its action.
    pub action: Option<String>,
    /// The App's installation it is about.
    pub installation: Option<u64>,
    /// Number of the repository it is about.
    pub repository_id: Option<u64>,
}

impl SentDelivery {
    /// True when it was taken.
    pub fn arrived(&self) -> bool {
        self.status_code.is_some_and(|status| (200..300).contains(&status))
    }
}

/// An event that was read at the code host's API, with our credential, instead of being sent to
/// us: it has no signature, and its provenance is that the host said so. Only a [`crate::Forge`]
/// makes one.
#[derive(Clone, Debug)]
pub struct FetchedDelivery {
    sent: SentDelivery,
    payload: Value,
}

impl FetchedDelivery {
    /// What the host's API answered about this delivery.
    pub fn from_host(sent: SentDelivery, payload: Value) -> Self {
        Self { sent, payload }
    }

    /// Which delivery.
    pub fn sent(&self) -> &SentDelivery {
        &self.sent
    }

    /// The event's content. Its bytes are not the ones that were sent: it was read and written.
    pub fn payload(&self) -> &Value {
        &self.payload
    }
}
