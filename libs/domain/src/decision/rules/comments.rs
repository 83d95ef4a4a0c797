//! Comments: commands, and the next word in an open discussion.

use super::{
    Case, Verdict,
    ask::{Ask, How},
    for_people, labels,
    starts::{self, Wanted},
};
use crate::{
    command::{self, Command, NotACommand},
    decision::{Comment, Decided, Decision, Event, Question, Reason, Thread},
    rights::{Action, Denied, Permission, authorise},
    run::RunKind,
    stage::StageKind,
};

/// True when the event comes from whoever wrote the comment.
pub(super) fn by_its_author(event: &Event, comment: &Comment) -> bool {
    event.actor.as_ref().is_some_and(|actor| actor.login.eq_ignore_ascii_case(&comment.author))
}

pub(super) fn commented(case: &mut Case<'_>, on: &Thread, comment: &Comment) -> Verdict<Decided> {
    let own_words = by_its_author(case.event, comment);
    let found = format!("it is by `{}`", for_people(&comment.author));
    case.trace.rule("Whoever wrote the comment sent it", found, own_words, || {
        Decided::ignore(Reason::NoCommand, "The comment was not sent by whoever wrote it.")
    })?;
    match command::parse(&comment.body) {
        Some(said) => {
            let how = match &said {
                Ok(command) => How::Command(command.to_string()),
                Err(_) => How::Command("the command".to_owned()),
            };
            let ask = case.ask(on, how)?;
            commanded(case, &ask, said)
        }
        None => talked(case, on),
    }
}

fn commanded(case: &mut Case<'_>, ask: &Ask<'_>, said: Result<Command, NotACommand>) -> Verdict<Decided> {
    let facts = case.facts;
    // Anybody may comment on a public repository, and each answer is a comment of ours: a
    // stranger must not be able to make the platform write.
    let known = facts.role.is_some() || facts.permission.is_some_and(|has| has >= Permission::Triage);
    case.trace.rule("Whoever commands has triage permission or a role in the project", ask.has(facts), known, || {
        let who = for_people(&ask.actor.login);
        if facts.permission.is_none() {
            let rule = format!("It could not be learnt what `{who}` may do here, and strangers get no answer.");
            return ask.refuse_silently(Reason::PermissionUnknown, rule, "Write the command again in a minute.");
        }
        ask.refuse_silently(
            Reason::NoWritePermission,
            format!("Commands take triage permission on the repository or a role in the project; `{who}` has neither."),
            "Ask somebody who has it.",
        )
    })?;
    let rule = "The comment holds one command that reads";
    let command = match said {
        Ok(command) => command,
        Err(wrong) => return case.trace.stop(rule, "it does not read", unknown(ask, &wrong)),
    };
    case.trace.note(rule, format!("`{command}`"));
    match command {
        Command::Run { stage, revise: false } => labels::work(case, ask, &stage, Reason::CommentCommand),
        Command::Run { stage, revise: true } => labels::revise(case, ask, &stage, Reason::CommentCommand),
        Command::Cancel => cancel(case, ask),
        Command::Retry => retry(case, ask),
        Command::Status => answer(case, ask, Question::Status),
        Command::Explain => answer(case, ask, Question::Explain),
    }
}

fn unknown(ask: &Ask<'_>, wrong: &NotACommand) -> Decided {
    match wrong {
        NotACommand::Several => ask.reject(
            Reason::UnknownCommand,
            "The comment holds several commands, so none of them was done.",
            "Write one command in a comment.",
        ),
        NotACommand::Unknown { said, did_you_mean } => {
            let remedy = match did_you_mean {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => format!("Commands: {}.", super::listed(command::KNOWN)),
            };
            ask.reject(Reason::UnknownCommand, format!("`{}` is not a command.", for_people(said)), remedy)
        }
    }
}

