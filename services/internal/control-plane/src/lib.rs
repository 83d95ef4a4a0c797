//! The control plane: the only process with rules, the owner of Postgres and of the object
//! store.
//!
//! Each folder is one capability and holds its use cases, its SQL (`store.rs`) and its
//! handlers. State changes follow one shape: a pure function of `domain` decides, one
//! transaction commits state, effects and event together, a loop acts on what is
//! committed.

mod access;
mod admin;
mod approvals;
mod audit;
mod checkpoints;
mod deliveries;
mod discussions;
mod envelope;
mod git_upstream;
mod installations;
mod objects;
mod pauses;
mod platform_keys;
mod policies;
mod projects;
mod publishing;
mod recovery;
mod retention;
mod run_tokens;
mod runs;
mod serving;
mod settings;
mod setup;
mod singleton;
mod steps;
mod transcripts;
mod triggers;
mod wake;
mod workers;

use std::{str::FromStr, sync::Arc};

use anyhow::Context;
use domain::{
    censor::Censor,
    clock::Clock,
    decision::Limits,
    ids::{Id, Ids, WorkerId},
};
use forge::Forge;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use telemetry::{shutdown::Shutdown, signing::SigningKey};

use crate::steps::Step;
pub use crate::{
    access::METHODS,
    settings::{
        AgentKind, Agents, HookSecrets, HookSeed, InternalListener, LocalWorker, ProjectSeed, RepositorySeed,
        Settings, Tls, Upstream,
    },
};

/// Everything below `migrations/`, applied at start.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// What every capability works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) db: PgPool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Ids,
    pub(crate) forge: Arc<dyn Forge>,
    pub(crate) objects: objects::Objects,
    pub(crate) envelope: envelope::Envelope,
    pub(crate) run_tokens: run_tokens::RunTokens,
    /// Signs checkpoints of the log.
    pub(crate) audit_key: SigningKey,
    /// Rules of repositories, by what they were made of.
    pub(crate) policies: policies::Policies,
    /// What accounts may do, as the code host said a moment ago.
    pub(crate) permissions: triggers::Permissions,
    /// Names of default branches, as the code host told them a moment ago.
    pub(crate) default_branches: projects::DefaultBranches,
    /// How much may be started.
    pub(crate) limits: Limits,
    pub(crate) agents: Agents,
    pub(crate) upstream: Upstream,
    /// Proves the App's deliveries; `None`: the platform is no App.
    pub(crate) app_hook: Option<HookSecrets>,
    pub(crate) public_url: String,
    pub(crate) git: git_upstream::GitUpstream,
    /// Everything that must never be stored or posted.
    pub(crate) censor: Censor,
    pub(crate) wake: wake::Wake,
    /// Said by `check` and in comments when attempts run without a sandbox.
    pub(crate) notes: Vec<String>,
    /// How long what is kept.
    pub(crate) retention: domain::retention::Retention,
}

/// A running control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    app: Arc<App>,
}

