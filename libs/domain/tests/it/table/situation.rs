//! An event and everything that is known about it, in a few words each.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeZone, Utc};
use domain::{
    decision::{
        Account, Admission, ApprovalRecord, Comment, Decided, Event, Facts, Happening, Installation,
        InstallationChange, OpenDiscussion, Parameter, Pull, Reason, Record, RepositoryChange,
        RepositoryStanding, ResultRecord, Review, ReviewVerdict, RunRef, Thread, Told, decide,
    },
    names::CommitSha,
    rights::{Permission, ProjectRole},
    run::RunKind,
    stage::{Ceilings, Pod, Policy},
};

/// The issue and the pull request that rows are about.
pub(crate) const ISSUE: u64 = 7;
pub(crate) const PULL: u64 = 12;

/// A row of the table: what happens, what is known, and what must follow.
pub(crate) struct Row {
    pub(crate) situation: Situation,
    pub(crate) given: &'static str,
    pub(crate) does: &'static str,
    pub(crate) reason: Reason,
}

/// An event and what is known about it.
#[derive(Clone)]
pub(crate) struct Situation {
    pub(crate) when: String,
    happening: Happening,
    actor: Option<Account>,
    permission: Option<Permission>,
    role: Option<ProjectRole>,
    bots: BTreeSet<String>,
    own_effect: bool,
    told: Told,
    repository: RepositoryStanding,
    default_branch: Option<&'static str>,
    record: Record,
    admission: Admission,
    policy: Policy,
}

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 4, 12, 0, 0).single().expect("a point in time")
}

/// A commit of forty times the same digit.
pub(crate) fn commit(digit: char) -> CommitSha {
    digit.to_string().repeat(40).parse().expect("a commit")
}

pub(crate) fn run(id: &str, kind: RunKind, stage: &str) -> RunRef {
    RunRef {
        id: id.to_owned(),
        stage: stage.to_owned(),
        kind,
        since: noon(),
        actor: "mona".to_owned(),
        pull: (kind != RunKind::Work && kind != RunKind::Discussion).then_some(PULL),
        is_final: false,
    }
}

fn issue() -> Thread {
    Thread { number: ISSUE, open: true, author: "rio".to_owned(), labels: Vec::new(), pull: None }
}

fn pull() -> Thread {
    let pull = Pull {
        head: Some(commit('2')),
        branch: Some("callboard/7-dev".to_owned()),
        base: Some("main".to_owned()),
        from_fork: false,
        merged: false,
    };
    Thread { number: PULL, author: "callboard".to_owned(), pull: Some(pull), ..issue() }
}

fn situation(when: impl Into<String>, happening: Happening) -> Situation {
    let on_pull = happening.on().is_some_and(|on| on.pull.is_some());
    let record = Record { ours: on_pull, linked_issue: on_pull.then_some(ISSUE), ..Record::default() };
    Situation {
        when: when.into(),
        happening,
        actor: Some(Account { login: "mona".to_owned(), is_bot: false }),
        permission: Some(Permission::Write),
        role: None,
        bots: BTreeSet::new(),
        own_effect: false,
        told: Told::Delivered,
        repository: RepositoryStanding::Enabled,
        default_branch: Some("main"),
        record,
        admission: Admission::default(),
        policy: Policy::built_in(),
    }
}

