//! Changesets as they are kept.

use domain::changeset::{Changeset, InvalidChangeset};

use crate::App;

/// Why a kept changeset cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Object(#[from] object_store::Error),
    #[error(transparent)]
    Invalid(#[from] InvalidChangeset),
}

/// The changeset under a key of the object store.
pub(crate) async fn stored_changeset(app: &App, key: &str) -> Result<Changeset, Unreadable> {
    Ok(Changeset::from_bytes(&app.objects.get(key).await?)?)
}

/// SHA-256 of what is kept, as its key ends with.
pub(crate) fn digest(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}
