//! `callboard outbox …`

use domain::{
    ids::{EffectId, Id, RunId},
    outbox::Order,
    rights::Principal,
};
use proto::admin::{EffectActionResponse, OutboxEffect, list_effects_request};
use tonic::Status;

use super::views::text;
use crate::{
    App,
    publishing::{self, Listed, OutboxError, Wanted},
    serving::internal,
};

impl From<OutboxError> for Status {
    fn from(error: OutboxError) -> Self {
        match &error {
            OutboxError::NoSuchEffect(_) => Self::not_found(error.to_string()),
            OutboxError::Refused(_) => Self::failed_precondition(error.to_string().trim().to_owned()),
            OutboxError::Run(inner) => internal("admin.outbox", inner),
            OutboxError::Database(inner) => internal("admin.outbox", inner),
        }
    }
}

fn view(effect: Listed) -> OutboxEffect {
    let at =
        effect.number.map_or_else(|| effect.repository.clone(), |n| format!("{}#{n}", effect.repository));
    OutboxEffect {
        id: effect.effect_id.to_string(),
        kind: effect.kind,
        state: effect.state,
        at,
        run_id: effect.run_id.map(|id| RunId::from_uuid(id).to_string()).unwrap_or_default(),
        tries: u32::try_from(effect.tries).unwrap_or_default(),
        created_at: text(Some(effect.created_at)),
        tried_at: text(effect.tried_at),
        available_at: text(Some(effect.available_at)),
        last_error: effect.last_error.unwrap_or_default(),
        result_url: effect.result_url.unwrap_or_default(),
    }
}

/// The newest effects of that kind.
pub(super) async fn list(
    app: &App,
    wanted: list_effects_request::Wanted,
) -> Result<Vec<OutboxEffect>, Status> {
    let wanted = match wanted {
        list_effects_request::Wanted::Dead => Wanted::Dead,
        list_effects_request::Wanted::Pending => Wanted::Pending,
        list_effects_request::Wanted::All => Wanted::All,
    };
    let listed = publishing::list_outbox(&app.db, wanted).await.map_err(|e| internal("admin.outbox", &e))?;
    Ok(listed.into_iter().map(view).collect())
}

/// Tries an effect again that was given up, or drops it.
pub(super) async fn order(
    app: &App,
    principal: &Principal,
    order: Order,
    id: &str,
) -> Result<EffectActionResponse, Status> {
    let id: EffectId = id
        .parse()
        .map_err(|e| Status::invalid_argument(format!("{e}; `callboard outbox list` shows the ids")))?;
    let done = publishing::obey(app, principal, order, id).await?;
    Ok(EffectActionResponse {
        run_id: done.run.map(|run| run.to_string()).unwrap_or_default(),
        message: done.message,
    })
}
