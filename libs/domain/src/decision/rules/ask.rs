//! Somebody asks for something: who, where, how, and how to tell them no.

use super::{Case, Verdict, for_people};
use crate::{
    decision::{Account, Decided, Decision, Facts, Reason, RepositoryStanding, Thread},
    rights::{Denied, Permission, Principal, authorise_start},
};

/// The way it was asked.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// A label was set.
    Label(String),
    /// A command, as it is written.
    Command(String),
    /// A review.
    Review,
    /// A comment in an open discussion.
    Comment,
}

/// Somebody asks for something.
pub(super) struct Ask<'a> {
    pub(super) actor: &'a Account,
    pub(super) on: &'a Thread,
    pub(super) how: How,
}

impl Case<'_> {
    /// The rules that come before every wish: it is not ours, somebody has it, the repository
    /// takes it, and bots only where they are listed.
    pub(super) fn ask<'a>(&mut self, on: &'a Thread, how: How) -> Verdict<Ask<'a>>
    where
        Self: 'a,
    {
        let facts = self.facts;
        self.not_ours()?;
        let actor = self.event.actor.as_ref();
        let name = actor.map(|actor| for_people(&actor.login)).unwrap_or_default();
        let found = if actor.is_some() { format!("`{name}`") } else { "it is not told who".to_owned() };
        let actor = self.trace.found("Somebody asked for it", found, actor, || {
            Decided::ignore(Reason::NoActor, "The event does not say who did it.")
        })?;
        standing(facts.repository, &mut self.trace)?;
        let ask = Ask { actor, on, how };
        let listed = facts.bots.contains(&actor.login.to_lowercase());
        let found = match (actor.is_bot, listed) {
            (false, _) => format!("`{name}` is a person"),
            (true, true) => format!("`{name}` is a bot the configuration lists"),
            (true, false) => format!("`{name}` is a bot"),
        };
        self.trace.rule("People ask, and bots the configuration lists", found, !actor.is_bot || listed, || {
            let rule = format!("`{name}` is a bot, and bots start nothing unless the configuration lists them.");
            let remedy = "A person with write permission can ask for it, or the operator lists the bot under `bots:`.";
            match &ask.how {
                How::Label(_) | How::Command(_) => ask.reject(Reason::BotActor, rule, remedy),
                How::Review | How::Comment => Decided::ignore(Reason::BotActor, rule),
            }
        })?;
        Ok(ask)
    }

    /// What the platform did itself asks for nothing.
    pub(super) fn not_ours(&mut self) -> Verdict<()> {
        let found = if self.facts.own_effect { "an effect of the platform" } else { "not one of ours" };
        self.trace.rule("It is not a change of the platform's own", found, !self.facts.own_effect, || {
            Decided::ignore(Reason::OwnEffect, "A change made by the platform never starts a run.")
        })
    }
}

/// Does the repository take changes?
pub(in crate::decision) fn standing(repository: RepositoryStanding, trace: &mut super::Trace) -> Verdict<()> {
    let (found, reason, rule, remedy) = match repository {
        RepositoryStanding::Enabled => {
            trace.note("The repository takes runs", "it is in the configuration");
            return Ok(());
        }
        RepositoryStanding::Disabled => (
            "it is not in the configuration",
            Reason::RepositoryDisabled,
            "The repository is no longer in the configuration.",
            "Put it back under `projects:` first.",
        ),
        RepositoryStanding::Archived => (
            "it is archived",
            Reason::RepositoryArchived,
            "The repository is archived.",
            "Take it out of the archive first.",
        ),
        RepositoryStanding::Gone => (
            "it was transferred or deleted",
            Reason::RepositoryGone,
            "The repository was transferred or deleted.",
            "Put its new name under `projects:`.",
        ),
        RepositoryStanding::NoAccess => (
            "the code host does not let the platform at it",
            Reason::RepositoryNoAccess,
            "The code host does not let the platform at this repository.",
            "`callboard check` says why and what to do; then set the label again.",
        ),
    };
    trace.stop("The repository takes runs", found, Decided::new(Decision::Ignore, reason, rule, remedy))
}

