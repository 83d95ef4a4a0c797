//! What an event leads to: one pure function for every channel.

mod release;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use release::decide_release;

use crate::{
    label::TriggerLabel,
    names::RepositoryName,
    neutralise::neutralise_line,
    rights::{Action, Denied, Permission, Principal, authorise},
    stage::{SecondTrigger, Stages},
};

/// An account as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub login: String,
    /// True for apps and bots, as the code host says.
    pub is_bot: bool,
}

/// What happened, as far as decisions care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A label was put on an issue.
    IssueLabeled {
        /// Issue number.
        issue: u64,
        /// The label.
        label: String,
        /// True when the issue is open.
        open: bool,
    },
    /// A label was put on a pull request.
    PullRequestLabeled {
        /// Pull request number.
        number: u64,
        /// The label.
        label: String,
        /// True when its head lives in another repository.
        from_fork: bool,
    },
    /// An event we know and do nothing with, or do not know at all.
    Other,
}

impl Happening {
    /// The issue or pull request it is about.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::IssueLabeled { issue: number, .. } | Self::PullRequestLabeled { number, .. } => {
                Some(*number)
            }
            Self::Other => None,
        }
    }

    /// The label it is about.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::IssueLabeled { label, .. } | Self::PullRequestLabeled { label, .. } => Some(label),
            Self::Other => None,
        }
    }
}

/// One event from the code host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Name of the event, "issues".
    pub name: String,
    /// Its action, "labeled".
    pub action: Option<String>,
    /// Repository in the body.
    pub repository: Option<RepositoryName>,
    /// App installation in the body.
    pub installation: Option<u64>,
    /// Who did it.
    pub actor: Option<Account>,
    /// What it was.
    pub happening: Happening,
}

/// Why nothing was done. The names are stable: people filter by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Started a run.
    TriggerLabel,
    /// A person asked for it by command line.
    CommandLine,
    /// We take note of this event and do nothing with it.
    EventNotUsed,
    /// The body names a repository or installation that is not this source's.
    SourceMismatch,
    /// The body does not say which repository.
    NoRepository,
    /// The body is JSON, but not the shape its event has.
    UnreadablePayload,
    /// The label does not trigger anything.
    LabelNotATrigger,
    /// `run:<stage>` with a stage that does not exist.
    UnknownStage,
    /// The body does not say who did it.
    NoActor,
    /// A bot set the label.
    BotActor,
    /// The account has less than write permission.
    NoWritePermission,
    /// The code host did not tell what the account may do.
    PermissionUnknown,
    /// The head lives in a fork.
    ForkHead,
    /// `run:*` was put on a pull request instead of an issue.
    NotOnPullRequests,
    /// The issue is closed.
    IssueClosed,
    /// A run of this issue is under way.
    RunUnderWay,
    /// The run is over already.
    RunIsFinal,
    /// The run is not over yet.
    RunNotFinal,
    /// Nothing of the run is held.
    RunNotHeld,
    /// The changeset was refused for good.
    ChangesetRefused,
    /// The account may not release what is held.
    NoReleaseRight,
    /// A change of ours came back as an event.
    OwnEffect,
    /// The repository is no longer in the configuration.
    RepositoryDisabled,
}

impl Reason {
    /// The stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::TriggerLabel => "trigger_label",
            Self::CommandLine => "command_line",
            Self::EventNotUsed => "event_not_used",
            Self::SourceMismatch => "source_mismatch",
            Self::NoRepository => "no_repository",
            Self::UnreadablePayload => "unreadable_payload",
            Self::LabelNotATrigger => "label_not_a_trigger",
            Self::UnknownStage => "unknown_stage",
            Self::NoActor => "no_actor",
            Self::BotActor => "bot_actor",
            Self::NoWritePermission => "no_write_permission",
            Self::PermissionUnknown => "permission_unknown",
            Self::ForkHead => "fork_head",
            Self::NotOnPullRequests => "not_on_pull_requests",
            Self::IssueClosed => "issue_closed",
            Self::RunUnderWay => "run_under_way",
            Self::RunIsFinal => "run_is_final",
            Self::RunNotFinal => "run_not_final",
            Self::RunNotHeld => "run_not_held",
            Self::ChangesetRefused => "changeset_refused",
            Self::NoReleaseRight => "no_release_right",
            Self::OwnEffect => "own_effect",
            Self::RepositoryDisabled => "repository_disabled",
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start a run of a stage on an issue.
    Start {
        /// The stage.
        stage: String,
        /// The issue.
        issue: u64,
        /// The label that asked for it, to be taken off; none for a retry.
        label: Option<String>,
    },
    /// Cancel a run.
    Cancel,
    /// Publish a run's held changeset.
    Release,
    /// Nothing, and nobody needs a word about it.
    Ignore,
    /// Nothing, and the person who asked is told why.
    Reject {
        /// Issue or pull request to tell it on.
        on: Option<u64>,
        /// The label that asked for it, to be taken off.
        label: Option<String>,
    },
}

