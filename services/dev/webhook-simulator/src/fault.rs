//! Requests that go wrong as a test says.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use crate::{refusal::Refusal, world::World};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the connection is cut before the answer.
    LoseAnswer,
    /// It is not done, and answered with this status.
    Refuse(u16),
}

/// A fault that is still to happen.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    fault: Fault,
    /// `POST /repos/{owner}/{repo}/pulls`
    request: String,
    left: u32,
}

impl Scripted {
    pub(crate) fn new(fault: Fault, request: &str, times: u32) -> Self {
        Self { fault, request: request.to_owned(), left: times }
    }
}

impl World {
    /// What is to go wrong with this request, which uses it up.
    pub(crate) fn next_fault(&mut self, method: &str, template: &str) -> Option<Fault> {
        let request = format!("{method} {template}");
        let scripted = self.faults.iter_mut().find(|s| s.left > 0 && s.request == request)?;
        scripted.left -= 1;
        Some(scripted.fault)
    }
}

/// The answer of [`Fault::Refuse`].
pub(crate) fn refusal(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Refusal::new(status, "Scripted by a test").into_response()
}

/// An answer that breaks off: the server gives the connection up in the middle of it.
pub(crate) fn broken_off() -> Response {
    let cut = futures::stream::once(async { Err::<&str, _>(std::io::Error::other("cut, as a test says")) });
    Response::new(Body::from_stream(cut))
}
