//! A small model of the code host and of the platform's records.

mod applying;

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use domain::{
    decision::{
        Account, Admission, ApprovalRecord, Comment, Decision, Event, Facts, Happening, OpenDiscussion,
        Parameter, Pull, Record, RepositoryStanding, ResultRecord, Review, ReviewVerdict, RunRef, Thread,
        Told, decide,
    },
    names::CommitSha,
    rights::Permission,
    run::RunKind,
    stage::{Ceilings, Meaning, Pod, Policy},
};

const LABELS: [&str; 16] = [
    "run:dev",
    "run:plan",
    "run:intake",
    "run:qa",
    "run:release",
    "run:dev:revise",
    "run:plan:revise",
    "run:dev:preview",
    "run:nonsense",
    "need:reviewer",
    "mode:discussion",
    "mode:discussion",
    "state:approved",
    "state:in-review",
    "ai-model:large",
    "bug",
];
const COMMENTS: [&str; 9] = [
    "/callboard run dev",
    "/callboard run intake",
    "/callboard run dev revise",
    "/callboard cancel",
    "/callboard retry",
    "/callboard status",
    "/callboard nonsense",
    "> /callboard cancel",
    "And errors?",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Writer,
    Maintainer,
    Triager,
    Reader,
    Unknown,
    Bot,
    ListedBot,
}