/// A decision with its grounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What to do.
    pub decision: Decision,
    /// Stable code.
    pub reason: Reason,
    /// The rule, one sentence for people.
    pub rule: String,
    /// What to do next, one sentence for people; empty when nothing is to be done.
    pub remedy: String,
}

impl Decided {
    fn new(decision: Decision, reason: Reason, rule: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { decision, reason, rule: rule.into(), remedy: remedy.into() }
    }

    /// Nothing to do and nobody to tell.
    pub fn ignore(reason: Reason, rule: impl Into<String>) -> Self {
        Self::new(Decision::Ignore, reason, rule, "")
    }

    /// The stable name of the decision.
    pub fn kind(&self) -> &'static str {
        match self.decision {
            Decision::Start { .. } => "start",
            Decision::Cancel => "cancel",
            Decision::Release => "release",
            Decision::Ignore => "ignore",
            Decision::Reject { .. } => "reject",
        }
    }
}

/// What the platform knows when it decides.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Stages of the project.
    pub stages: &'a Stages,
    /// What the actor may do, asked for this decision. `None`: not asked, or no answer.
    pub permission: Option<Permission>,
    /// A run of the same issue that is not over.
    pub run_under_way: Option<RunUnderWay>,
    /// True when the event is the echo of an effect of ours.
    pub own_effect: bool,
    /// False when the repository is no longer in the configuration.
    pub repository_enabled: bool,
}

/// The run that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunUnderWay {
    /// Its id, for the sentence.
    pub id: String,
    /// Its stage, for the sentence.
    pub stage: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Whether deciding on this event takes the actor's permission, so that the code host is
/// asked for events that could start something and for no others.
pub fn needs_permission(event: &Event, stages: &Stages) -> bool {
    let Happening::IssueLabeled { label, open: true, .. } = &event.happening else { return false };
    let known = match TriggerLabel::parse(label) {
        Some(TriggerLabel::Run(stage)) => stages.get(&stage).is_some(),
        None => false,
    };
    known && event.actor.as_ref().is_some_and(|a| !a.is_bot)
}

/// What an event leads to.
pub fn decide(event: &Event, facts: &Facts<'_>) -> Decided {
    match &event.happening {
        Happening::Other => Decided::ignore(Reason::EventNotUsed, "Only labels on issues start something."),
        Happening::PullRequestLabeled { number, label, from_fork } => {
            if TriggerLabel::parse(label).is_none() {
                return not_a_trigger(label);
            }
            let reject = Decision::Reject { on: told(event, *number), label: Some(label.clone()) };
            if *from_fork {
                Decided::new(
                    reject,
                    Reason::ForkHead,
                    "The head of this pull request lives in a fork, and code from forks is never run with this repository's rights.",
                    "Open an issue in this repository and label that.",
                )
            } else {
                Decided::new(
                    reject,
                    Reason::NotOnPullRequests,
                    format!("`{}` starts from an issue, not from a pull request.", for_people(label)),
                    "Put the label on the issue that describes the work.",
                )
            }
        }
        Happening::IssueLabeled { issue, label, open } => {
            let Some(TriggerLabel::Run(stage)) = TriggerLabel::parse(label) else {
                return not_a_trigger(label);
            };
            decide_start(event, facts, *issue, label, &stage, *open)
        }
    }
}

fn not_a_trigger(label: &str) -> Decided {
    Decided::ignore(
        Reason::LabelNotATrigger,
        format!("The label `{}` does not start anything.", for_people(label)),
    )
}

/// Labels come from outside; at most 60 harmless characters of them go into a sentence.
fn for_people(text: &str) -> String {
    neutralise_line(text, 60)
}

/// People are told on the issue; bots are not, lest two of them talk to each other for ever.
fn told(event: &Event, number: u64) -> Option<u64> {
    event.actor.as_ref().is_some_and(|a| !a.is_bot).then_some(number)
}

