//! Every text in every variant: a snapshot of its Markdown each, and `docs/product/comments.md`
//! with all of them as they render.

use domain::{
    decision::{ApprovalRecord, Decided, Decision, Looked, OpenDiscussion, Reason, Record, ResultRecord},
    review::{ReviewFinding, Severity},
    run::{
        AttemptState::{Leased, Lost, Returned, Running, Stopped},
        FailureClass, PublicationState as P, RunKind, RunState, Waiting,
    },
    stage::{Pod, Reasoning},
    workers::NoWorker,
};

use super::{
    Explained, Preview, Released, answer_explain, answer_status, commit_message, discussion_answer,
    mark_of_decision, preview, pull_request, put_back, rejection, report, review_body, revised_block,
    samples::{
        about, after, attempt, changeset, decision, protected, publication, run, run_id, run_of_kind, sha,
    },
    status, with_block,
};
use crate::{
    pauses::{Pause, Subject},
    publishing::about::{About, Asked, How},
    runs::Run,
};

struct Variant {
    part: &'static str,
    /// Of the snapshot, and in words the heading.
    name: &'static str,
    text: String,
}

fn status_now(run: &Run, about: &About) -> String {
    status(run, about, &[], after(260))
}

fn failed(class: FailureClass, message: &str) -> String {
    let run = run(RunState::Failed(class), message);
    status_now(&run, &about(vec![attempt(1, Stopped, message)], None))
}

fn asked(how: How, place: &str) -> Asked {
    Asked { how, url: Some(format!("https://github.com/octocat/hello-world/{place}")) }
}

