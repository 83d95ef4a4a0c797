//! Which agent an attempt gets, and with which model.

use domain::stage::Reasoning;
use proto::v1::{AgentSpec, agent_spec::Kind};

use super::store::Run;
use crate::{AgentKind, App};

/// The model of a run: what a label asked for, else the stage's, else the operator's; empty when
/// the agent needs none.
pub(super) fn model<'r>(app: &'r App, run: &'r Run) -> &'r str {
    run.model.as_deref().or(run.definition.model.as_deref()).unwrap_or(&app.agents.model)
}

/// The agent of a run's attempts.
pub(super) fn spec(app: &App, run: &Run) -> AgentSpec {
    let reasoning = run.reasoning.or(run.definition.reasoning);
    AgentSpec {
        kind: match app.agents.kind {
            AgentKind::Command => Kind::Command,
            AgentKind::Codex => Kind::Codex,
        }
        .into(),
        argv: app.agents.argv.clone(),
        model: model(app, run).to_owned(),
        reasoning: reasoning.map(Reasoning::as_str).unwrap_or_default().to_owned(),
    }
}
