//! One private Postgres for all stories that run at the same time, and a database of its own
//! for each, copied from a migrated template.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use private_postgres::PrivatePostgres;
use sqlx::{Connection, PgConnection};

const TEMPLATE: &str = "callboard_template";

/// The server. Ends with the last story that uses it.
#[derive(Debug)]
pub(crate) struct Cluster {
    postgres: PrivatePostgres,
    _folder: tempfile::TempDir,
}

static CURRENT: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// The running server, or a new one with its template.
    pub(crate) fn shared() -> Arc<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = current.upgrade() {
            return cluster;
        }
        let folder = super::folder();
        let settings = private_postgres::Settings { directory: folder.path().join("pg"), durable: false };
        let postgres = private_postgres::start(&settings).expect("Postgres starts");
        make_template(&postgres);
        let cluster = Arc::new(Self { postgres, _folder: folder });
        *current = Arc::downgrade(&cluster);
        cluster
    }

    fn database(self: Arc<Self>, template: Option<&str>) -> Database {
        let name = format!("story_{}", DATABASES.fetch_add(1, Ordering::SeqCst));
        self.postgres.create_database(&name, template).expect("a database");
        Database { url: self.postgres.url(&name), cluster: self }
    }
}

/// A story's own database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    /// `postgres://…`
    pub(crate) url: String,
    #[expect(dead_code, reason = "keeps the server up as long as the story lasts")]
    cluster: Arc<Cluster>,
}

impl Database {
    /// Migrated.
    pub(crate) fn migrated() -> Self {
        Cluster::shared().database(Some(TEMPLATE))
    }

    /// Without any table.
    pub(crate) fn empty() -> Self {
        Cluster::shared().database(None)
    }
}

fn make_template(postgres: &PrivatePostgres) {
    postgres.create_database(TEMPLATE, None).expect("a template");
    let url = postgres.url(TEMPLATE);
    // On a thread of its own: this runs inside the stories' runtimes.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.expect("connected");
            control_plane::MIGRATOR.run(&mut connection).await.expect("migrated");
            connection.close().await.expect("closed");
        });
    })
    .join()
    .expect("the template is migrated");
}

/// A server that one story has for itself: it may be stopped, crashed and started again.
#[derive(Debug)]
pub(crate) struct Server {
    postgres: Mutex<Option<PrivatePostgres>>,
    settings: private_postgres::Settings,
    _folder: tempfile::TempDir,
}

impl Server {
    /// A running server; `durable` where it is going to crash.
    pub(crate) fn start(durable: bool) -> Self {
        let folder = super::folder();
        let settings = private_postgres::Settings { directory: folder.path().join("pg"), durable };
        let postgres = private_postgres::start(&settings).expect("Postgres starts");
        make_template(&postgres);
        Self { postgres: Mutex::new(Some(postgres)), settings, _folder: folder }
    }

    fn postgres(&self) -> std::sync::MutexGuard<'_, Option<PrivatePostgres>> {
        self.postgres.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a migrated database of its own.
    pub(crate) fn database(&self) -> String {
        let name = format!("story_{}", DATABASES.fetch_add(1, Ordering::SeqCst));
        let postgres = self.postgres();
        let postgres = postgres.as_ref().expect("it runs");
        postgres.create_database(&name, Some(TEMPLATE)).expect("a database");
        postgres.url(&name)
    }

    /// As an administrator stops it: sessions are ended, nothing is lost.
    pub(crate) fn stop(&self) {
        self.postgres().take().expect("it runs").stop().expect("stopped");
    }

    /// As the power goes: it recovers at its next start.
    pub(crate) fn crash(&self) {
        let pid =
            std::fs::read_to_string(self.settings.directory.join("data/postmaster.pid")).expect("its pid");
        let pid =
            pid.lines().next().and_then(|line| line.parse().ok()).and_then(rustix::process::Pid::from_raw);
        // Every server process ends without a word and without writing what it has in memory.
        rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::QUIT).expect("sent");
        drop(self.postgres().take());
    }

    /// Runs again, with its data.
    pub(crate) fn start_again(&self) {
        *self.postgres() = Some(private_postgres::start(&self.settings).expect("Postgres starts again"));
    }
}