fn statuses() -> Vec<(&'static str, String)> {
    let queued = run(RunState::Queued, "Waiting for a worker.");
    let behind = Run {
        behind: Some(run_id(6)),
        ..run(RunState::Queued, &format!("Waiting for the end of run {}.", run_id(6)))
    };
    let no_worker = NoWorker::Cordoned(vec!["local".to_owned()]).sentence("demo", "dev");
    let no_worker = Run { no_worker: Some(no_worker), ..queued.clone() };
    let pause = Pause {
        subject: Subject::Stage("dev".to_owned()),
        paused_by: "uid:0".to_owned(),
        reason: "the model is down".to_owned(),
        paused_at: after(-600),
    };
    let paused = About { pause: Some(pause), ..about(Vec::new(), None) };
    let on_worker = run(RunState::Active, "Attempt 1 is on worker `local`.");
    let chosen =
        Run { model: Some("gpt-5.4".to_owned()), reasoning: Some(Reasoning::High), ..on_worker.clone() };
    let by_command = About {
        asked: asked(How::Command, "issues/7#issuecomment-99"),
        ..about(vec![attempt(1, Running, "")], None)
    };
    let lost = attempt(1, Lost, "worker `far` went silent");
    let again = run(RunState::Queued, "Attempt 1 failed: worker `far` went silent. Trying again.");
    let mut second = attempt(2, Returned, "");
    second.start_note =
        "Attempt 2 goes on from the checkpoint of attempt 1 (5 files, taken 2026-11-22 14:05 UTC)."
            .to_owned();
    let url = "https://github.com/octocat/hello-world/pull/12";
    let done = run(RunState::Succeeded, &format!("Pull request: {url}"));
    let returned = attempt(1, Returned, "");
    let published = publication(&returned, P::Published, Vec::new());
    let held = publication(&returned, P::Held, vec![protected()]);
    let mut released = publication(&returned, P::Published, vec![protected()]);
    released.released_by = Some("octocat".to_owned());
    let revise = run_of_kind(RunKind::Revise, RunState::Succeeded, &format!("Pull request: {url}"));
    let by_review = About {
        asked: asked(How::Review, "pull/12#pullrequestreview-5"),
        ..about(vec![returned.clone()], Some(published.clone()))
    };
    let review =
        run_of_kind(RunKind::Review, RunState::Succeeded, "The review is on the pull request: 2 findings.");
    let discussion = run_of_kind(
        RunKind::Discussion,
        RunState::Failed(FailureClass::Provider),
        "The model did not answer.",
    );
    let mut plan = run(RunState::Succeeded, &format!("Pull request: {url}"));
    "plan".clone_into(&mut plan.stage);
    plan.definition = domain::stage::Policy::built_in().get("plan").expect("a stage").clone();
    let tries = |n: i32| (1..=n).map(|n| attempt(n, Lost, "worker `far` went silent")).collect::<Vec<_>>();
    let superseded = run(RunState::Cancelled, "Superseded by a `dev` run that `octocat` asked for.");
    let open = run(
        RunState::Waiting(Waiting::Held),
        "The result is ready and kept, but could not be published. The commit failed: not allowed: Resource not accessible\n\nFix it, then `callboard outbox retry 0199aa00-0000-7000-8000-000000000041`, or `callboard run cancel 0199aa00-0000-7000-8000-000000000007`.",
    );
    vec![
        ("queued", status_now(&queued, &about(Vec::new(), None))),
        ("waiting_for_another_run", status_now(&behind, &about(Vec::new(), None))),
        ("paused", status_now(&queued, &paused)),
        ("no_worker", status_now(&no_worker, &about(Vec::new(), None))),
        ("no_worker_to_go_on", {
            let message = "Attempt 1 was stopped: worker `local` is drained. The run goes on on another one.";
            let run = Run { message: message.to_owned(), ..no_worker.clone() };
            status_now(&run, &about(vec![attempt(1, Stopped, "worker `local` is drained")], None))
        }),
        ("waiting_for_the_cluster", {
            let mut waits = attempt(1, Leased, "");
            waits.isolation = None;
            waits.waits_for =
                Some("No node has room for it: 0/3 nodes are available: 3 Insufficient cpu.".to_owned());
            status_now(&on_worker, &about(vec![waits], None))
        }),
        ("working", status_now(&on_worker, &about(vec![attempt(1, Running, "")], None))),
        ("working_with_a_chosen_model", status_now(&chosen, &by_command)),
        ("trying_again", status_now(&again, &about(vec![lost.clone()], None))),
        ("done", status_now(&done, &about(vec![returned.clone()], Some(published.clone())))),
        ("done_after_two_attempts", {
            let published = publication(&second, P::Published, Vec::new());
            status_now(&done, &about(vec![lost, second], Some(published)))
        }),
        ("done_plan", status_now(&plan, &about(vec![returned.clone()], Some(published)))),
        ("done_without_changes", {
            let done = run(
                RunState::Succeeded,
                "Finished without changes. The agent says:\n\nNothing to do: it greets already.",
            );
            status_now(&done, &about(vec![returned.clone()], None))
        }),
        ("held", {
            let run = run(
                RunState::Waiting(Waiting::Held),
                "The agent changed protected files. Nothing was published; the changeset is kept for a person to look at.",
            );
            status_now(&run, &about(vec![returned.clone()], Some(held)))
        }),
        (
            "held_because_publishing_failed",
            status_now(
                &open,
                &about(vec![returned.clone()], Some(publication(&returned, P::Publishing, Vec::new()))),
            ),
        ),
        ("waiting_for_the_limit", {
            let run = run(
                RunState::Waiting(Waiting::RateLimit),
                "The result is ready and kept. GitHub's limit is used up; publishing goes on by itself at 15:05 UTC.",
            );
            let publishing = publication(&returned, P::Publishing, Vec::new());
            status_now(&run, &about(vec![returned.clone()], Some(publishing)))
        }),
        ("released", status_now(&done, &about(vec![returned.clone()], Some(released)))),
        ("refused", {
            let run = run(
                RunState::Failed(FailureClass::Policy),
                "The changeset was refused, and nothing was published.",
            );
            let mut finding = protected();
            finding.sentence = "The target of the symbolic link `out` leaves the repository.".to_owned();
            status_now(
                &run,
                &about(vec![returned.clone()], Some(publication(&returned, P::Refused, vec![finding]))),
            )
        }),
        ("revised", status_now(&revise, &by_review)),
        ("reviewed", status_now(&review, &about(vec![returned], None))),
        (
            "discussion_failed",
            status_now(&discussion, &about(vec![attempt(1, Stopped, "the model did not answer")], None)),
        ),
        ("failed", failed(FailureClass::Agent, "The agent failed: exit status: 3.")),
        (
            "out_of_time",
            failed(
                FailureClass::TimedOut,
                "The attempt took longer than the 60 minutes it had, and was ended.",
            ),
        ),
        ("model_failed", failed(FailureClass::Provider, "The model did not answer.")),
        ("could_not_begin", failed(FailureClass::User, "There is no branch `main` in octocat/hello-world.")),
        ("tries_spent", {
            let run = run(
                RunState::Failed(FailureClass::RetriesSpent),
                "Tried 3 times, and this was the last: worker `far` went silent.",
            );
            status_now(&run, &about(tries(3), None))
        }),
        ("cancelled", {
            let run = run(RunState::Cancelled, "Cancelled by mona: not needed any more");
            status_now(
                &run,
                &about(vec![attempt(1, Stopped, "Cancelled by mona: not needed any more")], None),
            )
        }),
        ("superseded", status_now(&superseded, &about(vec![attempt(1, Stopped, &superseded.message)], None))),
        ("without_a_sandbox", {
            let mut attempt = attempt(1, Running, "");
            attempt.unsandboxed = true;
            let note = "Attempts run without a sandbox.".to_owned();
            status(&on_worker, &about(vec![attempt], None), &[note], after(260))
        }),
    ]
}