fn decide_start(
    event: &Event,
    facts: &Facts<'_>,
    issue: u64,
    label: &str,
    stage_name: &str,
    open: bool,
) -> Decided {
    let reject = |reason, rule: String, remedy: String| {
        Decided::new(
            Decision::Reject { on: told(event, issue), label: Some(label.to_owned()) },
            reason,
            rule,
            remedy,
        )
    };
    if facts.own_effect {
        return Decided::ignore(Reason::OwnEffect, "A change made by the platform never starts a run.");
    }
    let Some(actor) = &event.actor else {
        return Decided::ignore(Reason::NoActor, "The event does not say who set the label.");
    };
    if actor.is_bot {
        return reject(
            Reason::BotActor,
            format!("`{}` is a bot, and bots do not start runs.", for_people(&actor.login)),
            "A person with write permission can set the label.".to_owned(),
        );
    }
    let Some(stage) = facts.stages.get(stage_name) else {
        return reject(
            Reason::UnknownStage,
            format!("There is no stage `{}`.", for_people(stage_name)),
            format!(
                "Stages here: {}.",
                facts.stages.names().iter().map(|n| format!("`run:{n}`")).collect::<Vec<_>>().join(", ")
            ),
        );
    };
    if !open {
        return reject(
            Reason::IssueClosed,
            "The issue is closed.".to_owned(),
            format!("Reopen it and set `{label}` again."),
        );
    }
    let principal =
        Principal::ForgeAccount { login: actor.login.clone(), permission: facts.permission, role: None };
    match authorise(&principal, Action::Start) {
        Ok(()) => {}
        Err(Denied::PermissionUnknown) => {
            return reject(
                Reason::PermissionUnknown,
                format!(
                    "It could not be learnt what `{}` may do here, and nothing starts on a guess.",
                    for_people(&actor.login)
                ),
                format!(
                    "Try again in a minute: take `{label}` off and set it again. If it stays so, the platform's token lacks the right to read collaborators."
                ),
            );
        }
        Err(Denied::TooLittle { has, needs }) => {
            return reject(
                Reason::NoWritePermission,
                format!(
                    "Starting a run takes {needs} permission on the repository; `{}` has {has}.",
                    for_people(&actor.login)
                ),
                "Ask somebody with write permission to set the label.".to_owned(),
            );
        }
        Err(Denied::OperatorOnly) => {
            return reject(
                Reason::NoWritePermission,
                "Only the platform's operator may do this.".to_owned(),
                String::new(),
            );
        }
    }
    if let Some(run) = &facts.run_under_way {
        match stage.second_trigger {
            SecondTrigger::Refuse => {
                return reject(
                    Reason::RunUnderWay,
                    format!(
                        "A `{}` run of this issue is under way since {} (run `{}`).",
                        run.stage,
                        run.since.format("%Y-%m-%d %H:%M UTC"),
                        run.id
                    ),
                    format!(
                        "Wait for it, or end it with `callboard run cancel {}` and set `{label}` again.",
                        run.id
                    ),
                );
            }
        }
    }
    Decided::new(
        Decision::Start { stage: stage_name.to_owned(), issue, label: Some(label.to_owned()) },
        Reason::TriggerLabel,
        format!(
            "`{label}` set by `{}`, who has {} permission.",
            for_people(&actor.login),
            facts.permission.map_or_else(String::new, |p| p.to_string())
        ),
        "",
    )
}

/// What a person's `run retry` of a finished run leads to.
///
/// `run_is_final` is the state of the run that is to be retried.
pub fn decide_retry(
    principal: &Principal,
    facts: &Facts<'_>,
    run_is_final: bool,
    issue: u64,
    stage: &str,
) -> Decided {
    let reject = |reason, rule: String, remedy: &str| {
        Decided::new(Decision::Reject { on: None, label: None }, reason, rule, remedy)
    };
    if authorise(principal, Action::Start).is_err() {
        return reject(
            Reason::NoWritePermission,
            "Starting a run takes write permission on the repository.".to_owned(),
            "",
        );
    }
    if !facts.repository_enabled {
        let rule = "The repository is no longer in the configuration.".to_owned();
        return reject(Reason::RepositoryDisabled, rule, "Put it back under `projects:` first.");
    }
    if !run_is_final {
        return reject(
            Reason::RunNotFinal,
            "The run is not over.".to_owned(),
            "Wait for it, or cancel it first.",
        );
    }
    if facts.stages.get(stage).is_none() {
        return reject(Reason::UnknownStage, format!("There is no stage `{stage}` any more."), "");
    }
    if let Some(run) = &facts.run_under_way {
        return reject(
            Reason::RunUnderWay,
            format!("Run {} of the same issue is under way.", run.id),
            "Wait for it, or cancel it first.",
        );
    }
    Decided::new(
        Decision::Start { stage: stage.to_owned(), issue, label: None },
        Reason::CommandLine,
        format!("Retried by {}.", principal.name()),
        "",
    )
}