fn cancel(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<Decided> {
    let facts = case.facts;
    let judged = authorise(&ask.principal(facts), Action::Cancel);
    let rule = "Whoever cancels has triage permission or the operator role";
    case.trace
        .rule(rule, ask.has(facts), judged.is_ok(), || ask.denied("Cancelling", judged.as_ref().err()))?;
    let run = facts.record.under_way.as_ref().or(facts.record.behind.as_ref());
    let found = run.map_or_else(|| "none is".to_owned(), |run| format!("run `{}` is", run.id));
    let run = case.trace.found("A run is under way", found, run, || {
        ask.reject(
            Reason::NoRun,
            "No run is under way here.",
            "`/callboard status` shows what was done; `/callboard retry` repeats the last run.",
        )
    })?;
    let rule = format!("{}.", ask.asked());
    Ok(Decided::new(Decision::Cancel { run: Some(run.id.clone()) }, Reason::CommentCommand, rule, ""))
}

fn retry(case: &mut Case<'_>, ask: &Ask<'_>) -> Verdict<Decided> {
    let last = case.facts.record.last_final.as_ref();
    let found =
        last.map_or_else(|| "there is none".to_owned(), |run| format!("run `{}` of `{}`", run.id, run.stage));
    let rule = "There is a run to repeat";
    let last = case.trace.found(rule, found, last, || {
        ask.reject(
            Reason::NoRun,
            "No run here is over yet, so none can be repeated.",
            "`/callboard run <stage>` starts one.",
        )
    })?;
    let labels = &case.facts.policy.labels;
    let from_issue = matches!(last.kind, RunKind::Work | RunKind::Discussion);
    let here = !from_issue || ask.on.pull.is_none();
    let found = if here { "it did" } else { "it started from the issue" };
    case.trace.rule("The run started here", found, here, || {
        let issue = case.facts.record.linked_issue.unwrap_or(ask.on.number);
        ask.reject(
            Reason::NotOnPullRequests,
            format!("The last run, of `{}`, started from issue #{issue}.", last.stage),
            format!("Write `/callboard retry` there, or set `{}` here.", labels.revise_label(&last.stage)),
        )
    })?;
    let over = last.kind == RunKind::Discussion && case.facts.record.discussion.is_none();
    let found = if over { "it is over" } else { "it is not the end of a discussion" };
    case.trace.rule("What it belongs to is not over", found, !over, || {
        let rule = "The last run was an answer in a discussion, and the discussion is over.";
        ask.reject(Reason::NoRun, rule, format!("Put `{}` on the issue to open another.", labels.discussion))
    })?;
    let wanted = Wanted {
        kind: last.kind,
        stage: &last.stage,
        issue: case.facts.record.linked_issue.unwrap_or(ask.on.number),
        pull: match last.kind {
            RunKind::Work | RunKind::Discussion => None,
            RunKind::Revise | RunKind::Review => last.pull,
        },
        retry_of: Some(last),
        reason: Reason::CommentCommand,
    };
    starts::start(case, ask, &wanted)
}

fn answer(case: &mut Case<'_>, ask: &Ask<'_>, question: Question) -> Verdict<Decided> {
    let facts = case.facts;
    let judged = authorise(&ask.principal(facts), Action::View);
    case.trace.rule("Whoever asks may see runs", ask.has(facts), judged.is_ok(), || {
        ask.denied("Seeing runs", judged.as_ref().err())
    })?;
    let rule = format!("{}.", ask.asked());
    Ok(Decided::new(Decision::Answer { number: ask.on.number, question }, Reason::CommentCommand, rule, ""))
}

/// A comment that is no command: the next word in a discussion, where one is open.
fn talked(case: &mut Case<'_>, on: &Thread) -> Verdict<Decided> {
    let facts = case.facts;
    let discussing = on.pull.is_none() && facts.record.discussion.is_some();
    let found = if discussing { "one is open" } else { "none is open" };
    case.trace.rule("The comment holds a command, or a discussion is open", found, discussing, || {
        Decided::ignore(Reason::NoCommand, "The comment holds no command.")
    })?;
    let ask = case.ask(on, How::Comment)?;
    let found = if on.open { "it is open" } else { "it is closed" };
    case.trace.rule("The issue is open", found, on.open, || {
        Decided::ignore(Reason::IssueClosed, "The issue is closed.")
    })?;
    let judged = crate::rights::authorise_start(&ask.principal(facts), Permission::Write);
    // Anybody may talk on an issue; only those who may start make the platform answer.
    case.trace.rule("Whoever talks has at least write permission", ask.has(facts), judged.is_ok(), || {
        if judged == Err(Denied::PermissionUnknown) {
            let who = for_people(&ask.actor.login);
            let rule =
                format!("It could not be learnt what `{who}` may do here, and strangers get no answer.");
            return Decided::ignore(Reason::PermissionUnknown, rule);
        }
        let rule = "In a discussion, the platform answers people with write permission.";
        Decided::ignore(Reason::NoWritePermission, rule)
    })?;
    let stage = starts::of_kind(facts.policy, StageKind::Discussion);
    let wanted = Wanted {
        kind: RunKind::Discussion,
        stage: &stage,
        issue: on.number,
        pull: None,
        retry_of: None,
        reason: Reason::DiscussionComment,
    };
    starts::start(case, &ask, &wanted)
}
