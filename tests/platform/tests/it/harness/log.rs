//! What the platforms of this process log from level warn on, story by story: each has a runtime of
//! its own. Errors are counted, because a line at that level means that somebody should act. A story
//! that fails shows its newest lines: what went wrong is often said there and nowhere else.

use std::{
    collections::{HashMap, VecDeque},
    fmt::{Debug, Write},
    sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError},
};

use domain::clock::Clock;
use telemetry::clock::SystemClock;
use tokio::runtime::{self, Handle};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Lines that are kept of a story.
const KEPT: usize = 40;

static STARTED: Once = Once::new();
static LOGS: LazyLock<Mutex<HashMap<runtime::Id, Log>>> = LazyLock::new(Mutex::default);

/// What one story's platforms logged.
#[derive(Default)]
struct Log {
    errors: usize,
    newest: VecDeque<String>,
}

fn logs() -> MutexGuard<'static, HashMap<runtime::Id, Log>> {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keeper;

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let Ok(story) = Handle::try_current().map(|runtime| runtime.id()) else { return };
        let metadata = event.metadata();
        let at = SystemClock.now().format("%T%.3f");
        let mut line = Line(format!("{at} {} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        let mut logs = logs();
        let log = logs.entry(story).or_default();
        log.errors += usize::from(*metadata.level() == Level::ERROR);
        if log.newest.len() == KEPT {
            log.newest.pop_front();
        }
        log.newest.push_back(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// An event as it is read.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("a string takes everything");
    }
}

/// Keeps what is logged from now on.
pub(crate) fn keep_log() {
    STARTED.call_once(|| {
        tracing::subscriber::set_global_default(Keeper).expect("nobody else keeps it");
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            let Ok(story) = Handle::try_current().map(|runtime| runtime.id()) else { return };
            let logs = logs();
            let newest = logs.get(&story).into_iter().flat_map(|log| &log.newest);
            newest.for_each(|line| eprintln!("log: {line}"));
        }));
    });
}

/// How many errors this story's platforms logged.
pub(crate) fn errors_logged() -> usize {
    let story = Handle::current().id();
    logs().get(&story).map_or(0, |log| log.errors)
}
