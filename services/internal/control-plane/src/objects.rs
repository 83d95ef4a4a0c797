//! The object store: prompts, changesets, sessions and transcripts, by digest within a project.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use domain::{clock::Clock, ids::ProjectId};
use object_store::{ObjectStoreExt, local::LocalFileSystem, path::Path as Key};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use crate::steps::{Step, around};

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Prompt,
    Changeset,
    Session,
    Transcript,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Prompt => "prompts",
            Self::Changeset => "changesets",
            Self::Session => "sessions",
            Self::Transcript => "transcripts",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Objects {
    store: LocalFileSystem,
    db: PgPool,
    clock: Arc<dyn Clock>,
}

impl Objects {
    /// Opens the folder, which exists.
    pub(crate) fn open(folder: &Path, db: PgPool, clock: Arc<dyn Clock>) -> object_store::Result<Self> {
        Ok(Self { store: LocalFileSystem::new_with_prefix(folder)?, db, clock })
    }

    /// Stores bytes and returns their key. The same bytes have the same key, so a second
    /// time changes nothing.
    pub(crate) async fn put(
        &self,
        project: ProjectId,
        kind: Kind,
        bytes: Vec<u8>,
    ) -> object_store::Result<String> {
        let digest = hex::encode(Sha256::digest(&bytes));
        let key = format!("{project}/{}/{digest}", kind.folder());
        let put = async {
            // Nobody needs it until a row names it; a crash before that leaves it to retention,
            // which looks after a day. Whoever is deleting it holds this row until it is deleted.
            let wanted = sqlx::query!(
                "insert into unneeded_objects (object_key, since) values ($1, $2)
                 on conflict (object_key) do update set since = excluded.since",
                key,
                self.clock.now(),
            );
            wanted.execute(&self.db).await.map_err(|e| object_store::Error::Generic {
                store: "unneeded_objects",
                source: Box::new(e),
            })?;
            self.store.put(&Key::from(key.as_str()), bytes.into()).await
        };
        around(Step::ObjectStored, put).await?;
        Ok(key)
    }

    /// Notes that a row no longer names these objects. They are deleted a day later, unless a
    /// row names them then.
    pub(crate) async fn let_go(
        tx: &mut PgConnection,
        keys: impl IntoIterator<Item = Option<String>>,
        now: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        let keys: BTreeSet<String> = keys.into_iter().flatten().collect();
        sqlx::query!(
            "insert into unneeded_objects (object_key, since) select unnest($1::text[]), $2
             on conflict (object_key) do update set since = excluded.since",
            &Vec::from_iter(keys),
            now,
        )
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Deletes an object; one that is gone already is deleted.
    pub(crate) async fn delete(&self, key: &str) -> object_store::Result<()> {
        match self.store.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads bytes back.
    pub(crate) async fn get(&self, key: &str) -> object_store::Result<Vec<u8>> {
        Ok(self.store.get(&Key::from(key)).await?.bytes().await?.to_vec())
    }
}
