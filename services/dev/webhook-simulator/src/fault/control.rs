//! `/_stand-in/faults`: scripts from other processes.

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DeliveryFault, Script};
use crate::Simulator;

pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/faults", get(list).post(script).delete(heal))
        .route("/faults/deliveries", post(delivery))
}

async fn list(State(simulator): State<Simulator>) -> Json<Vec<Script>> {
    Json(simulator.scripts())
}

async fn script(State(simulator): State<Simulator>, Json(script): Json<Script>) -> Json<Script> {
    simulator.script(script.clone());
    Json(script)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDeliveryFault {
    fault: DeliveryFault,
    #[serde(default = "super::any")]
    event: String,
    #[serde(default = "super::once")]
    times: u32,
}

async fn delivery(State(simulator): State<Simulator>, Json(new): Json<NewDeliveryFault>) -> Json<Value> {
    simulator.fault_delivery(new.fault, &new.event, new.times);
    Json(json!({ "event": new.event }))
}

async fn heal(State(simulator): State<Simulator>) -> StatusCode {
    simulator.heal();
    StatusCode::NO_CONTENT
}
