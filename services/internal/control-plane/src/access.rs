//! Who may call what between our services: methods × roles, the same in one process.

use std::{path::Path, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use domain::ids::{Id, WorkerId};
use secrecy::{ExposeSecret, SecretString};
use telemetry::{
    identity::{Identity, Role, Subject, claimed_subject, verify_service},
    signing::VerifyingKey,
};
use tonic::Status;

use crate::App;

/// Every internal method and the one role that may call it. What is not here cannot be
/// called.
pub const METHODS: &[(&str, Role)] = &[
    ("/callboard.v1.IngestService/Sources", Role::ApiGateway),
    ("/callboard.v1.IngestService/StoreDelivery", Role::ApiGateway),
    ("/callboard.v1.WorkerService/Lease", Role::Worker),
    ("/callboard.v1.WorkerService/Adopt", Role::Worker),
    ("/callboard.v1.WorkerService/Judge", Role::Worker),
    ("/callboard.v1.WorkerService/Heartbeat", Role::Worker),
    ("/callboard.v1.WorkerService/Directives", Role::Worker),
    ("/callboard.v1.WorkerService/Report", Role::Worker),
    ("/callboard.v1.AttemptService/Keys", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Authorize", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Assignment", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Transcript", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Return", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Checkpoint", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Restore", Role::AgentGateway),
    ("/callboard.v1.AttemptService/Afresh", Role::AgentGateway),
    ("/callboard.v1.AttemptService/GitFetch", Role::AgentGateway),
];

/// May a service of this role call this method?
pub(crate) fn allowed(method: &str, role: Role) -> bool {
    METHODS.iter().any(|(name, only)| *name == method && *only == role)
}

/// Proof that a call comes from an enrolled worker: made by [`check`] and nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(Subject);

impl Caller {
    /// The worker behind a call.
    pub(crate) fn worker<T>(request: &tonic::Request<T>) -> Result<WorkerId, Status> {
        match request.extensions().get::<Self>() {
            Some(Self(Subject::Worker(id))) => Ok(*id),
            Some(Self(Subject::ApiGateway | Subject::AgentGateway)) | None => {
                Err(Status::permission_denied("workers only"))
            }
        }
    }
}

/// What the check needs.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    app: Arc<App>,
    api_gateway: VerifyingKey,
    agent_gateway: VerifyingKey,
}

impl Access {
    /// Reads the gateways' identities from `folder`, making them at the first start.
    pub(crate) fn new(app: Arc<App>, folder: &Path) -> anyhow::Result<Self> {
        let key = |name: &str, subject| -> anyhow::Result<VerifyingKey> {
            let path = folder.join(format!("{name}.json"));
            if !path.exists() {
                Identity::generate(subject).save(&path)?;
            }
            Ok(Identity::load(&path)?.public())
        };
        Ok(Self {
            api_gateway: key("api-gateway", Subject::ApiGateway)?,
            agent_gateway: key("agent-gateway", Subject::AgentGateway)?,
            app,
        })
    }

    async fn key_of(&self, subject: Subject) -> Result<Option<VerifyingKey>, Status> {
        match subject {
            Subject::ApiGateway => Ok(Some(self.api_gateway)),
            Subject::AgentGateway => Ok(Some(self.agent_gateway)),
            Subject::Worker(id) => {
                let key =
                    sqlx::query_scalar!("select public_key from workers where worker_id = $1", id.uuid())
                        .fetch_optional(&self.app.db)
                        .await
                        .map_err(|e| crate::serving::internal("access.worker_key", &e))?;
                Ok(key.as_deref().and_then(VerifyingKey::from_bytes))
            }
        }
    }

    async fn prove(&self, token: Option<&str>, method: &str) -> Result<Caller, Status> {
        let denied = || Status::unauthenticated("a service identity is required");
        let token = token.ok_or_else(denied)?;
        let subject = claimed_subject(token).map_err(|_| denied())?;
        let key = self.key_of(subject).await?.ok_or_else(denied)?;
        verify_service(token, subject, &key, self.app.clock.now()).map_err(|_| denied())?;
        if allowed(method, subject.role()) {
            Ok(Caller(subject))
        } else {
            Err(Status::permission_denied("this service may not call this method"))
        }
    }
}

/// Runs before every internal method.
pub(crate) async fn check(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let method = request.uri().path().to_owned();
    let header = request.headers().get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token: Option<SecretString> = header.and_then(|v| v.strip_prefix("Bearer ")).map(Into::into);
    match access.prove(token.as_ref().map(SecretString::expose_secret), &method).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(status) => {
            tracing::warn!(method, reason = status.message(), "internal call refused");
            status.into_http::<axum::body::Body>().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is the contract: a new method or a changed cell shows up here.
    #[test]
    fn methods_by_role() {
        let mut table = String::new();
        for (method, _) in METHODS {
            let row: Vec<&str> =
                Role::ALL.iter().map(|r| if allowed(method, *r) { "yes" } else { "-" }).collect();
            table.push_str(&format!(
                "{:<45} {}\n",
                method.trim_start_matches("/callboard.v1."),
                row.join(" ")
            ));
        }
        insta::assert_snapshot!(table);
        assert!(!allowed("/callboard.v1.WorkerService/Unknown", Role::Worker));
        assert!(!allowed("/callboard.admin.v1.AdminService/ListRuns", Role::Worker));
    }
}
