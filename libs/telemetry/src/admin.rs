//! The admin listener: `/healthz`, `/readyz`, `/metrics`, and nothing else.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The answer to "can you do your work now?": a line per part that cannot.
pub type Readiness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<String>> + Send>> + Send + Sync>;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// The process's metrics; installed by the first call.
///
/// # Panics
/// When another recorder was installed, which nothing in this workspace does.
pub fn metrics() -> PrometheusHandle {
    METRICS
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(
                    Matcher::Suffix("_seconds".to_owned()),
                    &[
                        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0,
                        3600.0,
                    ],
                )
                .and_then(PrometheusBuilder::install_recorder)
                .expect("no other metrics recorder is installed")
        })
        .clone()
}

/// The three paths.
pub fn router(readiness: Readiness) -> Router {
    let handle = metrics();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || {
                let readiness = Arc::clone(&readiness);
                async move {
                    let missing = readiness().await;
                    if missing.is_empty() {
                        (StatusCode::OK, "ready\n".to_owned()).into_response()
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
                    }
                }
            }),
        )
        .route(
            "/metrics",
            get(move || {
                let handle = handle.clone();
                async move {
                    handle.run_upkeep();
                    ([("content-type", "text/plain; version=0.0.4")], handle.render())
                }
            }),
        )
}