fn on_pull_requests() -> Vec<(&'static str, String)> {
    let done = run(RunState::Active, "");
    let returned = attempt(1, Returned, "");
    let summary = "Added a greeting for the moon in `src/greeting.rs`.\n\n`cargo test` passes.";
    let plain = about(vec![returned.clone()], Some(publication(&returned, P::Published, Vec::new())));
    let held = publication(&returned, P::Held, vec![protected()]);
    let moved = crate::publishing::Publication { head_moved_to: Some(sha('d')), ..held.clone() };
    let of = |publication| Released { by: "octocat", reason: "we agreed on the rule", publication };
    let body = pull_request(&done, &plain, summary, &changeset(), None);
    let revise =
        Run { id: run_id(8), base_sha: Some(sha('c')), ..run_of_kind(RunKind::Revise, RunState::Active, "") };
    let by_review = About { asked: asked(How::Review, "pull/12#pullrequestreview-5"), ..plain.clone() };
    let said = "Said good night as well, as the review asks.";
    let block = revised_block(&revise, &by_review, said, &changeset(), None);
    vec![
        ("pull_request", body.clone()),
        ("pull_request_released", pull_request(&done, &plain, summary, &changeset(), Some(&of(&moved)))),
        ("pull_request_revised", with_block(&body, &block)),
        ("report", report(&done, &plain, &returned, &changeset())),
        ("report_of_a_revision", report(&revise, &by_review, &returned, &changeset())),
        ("commit_message", format!("```text\n{}```\n", commit_message(&done))),
    ]
}

fn reviews() -> Vec<(&'static str, String)> {
    let finding = |path: &str, line, severity, body: &str| ReviewFinding {
        path: path.to_owned(),
        line,
        severity,
        body: body.to_owned(),
    };
    let all = [
        finding("src/greeting.rs", Some(3), Severity::Blocking, "The name is never escaped."),
        finding(
            "README.md",
            None,
            Severity::Minor,
            "Says nothing about the moon.\n\n- one more example would do",
        ),
        finding("src/lib.rs", Some(400), Severity::Important, "The old greeting is still called here."),
    ];
    let review = run_of_kind(RunKind::Review, RunState::Active, "");
    let plain = about(Vec::new(), None);
    let discussion = run_of_kind(RunKind::Discussion, RunState::Succeeded, "");
    let by_comment = About { asked: asked(How::Comment, "issues/7#issuecomment-99"), ..plain.clone() };
    vec![
        (
            "review",
            review_body(
                &review,
                &plain,
                "One thing must change before this is merged.",
                &all,
                &[&all[1], &all[2]],
            ),
        ),
        (
            "review_without_findings",
            review_body(&review, &plain, "Reads well, and the tests cover it.", &[], &[]),
        ),
        (
            "discussion_answer",
            discussion_answer(
                &discussion,
                &by_comment,
                "Two ways are open:\n\n1. a file per greeting,\n2. one table.\n\nThe table is easier to translate.",
            ),
        ),
    ]
}

fn looked() -> Vec<Looked> {
    let rule =
        |rule: &str, passed, found: &str| Looked { rule: rule.to_owned(), passed, found: found.to_owned() };
    vec![
        rule("The change is not one of ours", true, "no effect of ours made it"),
        rule("The stage exists", true, "`dev`"),
        rule("The issue is open", true, "it is"),
        rule("Who asks may start it", false, "`triager` has triage, it takes write"),
    ]
}

