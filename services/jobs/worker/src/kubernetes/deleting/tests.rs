use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::kubernetes::fixtures::{ApiServer, nothing};

const NAMESPACE: &str = "callboard-demo-374708ff";

#[tokio::test(start_paused = true)]
async fn a_namespace_that_was_not_seen_yet_is_not_empty() {
    let api = ApiServer::default();
    let (namespace, _writers, _queue) = Namespace::new(NAMESPACE, api.client(|_, _| None));
    let deleted = tokio::time::timeout(Duration::from_secs(300), delete(&namespace, "attempt-1", "u")).await;
    assert!(deleted.is_err(), "its place is not free: nobody knows whether its pod runs");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_watch_has_not_told_of_is_deleted_and_waited_for() {
    let api = ApiServer::default();
    let is_there = Arc::new(AtomicBool::new(true));
    let client = api.client(move |method, path| match (method, path.rsplit('/').next()) {
        ("GET", Some("jobs")) => Some((200, nothing())),
        ("GET", Some("pods")) if is_there.load(Ordering::Relaxed) => {
            let pod = json!({ "metadata": { "name": "attempt-1-x", "uid": "p" } });
            Some((200, json!({ "metadata": {}, "items": [pod] })))
        }
        ("GET", Some("pods")) => Some((200, nothing())),
        ("DELETE", Some("attempt-1-x")) => {
            is_there.store(false, Ordering::Relaxed);
            None
        }
        _ => None,
    });
    let (namespace, _writers) = Namespace::holding(client, NAMESPACE, &[], &[]);
    delete(&namespace, "attempt-1", "u").await;
    let pods = |call: &&String| call.contains("/pods");
    let asked = api.asked();
    let asked: Vec<_> = asked.iter().filter(pods).map(|call| call.replace(NAMESPACE, "N")).collect();
    assert_eq!(
        asked,
        [
            "GET /api/v1/namespaces/N/pods",
            "DELETE /api/v1/namespaces/N/pods/attempt-1-x",
            "GET /api/v1/namespaces/N/pods",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_leaves_it_open_whether_all_is_gone() {
    let api = ApiServer::default();
    let away = json!({ "kind": "Status", "status": "Failure", "message": "etcd is away", "code": 503 });
    let client = api.client(move |_, _| Some((503, away.clone())));
    let (namespace, _writers) = Namespace::holding(client, NAMESPACE, &[], &[]);
    let deleted = tokio::time::timeout(Duration::from_secs(30), delete(&namespace, "attempt-1", "u")).await;
    assert!(deleted.is_err());
}