/// A label is put on the issue.
pub(crate) fn labeled(label: &str) -> Situation {
    let on = Thread { labels: vec![label.to_owned()], ..issue() };
    situation(format!("`{label}` on an issue"), Happening::Labeled { on, label: label.to_owned() })
}
/// A label is put on the pull request, which is ours and for the issue.
pub(crate) fn labeled_pull(label: &str) -> Situation {
    let on = Thread { labels: vec![label.to_owned()], ..pull() };
    situation(format!("`{label}` on a pull request"), Happening::Labeled { on, label: label.to_owned() })
}
pub(crate) fn unlabeled(label: &str) -> Situation {
    situation(format!("`{label}` taken off"), Happening::Unlabeled { on: issue(), label: label.to_owned() })
}
pub(crate) fn commented(body: &str) -> Situation {
    comment(format!("`{}`", body.replace('\n', " ⏎ ").replace('`', "'")), issue(), body)
}
pub(crate) fn commented_pull(body: &str) -> Situation {
    comment(format!("`{body}` on a pull request"), pull(), body)
}
fn comment(when: String, on: Thread, body: &str) -> Situation {
    let comment = Comment { id: 5, author: "mona".to_owned(), body: body.to_owned(), created_at: noon() };
    situation(when, Happening::Commented { on, comment })
}
pub(crate) fn reviewed(verdict: ReviewVerdict) -> Situation {
    let when = match verdict {
        ReviewVerdict::Approved => "a review approves",
        ReviewVerdict::ChangesRequested => "a review requests changes",
        ReviewVerdict::Commented => "a review comments",
    };
    let review = Review { id: 3, author: "mona".to_owned(), verdict, commit: Some(commit('2')) };
    situation(when, Happening::Reviewed { on: pull(), review }).result("dev", PULL)
}
pub(crate) fn dismissed() -> Situation {
    let review = Review {
        id: 3,
        author: "mona".to_owned(),
        verdict: ReviewVerdict::Approved,
        commit: Some(commit('2')),
    };
    situation("a review is dismissed", Happening::ReviewDismissed { on: pull(), review }).result("dev", PULL)
}
pub(crate) fn synchronized() -> Situation {
    situation("a pull request has a new head", Happening::Synchronized { on: pull() }).result("dev", PULL)
}
pub(crate) fn pull_closed(merged: bool) -> Situation {
    let mut on = Thread { open: false, ..pull() };
    if let Some(pull) = &mut on.pull {
        pull.merged = merged;
    }
    let when = if merged { "a pull request is merged" } else { "a pull request is closed" };
    situation(when, Happening::Closed { on })
}
pub(crate) fn pull_reopened() -> Situation {
    situation("a pull request is reopened", Happening::Reopened { on: pull() })
}
pub(crate) fn issue_closed() -> Situation {
    situation("an issue is closed", Happening::Closed { on: Thread { open: false, ..issue() } })
}
pub(crate) fn issue_deleted() -> Situation {
    situation("an issue is deleted", Happening::Deleted { on: issue() })
}
pub(crate) fn issue_transferred() -> Situation {
    situation("an issue is transferred", Happening::TransferredAway { on: issue() })
}
pub(crate) fn pushed(branch: Option<&str>, head: Option<CommitSha>) -> Situation {
    let what = branch.map_or_else(|| "a tag".to_owned(), |branch| format!("`{branch}`"));
    situation(format!("a push to {what}"), Happening::Pushed { branch: branch.map(str::to_owned), head })
}
/// Something happened to the App's installation in `account`.
pub(crate) fn installation(when: &str, account: &str, change: InstallationChange) -> Situation {
    let (account, repositories) = (Some(account.to_owned()), Vec::new());
    let installation = Installation { change, account, repositories };
    situation(when, Happening::Installation { installation })
}
pub(crate) fn repository(when: &str, change: RepositoryChange) -> Situation {
    situation(when, Happening::Repository { change })
}
pub(crate) fn other() -> Situation {
    situation("any other event", Happening::Other)
}

impl Situation {
    pub(crate) fn then(self, given: &'static str, does: &'static str, reason: Reason) -> Row {
        Row { situation: self, given, does, reason }
    }

    pub(crate) fn has(mut self, permission: Permission) -> Self {
        self.permission = Some(permission);
        self
    }
    pub(crate) fn has_unknown(mut self) -> Self {
        self.permission = None;
        self
    }
    pub(crate) fn role(mut self, role: ProjectRole) -> Self {
        self.role = Some(role);
        self
    }
    pub(crate) fn by_nobody(mut self) -> Self {
        self.actor = None;
        self
    }
    pub(crate) fn by(mut self, login: &str) -> Self {
        if let Some(actor) = &mut self.actor {
            login.clone_into(&mut actor.login);
        }
        self
    }
    pub(crate) fn by_bot(mut self) -> Self {
        let login = "renovate[bot]".to_owned();
        if let Happening::Commented { comment, .. } = &mut self.happening {
            comment.author.clone_from(&login);
        }
        if let Happening::Reviewed { review, .. } = &mut self.happening {
            review.author.clone_from(&login);
        }
        self.actor = Some(Account { login, is_bot: true });
        self
    }
    pub(crate) fn listed(mut self) -> Self {
        self.bots.insert("renovate[bot]".to_owned());
        self
    }
    pub(crate) fn own_effect(mut self) -> Self {
        self.own_effect = true;
        self
    }
    pub(crate) fn told(mut self, told: Told) -> Self {
        self.told = told;
        self
    }
    pub(crate) fn standing(mut self, standing: RepositoryStanding) -> Self {
        self.repository = standing;
        self
    }
    pub(crate) fn default_branch_unknown(mut self) -> Self {
        self.default_branch = None;
        self
    }

    fn thread(&mut self) -> &mut Thread {
        match &mut self.happening {
            Happening::Labeled { on, .. }
            | Happening::Unlabeled { on, .. }
            | Happening::Closed { on }
            | Happening::Deleted { on }
            | Happening::TransferredAway { on }
            | Happening::Commented { on, .. }
            | Happening::Synchronized { on }
            | Happening::Reopened { on }
            | Happening::Reviewed { on, .. }
            | Happening::ReviewDismissed { on, .. } => on,
            other @ (Happening::Pushed { .. }
            | Happening::Installation { .. }
            | Happening::Repository { .. }
            | Happening::Other) => panic!("{other:?} is about no thread"),
        }
    }
    pub(crate) fn closed(mut self) -> Self {
        self.thread().open = false;
        self
    }
    pub(crate) fn beside(mut self, labels: &[&str]) -> Self {
        self.thread().labels.extend(labels.iter().map(|label| (*label).to_owned()));
        self
    }
    pub(crate) fn in_a_fork(mut self) -> Self {
        if let Some(pull) = &mut self.thread().pull {
            pull.from_fork = true;
        }
        self.not_ours()
    }
    pub(crate) fn about(mut self, commit: Option<CommitSha>) -> Self {
        if let Happening::Reviewed { review, .. } = &mut self.happening {
            review.commit = commit;
        }
        self
    }