impl Who {
    fn login(self) -> &'static str {
        match self {
            Self::Writer => "mona",
            Self::Maintainer => "maia",
            Self::Triager => "tom",
            Self::Reader => "rio",
            Self::Unknown => "una",
            Self::Bot => "renovate[bot]",
            Self::ListedBot => "helper[bot]",
        }
    }
    fn permission(self) -> Option<Permission> {
        match self {
            Self::Writer | Self::ListedBot => Some(Permission::Write),
            Self::Maintainer | Self::Bot => Some(Permission::Maintain),
            Self::Triager => Some(Permission::Triage),
            Self::Reader => Some(Permission::Read),
            Self::Unknown => None,
        }
    }
    fn account(self) -> Account {
        Account { login: self.login().to_owned(), is_bot: matches!(self, Self::Bot | Self::ListedBot) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Front,
    Behind,
    Over,
}

#[derive(Clone, Debug)]
struct Run {
    reference: RunRef,
    issue: u64,
    state: State,
}

/// An issue (1 and 2), a person's pull request (3), or a run's (from 10 on).
#[derive(Clone, Debug)]
struct Conversation {
    thread: Thread,
    issue: u64,
    run: Option<usize>,
    merged: bool,
    approval: Option<ApprovalRecord>,
}

/// The code host, the records, and the kinds of decisions so far.
pub(super) struct Model {
    policy: Policy,
    threads: Vec<Conversation>,
    runs: Vec<Run>,
    discussions: BTreeSet<u64>,
    setters: BTreeMap<(u64, String), Who>,
    to_take_off: Vec<(u64, String)>,
    heads: u64,
    last: Option<(Event, Who)>,
    pub(super) decisions: Vec<&'static str>,
}

impl Model {
    pub(super) fn new() -> Self {
        let file =
            "version: 1\nstages:\n  dev: {second_trigger: queue}\n  plan: {second_trigger: supersede}\n";
        let issue = |number| Conversation {
            thread: Thread { number, open: true, author: "rio".to_owned(), labels: Vec::new(), pull: None },
            issue: number,
            run: None,
            merged: false,
            approval: None,
        };
        let mut model = Self {
            policy: Policy::of_project(Some(file), &Ceilings::default(), &Pod::default()),
            threads: vec![issue(1), issue(2), issue(3)],
            runs: Vec::new(),
            discussions: BTreeSet::new(),
            setters: BTreeMap::new(),
            to_take_off: Vec::new(),
            heads: 0,
            last: None,
            decisions: Vec::new(),
        };
        let head = model.new_head();
        model.threads[2].thread.pull = Some(Pull { head: Some(head), ..Pull::default() });
        model
    }

    fn new_head(&mut self) -> CommitSha {
        self.heads += 1;
        format!("{:040x}", self.heads).parse().expect("a commit")
    }

    fn pulls(&self) -> Vec<usize> {
        (0..self.threads.len()).filter(|at| self.threads[*at].thread.pull.is_some()).collect()
    }

    /// A pull request, the newer ones rather.
    fn pull(&self, pick: usize) -> usize {
        let pulls = self.pulls();
        pulls[pulls.len() - 1 - pick % pulls.len().min(3)]
    }

    // ---- what people do ------------------------------------------------------------------

    pub(super) fn label(&mut self, thread: usize, label: usize, who: Who) {
        let at = thread % self.threads.len();
        let label = LABELS[label % LABELS.len()].to_owned();
        let labels = &mut self.threads[at].thread.labels;
        // Whoever may not label cannot.
        if labels.contains(&label) || matches!(who, Who::Reader | Who::Unknown) {
            return;
        }
        labels.push(label.clone());
        let on = self.threads[at].thread.clone();
        self.happens(Happening::Labeled { on, label }, who, false);
    }

    pub(super) fn unlabel(&mut self, thread: usize, label: usize, who: Who) {
        let at = thread % self.threads.len();
        let labels = &mut self.threads[at].thread.labels;
        if labels.is_empty() || matches!(who, Who::Reader | Who::Unknown) {
            return;
        }
        let label = labels.remove(label % labels.len());
        let on = self.threads[at].thread.clone();
        self.happens(Happening::Unlabeled { on, label }, who, false);
    }

    pub(super) fn comment(&mut self, thread: usize, text: usize, who: Who) {
        let on = self.threads[thread % self.threads.len()].thread.clone();
        let comment = Comment {
            id: 1,
            author: who.login().to_owned(),
            body: COMMENTS[text % COMMENTS.len()].to_owned(),
            created_at: DateTime::UNIX_EPOCH,
        };
        self.happens(Happening::Commented { on, comment }, who, false);
    }

    pub(super) fn review(&mut self, pull: usize, verdict: ReviewVerdict, who: Who, stale: bool) {
        let on = self.threads[self.pull(pull)].thread.clone();
        let head = on.pull.as_ref().and_then(|pull| pull.head.clone());
        let commit = if stale { Some(self.new_head()) } else { head };
        let review = Review { id: on.number, author: who.login().to_owned(), verdict, commit };
        self.happens(Happening::Reviewed { on, review }, who, false);
    }

    pub(super) fn dismiss(&mut self, pull: usize) {
        let on = self.threads[self.pull(pull)].thread.clone();
        let author = Who::Maintainer.login().to_owned();
        let review = Review { id: on.number, author, verdict: ReviewVerdict::Approved, commit: None };
        self.happens(Happening::ReviewDismissed { on, review }, Who::Maintainer, false);
    }

    pub(super) fn push(&mut self, pull: usize) {
        self.moves(self.pull(pull), false);
    }

    fn moves(&mut self, at: usize, by_us: bool) {
        let head = self.new_head();
        if let Some(pull) = &mut self.threads[at].thread.pull {
            pull.head = Some(head);
        }
        let on = self.threads[at].thread.clone();
        self.happens(Happening::Synchronized { on }, Who::Writer, by_us);
    }

    pub(super) fn close(&mut self, thread: usize, merged: bool) {
        let at = thread % self.threads.len();
        let thread = &mut self.threads[at];
        if !std::mem::replace(&mut thread.thread.open, false) {
            return;
        }
        if let Some(pull) = &mut thread.thread.pull {
            pull.merged = merged;
        }
        let on = thread.thread.clone();
        let is_issue = on.pull.is_none();
        let number = on.number;
        self.happens(Happening::Closed { on }, Who::Reader, false);
        if is_issue {
            let left = self.runs.iter().filter(|run| run.issue == number && run.state != State::Over).count();
            assert_eq!((left, self.discussions.contains(&number)), (0, false), "a closed issue has no runs");
        }
    }

    pub(super) fn reopen(&mut self, thread: usize) {
        let at = thread % self.threads.len();
        let thread = &mut self.threads[at];
        thread.thread.open |= !thread.merged;
    }

    pub(super) fn redelivered(&mut self) {
        if let Some((event, who)) = self.last.clone() {
            self.decided(&event, who, false);
        }
    }

    // ---- what the platform does by itself ------------------------------------------------

    pub(super) fn run_ends(&mut self, issue: usize, published: bool) {
        let fronts: Vec<usize> =
            (0..self.runs.len()).filter(|at| self.runs[*at].state == State::Front).collect();
        let Some(at) = fronts.get(issue % fronts.len().max(1)).copied() else { return };
        self.over(at);
        let run = self.runs[at].clone();
        match run.reference.kind {
            RunKind::Work if published => {
                let number = 10 + u64::try_from(self.threads.len()).expect("few");
                let head = self.new_head();
                let pull = Pull { head: Some(head), ..Pull::default() };
                self.threads.push(Conversation {
                    thread: Thread {
                        number,
                        open: true,
                        author: "callboard".to_owned(),
                        labels: Vec::new(),
                        pull: Some(pull),
                    },
                    issue: run.issue,
                    run: Some(at),
                    merged: false,
                    approval: None,
                });
            }
            RunKind::Revise if published => {
                let pull = self.threads.iter().position(|t| Some(t.thread.number) == run.reference.pull);
                self.moves(pull.expect("a revision has a pull request"), true);
            }
            RunKind::Work | RunKind::Revise | RunKind::Review | RunKind::Discussion => {}
        }
    }

    pub(super) fn effects_done(&mut self) {
        for (number, label) in std::mem::take(&mut self.to_take_off) {
            let thread = self.threads.iter_mut().find(|t| t.thread.number == number).expect("a thread");
            thread.thread.labels.retain(|standing| *standing != label);
            let on = thread.thread.clone();
            self.happens(Happening::Unlabeled { on, label }, Who::Writer, true);
        }
    }

    /// A run is over, and whatever waits behind it is let go.
    fn over(&mut self, at: usize) {
        let was_front = self.runs[at].state == State::Front;
        self.runs[at].state = State::Over;
        self.runs[at].reference.is_final = true;
        let issue = self.runs[at].issue;
        if was_front
            && let Some(next) =
                self.runs.iter_mut().find(|run| run.issue == issue && run.state == State::Behind)
        {
            next.state = State::Front;
        }
    }

    fn of(&self, issue: u64, state: State) -> Option<RunRef> {
        self.runs.iter().find(|run| run.issue == issue && run.state == state).map(|run| run.reference.clone())
    }

    // ---- facts, decisions, and what follows ----------------------------------------------

    fn happens(&mut self, happening: Happening, who: Who, own_effect: bool) {
        let event = Event {
            name: "event".to_owned(),
            action: None,
            repository: None,
            repository_id: None,
            default_branch: None,
            installation: None,
            actor: Some(who.account()),
            happening,
        };
        self.decided(&event, who, own_effect);
        self.last = (!own_effect).then_some((event, who));
    }

    fn record(&self, number: u64) -> Record {
        let at = self.threads.iter().find(|t| t.thread.number == number).expect("a thread");
        let issue = at.issue;
        let results: Vec<ResultRecord> = self
            .threads
            .iter()
            .filter(|t| t.issue == issue)
            .filter_map(|t| {
                let run = &self.runs[t.run?].reference;
                Some(ResultRecord {
                    run: run.id.clone(),
                    stage: run.stage.clone(),
                    asked_by: run.actor.clone(),
                    pull: t.thread.number,
                    head: t.thread.pull.as_ref().and_then(|pull| pull.head.clone()),
                    open: t.thread.open,
                    merged: t.merged,
                    approval: t.approval.clone(),
                })
            })
            .collect();
        let labels = |number| {
            self.threads.iter().filter(move |t| t.thread.number == number).flat_map(|t| &t.thread.labels)
        };
        let last = |wanted: &dyn Fn(&Run) -> bool| {
            self.runs.iter().rev().find(|r| wanted(r)).map(|r| r.reference.clone())
        };
        let in_review = results.iter().any(|r| r.open && r.approval.is_none());
        let approved = results.iter().any(|r| r.approval.is_some());
        let kept = [("state:in-review", in_review), ("state:approved", approved)];
        Record {
            linked_issue: (issue != number).then_some(issue),
            ours: at.run.is_some(),
            under_way: self.of(issue, State::Front),
            behind: self.of(issue, State::Behind),
            results,
            issue_labels: labels(issue)
                .filter_map(|label| match self.policy.labels.meaning(label) {
                    Some(Meaning::Run(stage) | Meaning::Revise(stage)) => Some(stage),
                    _ => None,
                })
                .collect(),
            last_of_pull: at.run.map(|run| self.runs[run].reference.clone()),
            last_of_issue: last(&|run| run.issue == issue && run.reference.kind.publishes_changes()),
            discussion: self
                .discussions
                .contains(&issue)
                .then(|| OpenDiscussion { opened_by: "mona".to_owned(), since: DateTime::UNIX_EPOCH }),
            parameters: labels(number)
                .filter_map(|label| {
                    let who = self.setters.get(&(number, label.clone()))?;
                    let setter = Some(who.login().to_owned());
                    Some(Parameter { label: label.clone(), setter, permission: who.permission() })
                })
                .collect(),
            kept_labels: kept
                .into_iter()
                .filter(|(_, stands)| *stands)
                .map(|(label, _)| label.to_owned())
                .collect(),
            last_final: last(&|run| run.issue == issue && run.state == State::Over),
        }
    }

    fn decided(&mut self, event: &Event, who: Who, own_effect: bool) {
        let number = event.happening.number().expect("an event about a thread");
        let bots = BTreeSet::from([Who::ListedBot.login().to_owned()]);
        let facts = Facts {
            policy: &self.policy,
            permission: who.permission(),
            role: None,
            bots: &bots,
            own_effect,
            told: Told::Delivered,
            repository: RepositoryStanding::Enabled,
            default_branch: Some("main"),
            record: self.record(number),
            admission: Admission::default(),
        };
        let decided = decide(event, &facts);
        let context = || format!("{event:?}\n{decided:#?}");
        assert!(!decided.rule.is_empty(), "{}", context());
        assert!(
            !matches!(decided.decision, Decision::Reject { .. }) || !decided.remedy.is_empty(),
            "{}",
            context()
        );
        assert!(!decided.trace.is_empty(), "{}", context());
        self.decisions.push(decided.kind());
        self.apply(event, who, &decided);
    }
}
