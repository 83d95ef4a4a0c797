//! Counts error-level log lines: a line at that level means that somebody should act.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{Level, Subscriber, span};

static ERRORS: AtomicUsize = AtomicUsize::new(0);

struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        ERRORS.fetch_add(1, Ordering::SeqCst);
        eprintln!("error-level log line: {event:?}");
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Starts counting; the result tells how many there were since.
pub(crate) fn errors_logged() -> impl Fn() -> usize {
    // Fails only when a story before this one has set it.
    drop(tracing::subscriber::set_global_default(Counter));
    let before = ERRORS.load(Ordering::SeqCst);
    move || ERRORS.load(Ordering::SeqCst) - before
}
