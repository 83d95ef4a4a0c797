//! The two numbers about webhooks.

use std::time::Duration;

use axum::http::HeaderMap;

/// What a webhook call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Duplicate,
    Unauthorized,
    Malformed,
    TooLarge,
    Unavailable,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Unauthorized => "unauthorized",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counts a call under its event.
pub(crate) fn delivery(event: &'static str, outcome: Outcome) {
    metrics::counter!("callboard_webhook_deliveries_total", "event" => event, "result" => outcome.label())
        .increment(1);
}

/// How long the answer took from the body's last byte on.
pub(crate) fn acknowledged(after: Duration) {
    metrics::histogram!("callboard_webhook_ack_seconds").record(after.as_secs_f64());
}

/// The event's name when GitHub documents it, else "other": the header comes from anybody,
/// and every new name would be a new time series.
pub(crate) fn event_label(headers: &HeaderMap) -> &'static str {
    let name = headers.get("x-github-event").and_then(|value| value.to_str().ok()).unwrap_or_default();
    EVENTS.iter().find(|known| **known == name).copied().unwrap_or("other")
}

const EVENTS: [&str; 73] = [
    "branch_protection_configuration",
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "create",
    "custom_property",
    "custom_property_values",
    "delete",
    "dependabot_alert",
    "deploy_key",
    "deployment",
    "deployment_protection_rule",
    "deployment_review",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "github_app_authorization",
    "gollum",
    "installation",
    "installation_repositories",
    "installation_target",
    "issue_comment",
    "issue_dependencies",
    "issues",
    "label",
    "marketplace_purchase",
    "member",
    "membership",
    "merge_group",
    "meta",
    "milestone",
    "org_block",
    "organization",
    "package",
    "page_build",
    "personal_access_token_request",
    "ping",
    "project",
    "project_card",
    "project_column",
    "projects_v2",
    "projects_v2_item",
    "projects_v2_status_update",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "push",
    "registry_package",
    "release",
    "repository",
    "repository_advisory",
    "repository_dispatch",
    "repository_import",
    "repository_ruleset",
    "repository_vulnerability_alert",
    "secret_scanning_alert",
    "secret_scanning_alert_location",
    "security_advisory",
    "security_and_analysis",
    "sponsorship",
    "star",
    "status",
    "sub_issues",
    "team",
    "team_add",
    "watch",
    "workflow_job",
    "workflow_run",
];