impl ControlPlane {
    /// Migrates the database, applies the configuration's projects, and starts serving.
    /// Everything it starts ends with `shutdown`.
    ///
    /// # Errors
    /// When the database cannot be reached or migrated, a key does not fit what is stored,
    /// or a listener cannot be bound.
    pub async fn start(settings: Settings, shutdown: &Shutdown) -> anyhow::Result<Self> {
        // A process that hangs in the middle of a transaction must not hold up the others: no
        // transaction of ours waits for anything but Postgres and the local disk.
        let options = PgConnectOptions::from_str(&settings.database_url)
            .context("database_url")?
            .options([("idle_in_transaction_session_timeout", "15s")]);
        let db = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(std::time::Duration::from_secs(2))
            .connect_with(options)
            .await
            .context("cannot connect to Postgres")?;
        MIGRATOR.run(&db).await.context("cannot migrate the database")?;
        let envelope = envelope::Envelope::new(&settings.key);
        let run_tokens =
            run_tokens::RunTokens::load_or_create(&db, &envelope, &*settings.clock, &settings.ids).await?;
        let audit_key = platform_keys::load_or_create(
            &db,
            &envelope,
            &*settings.clock,
            &settings.ids,
            audit::checkpoints::KEY_NAME,
            Step::AuditKeyMade,
        )
        .await?;
        audit::months::Months::default().make_ahead(&db, settings.clock.now()).await?;
        let wake = wake::Wake::start(&db, shutdown).await?;
        let mut secrets = settings.secrets();
        // Those that commands made.
        secrets.extend(
            setup::stored_secrets(&db, &envelope).await.context("cannot read the webhooks' secrets")?,
        );
        let app = Arc::new(App {
            git: git_upstream::GitUpstream::new(&settings.upstream)?,
            objects: objects::Objects::open(&settings.objects, db.clone(), Arc::clone(&settings.clock))?,
            policies: policies::Policies::default(),
            permissions: triggers::Permissions::default(),
            default_branches: projects::DefaultBranches::default(),
            limits: settings.limits,
            censor: settings.censor.knowing(secrets),
            db,
            clock: settings.clock,
            ids: settings.ids,
            forge: settings.forge,
            envelope,
            run_tokens,
            audit_key,
            retention: settings.retention,
            agents: settings.agents,
            upstream: settings.upstream,
            app_hook: settings.app_hook,
            public_url: settings.public_url,
            wake,
            notes: settings.notes,
        });
        projects::apply_seed(&app, &settings.projects)
            .await
            .context("cannot apply the projects of the configuration")?;
        if let Some(local) = &settings.local_worker {
            workers::enroll_local(&app, local, &settings.projects).await?;
        }
        triggers::spawn(&app, shutdown);
        runs::spawn(&app, shutdown);
        publishing::spawn(&app, shutdown);
        installations::spawn(&app, shutdown);
        audit::spawn(&app, shutdown);
        recovery::spawn(&app, shutdown);
        retention::spawn(&app, shutdown);
        transcripts::spawn(&app, shutdown);
        let access = access::Access::new(Arc::clone(&app), &settings.identities)?;
        serving::spawn(&app, access, settings.internal, &settings.admin_socket, shutdown).await?;
        Ok(Self { app })
    }

    /// A line per part that cannot do its work now.
    pub async fn readiness(&self) -> Vec<String> {
        let probe = sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(&self.app.db);
        match tokio::time::timeout(std::time::Duration::from_secs(1), probe).await {
            Ok(Ok(_)) => Vec::new(),
            Ok(Err(_)) | Err(_) => vec!["control-plane: Postgres does not answer".to_owned()],
        }
    }

    /// Has this worker asked for work since it was enrolled? The local one is enrolled at each start.
    pub async fn has_seen(&self, worker: WorkerId) -> bool {
        let seen = sqlx::query_scalar!(
            r#"select last_seen_at is not null as "seen!" from workers where worker_id = $1"#,
            worker.uuid()
        );
        seen.fetch_optional(&self.app.db).await.is_ok_and(Option::unwrap_or_default)
    }

    /// What is still to be done: undecided and missed deliveries, runs under way, pending effects,
    /// events without a number.
    /// Tests fail when they leave some behind.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn work_left(&self) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar!(
            r#"select 'delivery ' || guid as "what!" from deliveries where decided_at is null
               union all select 'run ' || run_id || ' ' || state from runs where state in ('queued', 'active')
               union all select 'effect ' || kind || ' ' || coalesce(last_error, '') from effects where state = 'pending'
               union all select 'dead effect ' || kind || ' ' || coalesce(last_error, '') from effects where state = 'dead'
               union all select 'missed delivery ' || guid from missed_deliveries where recovered_at is null and given_up_at is null
               union all select 'unsealed event ' || action from events where sequence is null"#
        )
        .fetch_all(&self.app.db)
        .await
    }

    /// Returns once nothing is left to be done, and says what is left when that does not
    /// happen within `patience`.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn settled(&self, patience: std::time::Duration) -> sqlx::Result<Vec<String>> {
        let until = tokio::time::Instant::now() + patience;
        let [mut runs, mut effects, mut sealed] =
            [wake::Topic::Runs, wake::Topic::Effects, wake::Topic::Sealed]
                .map(|t| self.app.wake.subscribe(t));
        loop {
            runs.mark_unchanged();
            effects.mark_unchanged();
            sealed.mark_unchanged();
            let left = self.work_left().await?;
            let patience = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_empty() || patience.is_zero() {
                return Ok(left);
            }
            let longest = patience.min(std::time::Duration::from_secs(1));
            tokio::select! {
                () = wake::news(&mut runs, longest) => {}
                () = wake::news(&mut effects, longest) => {}
                () = wake::news(&mut sealed, longest) => {}
            }
        }
    }
}
