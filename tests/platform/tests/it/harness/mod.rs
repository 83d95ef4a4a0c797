//! What a story needs.

pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod contract;
mod exactly_once;
pub(crate) mod leaks;
mod log;
mod played;
pub(crate) mod pods;
mod postgres;
mod site;
pub(crate) mod story;
mod supervised;
mod wire;
mod world;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::clock::Clock;
use telemetry::clock::SystemClock;
use webhook_simulator::Delivery;

pub(crate) use self::{
    exactly_once::{Seen, violations},
    log::errors_logged,
    played::{FIRST_PROCESS, Played, SECOND_PROCESS},
    postgres::{Database, Server},
    site::{Plan, SITE_SECRET, Site},
    world::{APP, APP_PERMISSIONS, GO, PATIENCE, REPOSITORY, SECRET, SOURCE, Setup, World, merge, sign},
};

/// The machine's clock, moved ahead by what a story says.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    ahead_ms: AtomicI64,
}

impl TestClock {
    /// Time passes.
    pub(crate) fn advance(&self, by: TimeDelta) {
        self.ahead_ms.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + TimeDelta::milliseconds(self.ahead_ms.load(Ordering::SeqCst))
    }
}

/// A program of this workspace, beside the test's own binary.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/debug/deps");
    let program = folder.join(name);
    assert!(program.exists(), "{} is not built; run `cargo build --workspace` first", program.display());
    program
}

/// A folder that Postgres and sandboxed agents may pass through.
pub(crate) fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("cb-").tempdir_in("/tmp").expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("its mode");
    folder
}

/// Snapshots without what differs from run to run.
pub(crate) fn filtered() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID");
    settings.add_filter(r"http://127\.0\.0\.1:\d+", "HOST");
    settings.add_filter(r"`[0-9a-f]{7}`", "`SHA`");
    settings.add_filter(r"\b[0-9a-f]{40}\b", "SHA40");
    settings.add_filter(r"sha256 `?[0-9a-f]{16}…?`?", "DIGEST");
    settings.add_filter(r"bubblewrap[^·|<\n]*", "ISOLATION ");
    // With its date when it is of another day.
    settings.add_filter(r"taken (\d{4}-\d\d-\d\d )?\d\d:\d\d UTC", "taken HH:MM UTC");
    settings.add_filter(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z| UTC|\+00:00)", "TIME");
    settings.add_filter(r"\b\d\d:\d\d( \(\+\d+ d\))?", "HH:MM");
    settings.add_filter(r"\b(under a minute|(\d+ h )?\d+ min)\b", "TOOK");
    settings.add_filter(r"pullrequestreview-\d+", "pullrequestreview-N");
    settings.add_filter(r"/tmp/[^\s`]+", "PATH");
    settings.add_filter(r"callboard-demo-[0-9a-f]{8}", "NAMESPACE");
    settings.add_filter(r"on node \S+", "on node NODE");
    settings
}

/// The newest try of each delivery.
pub(crate) fn newest(deliveries: &[Delivery]) -> impl Iterator<Item = &Delivery> {
    let mut newest: BTreeMap<&str, &Delivery> = BTreeMap::new();
    for delivery in deliveries {
        let known = newest.entry(&delivery.guid).or_insert(delivery);
        if known.id < delivery.id {
            *known = delivery;
        }
    }
    newest.into_values()
}

/// The deliveries whose newest try was answered so.
pub(crate) fn refused(deliveries: &[Delivery], is_refusal: impl Fn(u16) -> bool) -> Vec<u64> {
    let answered = |d: &&Delivery| d.answer.as_ref().is_some_and(|answer| is_refusal(answer.status_code));
    newest(deliveries).filter(answered).map(|delivery| delivery.id).collect()
}

/// A shared clock for a story.
pub(crate) fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::default())
}