    pub(crate) fn not_ours(mut self) -> Self {
        self.record = Record::default();
        self
    }
    pub(crate) fn linked_to_none(mut self) -> Self {
        self.record.linked_issue = None;
        self
    }
    pub(crate) fn under_way(mut self, kind: RunKind, stage: &str) -> Self {
        self.record.under_way = Some(run("r1", kind, stage));
        self
    }
    pub(crate) fn waiting(mut self, kind: RunKind, stage: &str) -> Self {
        self.record.behind = Some(run("r2", kind, stage));
        self
    }
    pub(crate) fn last_final(mut self, kind: RunKind, stage: &str) -> Self {
        self.record.last_final = Some(RunRef { is_final: true, ..run("r0", kind, stage) });
        self
    }
    pub(crate) fn last_of_pull(mut self, kind: RunKind, stage: &str) -> Self {
        self.record.last_of_pull = Some(run("r0", kind, stage));
        self
    }
    pub(crate) fn last_of_issue(mut self, kind: RunKind, stage: &str) -> Self {
        self.record.last_of_issue = Some(run("r0", kind, stage));
        self
    }
    pub(crate) fn issue_stages(mut self, stages: &[&str]) -> Self {
        self.record.issue_labels = stages.iter().map(|stage| (*stage).to_owned()).collect();
        self
    }
    /// An open result, asked for by rio, at head 2222222.
    pub(crate) fn result(mut self, stage: &str, pull: u64) -> Self {
        self.record.results.push(ResultRecord {
            run: format!("r{pull}"),
            stage: stage.to_owned(),
            asked_by: "rio".to_owned(),
            pull,
            head: Some(commit('2')),
            open: true,
            merged: false,
            approval: None,
        });
        self
    }
    fn last_result(&mut self) -> &mut ResultRecord {
        self.record.results.last_mut().expect("a result comes first")
    }
    pub(crate) fn asked_by(mut self, login: &str) -> Self {
        login.clone_into(&mut self.last_result().asked_by);
        self
    }
    pub(crate) fn ended(mut self, merged: bool) -> Self {
        let result = self.last_result();
        (result.open, result.merged) = (false, merged);
        self
    }
    pub(crate) fn approved(mut self, at: char, review: u64) -> Self {
        self.last_result().approval =
            Some(ApprovalRecord { by: "maia".to_owned(), head: commit(at), review });
        self
    }
    pub(crate) fn discussing(mut self) -> Self {
        self.record.discussion = Some(OpenDiscussion { opened_by: "mona".to_owned(), since: noon() });
        self
    }
    pub(crate) fn parameter(mut self, label: &str, setter: Option<&str>, has: Option<Permission>) -> Self {
        self.thread().labels.push(label.to_owned());
        self.record.parameters.push(Parameter {
            label: label.to_owned(),
            setter: setter.map(str::to_owned),
            permission: has,
        });
        self
    }
    pub(crate) fn kept(mut self, labels: &[&str]) -> Self {
        self.record.kept_labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self
    }
    pub(crate) fn admission(mut self, change: impl FnOnce(&mut Admission)) -> Self {
        change(&mut self.admission);
        self
    }
    /// The project has a file with these stages.
    pub(crate) fn stages(mut self, stages: &str) -> Self {
        let file = format!("version: 1\nstages:\n  {stages}\n");
        self.policy = Policy::of_project(Some(&file), &self.policy.ceilings, &Pod::default());
        self
    }
    pub(crate) fn file(mut self, file: &str) -> Self {
        self.policy = Policy::of_project(Some(file), &self.policy.ceilings, &Pod::default());
        self
    }
    pub(crate) fn ceilings(mut self, change: impl FnOnce(&mut Ceilings)) -> Self {
        let mut ceilings = Ceilings::default();
        change(&mut ceilings);
        self.policy = Policy::of_project(None, &ceilings, &Pod::default());
        self
    }

    pub(crate) fn event(&self) -> Event {
        Event {
            name: "event".to_owned(),
            action: None,
            repository: "octocat/hello-world".parse().ok(),
            repository_id: None,
            default_branch: None,
            installation: matches!(self.happening, Happening::Installation { .. }).then_some(42),
            actor: self.actor.clone(),
            happening: self.happening.clone(),
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn decide(&self) -> Decided {
        let facts = Facts {
            policy: &self.policy,
            permission: self.permission,
            role: self.role,
            bots: &self.bots,
            own_effect: self.own_effect,
            told: self.told,
            repository: self.repository,
            default_branch: self.default_branch,
            record: self.record.clone(),
            admission: self.admission.clone(),
        };
        decide(&self.event(), &facts)
    }
}
