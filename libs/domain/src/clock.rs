//! Time as something that is handed in.

use chrono::{DateTime, Utc};

/// Where business rules get the time from. Leases use the database's clock instead, because
/// several machines have to agree on them.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// The current time.
    fn now(&self) -> DateTime<Utc>;
}
