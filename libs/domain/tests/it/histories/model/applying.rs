//! What follows from a decision, and what holds whatever was decided.

use chrono::DateTime;
use domain::{
    decision::{ApprovalRecord, Decided, Decision, Event, Reason, RunRef, Start, Thread},
    rights::Permission,
    run::RunKind,
};

use super::{Model, Run, State, Who};

impl Model {
    pub(super) fn apply(&mut self, event: &Event, who: Who, decided: &Decided) {
        let on = event.happening.on().expect("a thread").clone();
        match &decided.decision {
            Decision::Start(start) => self.start(&on, who, start, decided.reason),
            Decision::Preview { start } => {
                assert!(who.permission() >= Some(Permission::Write) && who != Who::Bot);
                self.to_take_off.extend(start.label.clone());
            }
            Decision::Reject { label, .. } => {
                self.to_take_off.extend(label.iter().map(|label| (on.number, label.clone())));
            }
            Decision::Approve { pull, head, review, .. } => {
                assert_eq!(who, Who::Maintainer, "approving takes maintain permission");
                let thread =
                    self.threads.iter_mut().find(|t| t.thread.number == *pull).expect("a pull request");
                thread.approval =
                    Some(ApprovalRecord { by: who.login().to_owned(), head: head.clone(), review: *review });
            }
            Decision::WithdrawApproval { pull, .. } => {
                let thread =
                    self.threads.iter_mut().find(|t| t.thread.number == *pull).expect("a pull request");
                thread.approval = None;
            }
            Decision::RecordReopened { pull } => {
                let thread =
                    self.threads.iter_mut().find(|t| t.thread.number == *pull).expect("a pull request");
                thread.merged = false;
            }
            Decision::RecordEnd { pull, merged } => {
                let thread =
                    self.threads.iter_mut().find(|t| t.thread.number == *pull).expect("a pull request");
                thread.merged = *merged;
            }
            Decision::Cancel { run } => {
                let at = self.runs.iter().position(|r| Some(&r.reference.id) == run.as_ref()).expect("a run");
                assert_ne!(self.runs[at].state, State::Over, "what is over is not cancelled");
                if decided.reason == Reason::IssueEnded {
                    self.discussions.remove(&on.number);
                    for run in self.runs.iter_mut().filter(|run| run.issue == on.number) {
                        run.state = State::Over;
                        run.reference.is_final = true;
                    }
                } else {
                    self.over(at);
                }
            }
            Decision::EndDiscussion { issue } => self.end_discussion(*issue),
            Decision::NoteParameter { number, label, set } => {
                let key = (*number, label.clone());
                if *set {
                    assert!(
                        who.permission() >= Some(Permission::Write),
                        "choosing a model takes write permission"
                    );
                    self.setters.insert(key, who);
                } else {
                    self.setters.remove(&key);
                }
            }
            Decision::KeepLabels { number, add, remove } => {
                let thread = self.threads.iter_mut().find(|t| t.thread.number == *number).expect("a thread");
                thread.thread.labels.retain(|label| !remove.contains(label));
                thread.thread.labels.extend(add.iter().cloned());
            }
            Decision::Answer { .. } | Decision::Ignore => {}
            Decision::NoteRepository { .. }
            | Decision::NoteInstallation { .. }
            | Decision::RefreshPolicy
            | Decision::Release => {
                panic!("nobody asked for {decided:?}")
            }
        }
    }

    fn end_discussion(&mut self, issue: u64) {
        self.discussions.remove(&issue);
        let turns = |run: &Run| run.issue == issue && run.reference.kind == RunKind::Discussion;
        // Those that wait first, so that none of them is let go.
        for state in [State::Behind, State::Front] {
            if let Some(at) = self.runs.iter().position(|run| turns(run) && run.state == state) {
                self.over(at);
            }
        }
    }

    fn start(&mut self, on: &Thread, who: Who, start: &Start, reason: Reason) {
        let stage = &self.policy.stages[&start.stage];
        let least = stage.start.max(Permission::Write);
        assert!(who.permission() >= Some(least), "{who:?} started {start:?}");
        assert_ne!(who, Who::Bot, "a bot that is not listed started {start:?}");
        assert!(on.open, "{start:?} on a closed thread");
        self.to_take_off.extend(start.label.clone());
        if start.kind.publishes_changes() {
            self.end_discussion(start.issue);
        }
        if let Some(first) = &start.supersedes {
            self.decisions.push("superseded");
            let at = self.runs.iter().position(|run| run.reference.id == *first).expect("a run");
            self.over(at);
        }
        if let Some(first) = &start.behind {
            self.decisions.push("behind");
            let front = self.of(start.issue, State::Front).expect("one is in front");
            assert_eq!(front.id, *first);
        }
        if start.kind == RunKind::Discussion && reason == Reason::TriggerLabel {
            self.discussions.insert(start.issue);
        }
        let id = format!("r{}", self.runs.len());
        self.runs.push(Run {
            reference: RunRef {
                id,
                stage: start.stage.clone(),
                kind: start.kind,
                since: DateTime::UNIX_EPOCH,
                actor: who.login().to_owned(),
                pull: start.pull,
                is_final: false,
            },
            issue: start.issue,
            state: if start.behind.is_some() { State::Behind } else { State::Front },
        });
    }

    // ---- what always holds ---------------------------------------------------------------

    pub(in crate::histories) fn check(&self) {
        for thread in &self.threads {
            let number = thread.thread.number;
            let count =
                |state| self.runs.iter().filter(|run| run.issue == number && run.state == state).count();
            let (front, behind) = (count(State::Front), count(State::Behind));
            assert!(front <= 1 && behind <= front, "issue {number}: {front} in front, {behind} behind");
            let from_issue = self.runs.iter().filter(|run| {
                run.issue == number
                    && run.state != State::Over
                    && matches!(run.reference.kind, RunKind::Work | RunKind::Discussion)
            });
            assert!(
                thread.thread.open || thread.thread.pull.is_some() || from_issue.count() == 0,
                "issue {number} is closed"
            );
            if let (Some(approval), Some(pull)) = (&thread.approval, &thread.thread.pull) {
                assert_eq!(Some(&approval.head), pull.head.as_ref(), "an approval stands for another head");
            }
        }
    }
}