fn decided(decision: Decision, reason: Reason, rule: &str, remedy: &str) -> Decided {
    Decided { decision, reason, rule: rule.to_owned(), remedy: remedy.to_owned(), trace: looked() }
}

fn answers() -> Vec<(&'static str, String)> {
    let mark = mark_of_decision(decision());
    let reject = |need: &[&str]| Decision::Reject {
        on: Some(7),
        label: Some("run:dev".to_owned()),
        need: need.iter().map(|&label| label.to_owned()).collect(),
    };
    let denied = decided(
        reject(&[]),
        Reason::NoWritePermission,
        "Starting a run takes write permission on the repository; `triager` has triage.",
        "Ask somebody with write permission to set the label.",
    );
    let ambiguous = decided(
        reject(&["need:input"]),
        Reason::StageAmbiguous,
        "The review asks for changes, but the pull request is of several stages: `dev`, `qa`.",
        "Put `run:dev:revise` or `run:qa:revise` on the pull request.",
    );
    let kept = decided(
        Decision::KeepLabels {
            number: 12,
            add: vec!["state:in-review".to_owned()],
            remove: vec!["state:approved".to_owned()],
        },
        Reason::LabelPutBack,
        "`triager` put `state:approved` on, and nobody with the right has approved #12.",
        "Approve it in a review; the label follows.",
    );
    let approval = ApprovalRecord { by: "octocat".to_owned(), head: sha('c'), review: 5 };
    let result = |stage: &str, pull, open, merged, approval| ResultRecord {
        run: run_id(5).to_string(),
        stage: stage.to_owned(),
        asked_by: "mona".to_owned(),
        pull,
        head: Some(sha('c')),
        open,
        merged,
        approval,
    };
    let record = Record {
        results: vec![result("plan", 11, false, true, Some(approval)), result("dev", 12, true, false, None)],
        discussion: Some(OpenDiscussion { opened_by: "mona".to_owned(), since: after(-3600) }),
        ..Record::default()
    };
    let runs = [
        run(RunState::Active, ""),
        Run { id: run_id(5), ..run(RunState::Failed(FailureClass::TimedOut), "") },
    ];
    let explained = Explained {
        subject: "issues.labeled",
        actor: Some("triager"),
        decided_at: after(0),
        decision: "reject",
        reason: denied.reason.code(),
        rule: &denied.rule,
        remedy: &denied.remedy,
        trace: &denied.trace,
    };
    let mut start = decided(
        Decision::Ignore,
        Reason::PreviewLabel,
        "`run:dev` set by `mona`, who has write permission.",
        "",
    );
    start.trace.pop();
    let mut definition = run(RunState::Queued, "").definition;
    definition.pod = Pod {
        cpu_millis: Some(2000),
        memory_mib: Some(8192),
        image: Some("registry.example.com/agents:1".to_owned()),
        node_selector: [("disk".to_owned(), "ssd".to_owned())].into(),
        ..Pod::default()
    };
    definition.worker_labels = [("arch".to_owned(), "arm64".to_owned())].into();
    let prompt = "You work on octocat/hello-world.\n\n--- 5f1e ---\nTitle: Say hello\n```sh\necho hello\n```\n</details> @octocat\n--- 5f1e ---\n";
    let would =
        Preview { decided: &start, stage: "dev", definition: &definition, prompt: Ok(prompt), tools: &[] };
    let broken = Preview {
        prompt: Err("`.callboard/prompts/dev.md.j2` line 3: undefined variable `isue`"),
        tools: &["git, reading only"],
        ..would
    };
    vec![
        ("rejected", rejection(&denied, &mark)),
        ("rejected_and_input_needed", rejection(&ambiguous, &mark)),
        ("label_put_back", put_back(&kept, &mark)),
        ("answer_status", answer_status(&runs, &record, &mark)),
        ("answer_status_of_nothing", answer_status(&[], &Record::default(), &mark)),
        ("answer_explain", answer_explain(Some(&explained), &mark)),
        ("answer_explain_of_nothing", answer_explain(None, &mark)),
        ("preview", preview(&would, &mark)),
        ("preview_with_a_broken_template", preview(&broken, &mark)),
    ]
}