impl Ask<'_> {
    pub(super) fn label(&self) -> Option<&str> {
        match &self.how {
            How::Label(label) => Some(label),
            How::Command(_) | How::Review | How::Comment => None,
        }
    }

    /// How to ask once more, after "and".
    pub(super) fn again(&self) -> String {
        match &self.how {
            How::Label(label) => format!("set `{}` again", for_people(label)),
            How::Command(command) => format!("write `{}` again", for_people(command)),
            How::Review => "submit the review again".to_owned(),
            How::Comment => "comment again".to_owned(),
        }
    }

    /// How it was asked, at the beginning of a sentence.
    pub(super) fn asked(&self) -> String {
        let who = for_people(&self.actor.login);
        match &self.how {
            How::Label(label) => format!("`{}` set by `{who}`", for_people(label)),
            How::Command(command) => format!("`{}` written by `{who}`", for_people(command)),
            How::Review => format!("Changes requested by `{who}`"),
            How::Comment => format!("A comment of `{who}` in the open discussion"),
        }
    }

    /// What is asked for is not done, and who asked is told. Bots are not, lest two of them talk
    /// to each other for ever.
    pub(super) fn reject(
        &self,
        reason: Reason,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Decided {
        let told = !self.actor.is_bot;
        self.refuse(told, Vec::new(), reason, rule.into(), remedy.into())
    }

    /// The same, and nobody is told: it is in the records.
    pub(super) fn refuse_silently(
        &self,
        reason: Reason,
        rule: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Decided {
        self.refuse(false, Vec::new(), reason, rule.into(), remedy.into())
    }

    /// The same as [`Ask::reject`], with a label that says what is needed.
    pub(super) fn question(&self, need: String, reason: Reason, rule: String, remedy: String) -> Decided {
        self.refuse(!self.actor.is_bot, vec![need], reason, rule, remedy)
    }

    fn refuse(&self, told: bool, need: Vec<String>, reason: Reason, rule: String, remedy: String) -> Decided {
        let label = self.label().map(str::to_owned);
        let decision = Decision::Reject { on: told.then_some(self.on.number), label, need };
        Decided::new(decision, reason, rule, remedy)
    }

    pub(super) fn principal(&self, facts: &Facts<'_>) -> Principal {
        Principal::ForgeAccount {
            login: self.actor.login.clone(),
            permission: facts.permission,
            role: facts.role,
        }
    }

    /// What the asker has, for the trace.
    pub(super) fn has(&self, facts: &Facts<'_>) -> String {
        let who = for_people(&self.actor.login);
        let permission = facts
            .permission
            .map_or_else(|| "an unknown permission".to_owned(), |p| format!("{p} permission"));
        match facts.role {
            Some(role) => format!("`{who}` has {permission} and the project role {role}"),
            None => format!("`{who}` has {permission}"),
        }
    }

    /// May they start the stage, which takes at least `least`?
    pub(super) fn may_start(&self, case: &mut Case<'_>, stage: &str, least: Permission) -> Verdict<()> {
        let facts = case.facts;
        let judged = authorise_start(&self.principal(facts), least);
        case.trace.rule(
            &format!("Whoever asks has at least {} permission", least.max(Permission::Write)),
            self.has(facts),
            judged.is_ok(),
            || self.denied(&format!("Starting `{}`", for_people(stage)), judged.as_ref().err()),
        )
    }

    /// The words for a right that is not there. `what` begins the sentence.
    pub(super) fn denied(&self, what: &str, denied: Option<&Denied>) -> Decided {
        let who = for_people(&self.actor.login);
        match denied {
            Some(Denied::TooLittle { has, needs }) => self.reject(
                Reason::NoWritePermission,
                format!("{what} takes {needs} permission on the repository; `{who}` has {has}."),
                format!("Ask somebody with {needs} permission."),
            ),
            Some(Denied::PermissionUnknown) | None => self.reject(
                Reason::PermissionUnknown,
                format!("It could not be learnt what `{who}` may do here, and nothing happens on a guess."),
                format!(
                    "Wait a minute and {}. If it stays so, the platform's token lacks the right to read collaborators.",
                    self.again()
                ),
            ),
            Some(Denied::OperatorOnly) => self.reject(
                Reason::NoWritePermission,
                format!("{what} is for the platform's operator only."),
                "Ask the operator.",
            ),
        }
    }
}
