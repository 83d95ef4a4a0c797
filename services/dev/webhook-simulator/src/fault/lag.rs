//! Lists that do not show yet what was made.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::answers::whole;
use crate::{Simulator, world::World};

/// Lists that lag; each item says when it was made.
const LISTS: [&str; 5] = ["comments", "pulls", "reviews", "check-runs", "statuses"];

/// The answer without what was made in the last so many milliseconds.
pub(super) async fn behind(simulator: &Simulator, template: &str, response: Response, ms: u64) -> Response {
    let is_list = template.rsplit('/').next().is_some_and(|last| LISTS.contains(&last));
    if !is_list || !response.status().is_success() {
        return response;
    }
    let now = simulator.read(World::now);
    let shown_until = now - TimeDelta::milliseconds(i64::try_from(ms).unwrap_or_default());
    let (parts, body) = whole(response).await;
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else {
        return Response::from_parts(parts, Body::from(body));
    };
    let old = |item: &Value| made_at(item).is_none_or(|at| at <= shown_until);
    match &mut value {
        Value::Array(items) => items.retain(old),
        Value::Object(fields) => {
            if let Some(Value::Array(items)) = fields.get_mut("check_runs") {
                items.retain(old);
                let count = items.len();
                fields.insert("total_count".to_owned(), count.into());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    (parts.status, parts.headers, value.to_string()).into_response()
}

fn made_at(item: &Value) -> Option<DateTime<Utc>> {
    let at = ["created_at", "submitted_at", "started_at"].iter().find_map(|field| item[*field].as_str())?;
    at.parse().ok()
}
