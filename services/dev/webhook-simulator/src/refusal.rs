//! GitHub's way to say no: status, message and, for 422, a list of errors.

use axum::response::{AppendHeaders, IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

/// An error answer of the REST API.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{status}: {message}{}", words(errors))]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
    errors: Vec<Value>,
    /// Where to ask instead.
    location: Option<String>,
}

/// The errors' own sentences.
fn words(errors: &[Value]) -> String {
    let sentence = |error: &Value| {
        let message = error.as_str().or_else(|| error["message"].as_str()).map(str::to_owned);
        let field = || Some(format!("{} {}", error["field"].as_str()?, error["code"].as_str()?));
        message.or_else(field)
    };
    errors.iter().filter_map(sentence).map(|sentence| format!(": {sentence}")).collect()
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: Vec::new(), location: None }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    /// It has another address now: 301 for reading, 307 for writing.
    pub(crate) fn moved(reads: bool, location: String) -> Self {
        let status = if reads { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
        Self { location: Some(location), ..Self::new(status, "Moved Permanently") }
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Requires authentication")
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 422 with nothing but a message, as the Git data endpoints answer.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 422 about one field; `code` is `missing`, `missing_field`, `invalid` or `already_exists`.
    pub(crate) fn invalid(resource: &str, field: &str, code: &str) -> Self {
        Self::validation(json!({ "resource": resource, "field": field, "code": code }))
    }

    /// 422 with a sentence of its own.
    pub(crate) fn custom(resource: &str, message: &str) -> Self {
        Self::validation(json!({ "resource": resource, "code": "custom", "message": message }))
    }

    /// 422 whose errors are one sentence, as reviews answer.
    pub(crate) fn errors(sentence: &str) -> Self {
        Self { errors: vec![json!(sentence)], ..Self::unprocessable("Unprocessable Entity") }
    }

    /// 422 with one error object.
    pub(crate) fn validation(error: Value) -> Self {
        Self { errors: vec![error], ..Self::unprocessable("Validation Failed") }
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "the stand-in itself failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({
            "message": self.message,
            "documentation_url": "https://docs.github.com/rest",
        });
        // The description has it for every other error.
        if self.status != StatusCode::UNPROCESSABLE_ENTITY {
            body["status"] = json!(self.status.as_str());
        }
        if !self.errors.is_empty() {
            body["errors"] = Value::Array(self.errors);
        }
        if let Some(location) = &self.location {
            body["url"] = json!(location);
        }
        let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
        let to = self.location.map(|location| [(header::LOCATION, location)]);
        (self.status, kind, to.map(AppendHeaders), body.to_string()).into_response()
    }
}