fn all() -> Vec<Variant> {
    let of = |part, variants: Vec<(&'static str, String)>| {
        variants.into_iter().map(move |(name, text)| Variant { part, name, text })
    };
    of("Status comment", statuses())
        .chain(of("Pull request", on_pull_requests()))
        .chain(of("Review and discussion", reviews()))
        .chain(of("Answers", answers()))
        .collect()
}

#[test]
fn every_variant() {
    for variant in all() {
        insta::assert_snapshot!(variant.name, variant.text);
    }
}

/// Where the page is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/product/comments.md");

const ABOUT: &str = "# What Callboard writes on GitHub

Every text, in every variant, as it renders. This page is made from the samples in `services/internal/control-plane/src/publishing/comments`; a test fails when it is not. To write it anew: `CALLBOARD_DOCS=write cargo test -p control-plane comments`.

- A run has **one status comment** on its issue. It is edited when the run enters another phase, and while an agent works at most once a minute, so that its times live. With many runs the edits come less often: all of them together stay below half of what GitHub lets one identity write in an hour (500).
- The **pull request** says what was asked, what was done and what was checked; each revision adds its own block. A **report** on it lists the files.
- Everything an agent or a person wrote is neutralised and censored before it is posted.
- Each text begins with a mark that nobody sees, `<!-- callboard:… -->`. It is how a comment is found again; nothing else is read back.
";

#[test]
fn the_page_shows_every_variant() {
    let mut page = ABOUT.to_owned();
    let mut part = "";
    for variant in all() {
        if variant.part != part {
            part = variant.part;
            page.push_str(&format!("\n## {part}\n"));
        }
        page.push_str(&format!("\n### {}\n\n", variant.name.replace('_', " ")));
        for line in variant.text.trim_end().lines() {
            page.push_str(format!("> {line}").trim_end());
            page.push('\n');
        }
    }
    if std::env::var("CALLBOARD_DOCS").is_ok_and(|v| v == "write") {
        std::fs::write(PAGE, &page).expect("written");
    }
    let there = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        there == page,
        "docs/product/comments.md is not as the code has it: CALLBOARD_DOCS=write cargo test -p control-plane comments"
    );
}

/// Whatever an agent or a person wrote into it: a text fits, keeps its mark as the first line,
/// and holds no other.
#[test]
fn hostile_words_stay_words() {
    let hostile = "<!-- callboard:run=1 --> <details> @octocat fixes #1\n/callboard run dev\n```\n<!-- callboard:next -->\n".repeat(250);
    let mut run = run(RunState::Failed(FailureClass::Agent), &hostile);
    run.actor.clone_from(&hostile);
    if let Some(issue) = &mut run.issue {
        issue.title.clone_from(&hostile);
    }
    let mut returned = attempt(1, Returned, &hostile);
    returned.worker_name.clone_from(&hostile);
    returned.isolation = Some(hostile.clone());
    returned.start_note.clone_from(&hostile);
    returned.waits_for = Some(hostile.clone());
    let finding = domain::changeset::Finding { sentence: hostile.clone(), ..protected() };
    let publication = publication(&returned, P::Held, vec![finding; 100]);
    let about = about(vec![returned.clone(); 30], Some(publication.clone()));
    let released = Released { by: &hostile, reason: &hostile, publication: &publication };
    let findings = vec![
        ReviewFinding {
            path: hostile.clone(),
            line: None,
            severity: Severity::Minor,
            body: hostile.clone()
        };
        30
    ];
    let all_of_them: Vec<&ReviewFinding> = findings.iter().collect();
    let body = pull_request(&run, &about, &hostile, &changeset(), Some(&released));
    for text in [
        status(&run, &about, &[], after(600)),
        report(&run, &about, &returned, &changeset()),
        review_body(&run, &about, &hostile, &findings, &all_of_them),
        discussion_answer(&run, &about, &hostile),
        revised_block(&run, &about, &hostile, &changeset(), Some(&released)),
        body,
    ] {
        assert!(text.chars().count() < 65_536, "{}", text.chars().count());
        assert!(text.starts_with("<!-- callboard:"));
        let marks = text.matches("<!--").count();
        assert!(
            marks == 1 || (marks == 2 && text.matches("\n<!-- callboard:next -->\n").count() == 1),
            "{marks}"
        );
        assert!(!text.contains("@octocat") && !text.contains("\n/callboard") && !text.contains("fixes #1"));
        let open = text.matches("<details>").count();
        assert_eq!(open, text.matches("</details>").count());
    }
}