/// What a person's `run cancel` leads to.
pub fn decide_cancel(principal: &Principal, run_is_final: bool) -> Decided {
    let reject = |reason, rule: &str, remedy: &str| {
        Decided::new(Decision::Reject { on: None, label: None }, reason, rule, remedy)
    };
    if authorise(principal, Action::Cancel).is_err() {
        return reject(
            Reason::NoWritePermission,
            "Cancelling takes triage permission or the operator role.",
            "",
        );
    }
    if run_is_final {
        return reject(
            Reason::RunIsFinal,
            "The run is over already.",
            "`callboard run retry` starts it again.",
        );
    }
    Decided::new(Decision::Cancel, Reason::CommandLine, format!("Cancelled by {}.", principal.name()), "")
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labeled(label: &str, actor: &str, is_bot: bool, open: bool) -> Event {
        Event {
            name: "issues".to_owned(),
            action: Some("labeled".to_owned()),
            repository: "octocat/hello-world".parse().ok(),
            installation: None,
            actor: Some(Account { login: actor.to_owned(), is_bot }),
            happening: Happening::IssueLabeled { issue: 7, label: label.to_owned(), open },
        }
    }

    fn facts(stages: &Stages, permission: Option<Permission>) -> Facts<'_> {
        Facts { stages, permission, run_under_way: None, own_effect: false, repository_enabled: true }
    }

    #[test]
    fn what_people_read() {
        let stages = Stages::built_in();
        let busy = Facts {
            run_under_way: Some(RunUnderWay {
                id: "0198".to_owned(),
                stage: "dev".to_owned(),
                since: DateTime::UNIX_EPOCH,
            }),
            ..facts(&stages, Some(Permission::Write))
        };
        let mut out = String::new();
        for (event, facts) in [
            (labeled("run:dev", "mona", false, true), facts(&stages, Some(Permission::Write))),
            (labeled("run:dev", "reader", false, true), facts(&stages, Some(Permission::Read))),
            (labeled("run:dev", "mona", false, true), facts(&stages, None)),
            (labeled("run:dev", "helper[bot]", true, true), facts(&stages, Some(Permission::Write))),
            (labeled("run:deploy", "mona", false, true), facts(&stages, Some(Permission::Write))),
            (labeled("run:dev", "mona", false, false), facts(&stages, Some(Permission::Write))),
            (labeled("bug", "mona", false, true), facts(&stages, None)),
            (labeled("run:dev", "mona", false, true), busy),
        ] {
            let d = decide(&event, &facts);
            out.push_str(&format!("{} {}\n  {}\n  {}\n", d.kind(), d.reason.code(), d.rule, d.remedy));
        }
        insta::assert_snapshot!(out);
    }

    proptest! {
        /// Whatever the label and whoever the actor: without a known permission of at least
        /// write, by a person, on an open issue, nothing starts.
        #[test]
        fn nothing_starts_without_write(
            label in "(run:dev|run:x|bug|run:|.{0,80})",
            is_bot: bool,
            open: bool,
            own_effect: bool,
            permission in proptest::option::of(proptest::sample::select(vec![
                Permission::None, Permission::Read, Permission::Triage, Permission::Write, Permission::Maintain, Permission::Admin])),
        ) {
            let stages = Stages::built_in();
            let event = labeled(&label, "someone", is_bot, open);
            let decided = decide(&event, &Facts { own_effect, ..facts(&stages, permission) });
            if matches!(decided.decision, Decision::Start { .. }) {
                prop_assert!(permission.is_some_and(|p| p >= Permission::Write));
                prop_assert!(!is_bot && open && !own_effect && label.trim() == "run:dev");
                prop_assert!(needs_permission(&event, &stages));
            }
        }
    }
}
