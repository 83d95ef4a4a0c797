//! Every call of the GitHub client, made at the stand-in: both agree with GitHub's own
//! description of its API. (Every other story's calls are judged when it ends.)

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::{
    clock::Clock,
    ids::Ids,
    names::{CommitSha, RepositoryName},
};
use forge::{
    FileMode, Forge, HookOf, LabelDefinition, NewCommit, NewHook, NewPullRequest, NewRemark, NewReview,
    Progress, ProgressState, Reaction, TreeChange,
};
use github::{Credential, Endpoint, GithubForge, GithubSettings};
use webhook_simulator::{Exchange, Simulator};

use crate::harness::{
    REPOSITORY, clock,
    contract::{Description, assert_described, shape},
    folder,
};

/// A stand-in that keeps what is asked, with one repository of `octocat`'s.
struct Scene {
    github: Simulator,
    clock: Arc<dyn Clock>,
    name: RepositoryName,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let (folder, clock) = (folder(), clock() as Arc<dyn Clock>);
        let ids = Ids::from_os(Arc::clone(&clock));
        let options = webhook_simulator::Options::new(folder.path().join("github"), Arc::clone(&clock), ids);
        let github = Simulator::start(options).await.expect("the stand-in starts");
        github.record();
        github.add_user("octocat", false);
        let files = [("README.md", "# Hello\n"), (".callboard/stages.yaml", "stages: []\n")];
        github.create_repository(REPOSITORY, false, &files).await.expect("a repository");
        let name = REPOSITORY.parse().expect("a name");
        Self { github, clock, name, _folder: folder }
    }

    fn forge(&self, credential: Credential) -> GithubForge {
        let api_url = self.github.api_url().parse().expect("an address");
        let (clock, list_lag) = (Arc::clone(&self.clock), Duration::ZERO);
        GithubForge::new(GithubSettings { api_url, credential, clock, list_lag }).expect("a client")
    }

    fn personal(&self) -> GithubForge {
        let token = self.github.add_token("octocat").expect("a token");
        self.forge(Credential::PersonalAccessToken(token.into()))
    }

    async fn end(self) -> Vec<Exchange> {
        let exchanges = self.github.take_exchanges();
        self.github.shutdown().await;
        assert_described(&exchanges);
        exchanges
    }
}

/// A change of text and of a file that is none.
fn changes(text: &str) -> Vec<TreeChange> {
    let change = |path: &str, content: Option<(FileMode, Vec<u8>)>| TreeChange { path: path.into(), content };
    vec![
        change("src/hello.sh", Some((FileMode::Executable, text.into()))),
        change("logo.png", Some((FileMode::Regular, vec![0x89, 0xff, 0, 1]))),
    ]
}

/// What the platform does on the way of a label, call by call.
async fn every_usual_call(forge: &GithubForge, scene: &Scene) {
    let (github, name) = (&scene.github, &scene.name);
    let ok = "GitHub answers";
    forge.identity().await.expect(ok);
    forge.repository(name).await.expect(ok);
    forge.permission(name, "octocat").await.expect(ok);
    let label = |color: &str| LabelDefinition {
        name: "run:dev".into(),
        color: color.into(),
        description: "Write the code".into(),
    };
    forge.create_label(name, &label("0e8a16")).await.expect(ok);
    forge.create_label(name, &label("0e8a16")).await.expect_err("there is one");
    forge.update_label(name, &label("1d76db")).await.expect(ok);
    forge.labels(name).await.expect(ok);

    let issue = github.open_issue(REPOSITORY, "octocat", "Say hello", "Please.").expect("an issue");
    forge.issue(name, issue).await.expect(ok);
    forge.issue(name, 999).await.expect_err("there is none");
    forge.add_labels(name, issue, &["run:dev".to_owned(), "new".to_owned()]).await.expect(ok);
    forge.remove_label(name, issue, "run:dev").await.expect(ok);
    forge.remove_label(name, issue, "run:dev").await.expect_err("it is gone");
    forge.react(name, issue, Reaction::Eyes).await.expect(ok);
    let comment = forge.create_comment(name, issue, "⏳ queued").await.expect(ok).id;
    forge.update_comment(name, comment, "✅ done").await.expect(ok);
    forge.react_to_comment(name, comment, Reaction::ThumbsUp).await.expect(ok);
    forge.comments(name, issue).await.expect(ok);
    forge.delete_comment(name, comment).await.expect(ok);
    forge.react_to_comment(name, comment, Reaction::ThumbsUp).await.expect_err("it is gone");

    let main = forge.branch_head(name, "main").await.expect(ok).expect("a head");
    assert_eq!(forge.branch_head(name, "nope").await.expect(ok), None);
    forge.file(name, "README.md", &main).await.expect(ok).expect("a file");
    assert_eq!(forge.file(name, "nope", &main).await.expect(ok), None);
    forge.files_below(name, ".callboard", &main).await.expect(ok);
    let commit = |parent: &CommitSha, text: &str| NewCommit {
        parent: parent.clone(),
        message: "Say hello".into(),
        changes: changes(text),
        date: scene.clock.now(),
    };
    let first = forge.create_commit(name, &commit(&main, "echo hello\n")).await.expect(ok);
    forge.commit(name, &first).await.expect(ok);
    forge.create_branch(name, "callboard/1-dev", &first).await.expect(ok);
    forge.create_branch(name, "callboard/1-dev", &main).await.expect_err("it is elsewhere");
    let new = NewPullRequest {
        title: "Say hello".into(),
        body: "Asked, done, checked".into(),
        head: "callboard/1-dev".into(),
        base: "main".into(),
    };
    let pull = forge.create_pull_request(name, &new).await.expect(ok).number;
    forge.create_pull_request(name, &new).await.expect_err("there is one");
    forge.update_pull_request(name, pull, "Asked and done").await.expect(ok);
    forge.pull_requests_of(name, "callboard/1-dev").await.expect(ok);
    forge.pull_request(name, pull).await.expect(ok);
    forge.files_of_pull_request(name, pull).await.expect(ok);
    forge.reviewable_lines(name, pull).await.expect(ok);
    let remark = NewRemark { path: "src/hello.sh".into(), line: Some(1), body: "Louder".into() };
    let review = NewReview { head: first.clone(), body: "One finding".into(), remarks: vec![remark] };
    forge.create_review(name, pull, &review).await.expect(ok);
    forge.reviews(name, pull).await.expect(ok);
    let second = forge.create_commit(name, &commit(&first, "echo HELLO\n")).await.expect(ok);
    forge.move_branch(name, "callboard/1-dev", &second).await.expect(ok);
    forge.move_branch(name, "callboard/1-dev", &main).await.expect_err("never back");
    forge.changed_paths(name, &main, &second).await.expect(ok).expect("a list");
    forge.merge_base(name, &main, &second).await.expect(ok);
    github.merge(REPOSITORY, pull, "octocat").await.expect("merged");
    forge.pull_request(name, pull).await.expect(ok);
}

/// What sets a repository up, and what a sweep asks when deliveries were missed.
async fn every_call_about_hooks(forge: &GithubForge, scene: &Scene) {
    let (github, name) = (&scene.github, &scene.name);
    let ok = "GitHub answers";
    let hook = |events: &[&str]| NewHook {
        url: "http://127.0.0.1:9/webhooks/github/hello-world".into(),
        events: events.iter().map(|&event| event.to_owned()).collect(),
        secret: Some("a secret".to_owned().into()),
    };
    let id = forge.create_hook(name, &hook(&["issues"])).await.expect(ok).id;
    forge.hooks(name).await.expect(ok);
    forge.update_hook(name, id, &hook(&["issues", "issue_comment"])).await.expect(ok);
    forge.ping_hook(name, id).await.expect(ok);
    github.open_issue(REPOSITORY, "octocat", "Nobody hears", "").expect("an issue");
    every_call_about_deliveries(forge, scene, &HookOf::Repository { name: name.clone(), id }).await;
}

async fn every_call_about_deliveries(forge: &GithubForge, scene: &Scene, of: &HookOf) {
    let since = scene.clock.now() - TimeDelta::hours(1);
    let answered = |g: &Simulator| match of {
        HookOf::Repository { id, .. } => g.deliveries(*id).iter().all(|d| d.answer.is_some()).then_some(()),
        HookOf::App => Some(()),
    };
    scene.github.wait_until(answered).await;
    let sent = forge.deliveries(of, since).await.expect("GitHub answers");
    let missed = sent.first().expect("a delivery").id;
    forge.fetch_delivery(of, missed).await.expect("GitHub answers");
    forge.redeliver(of, missed).await.expect("GitHub answers");
}

/// What a sweep asks about labels, and progress in each of its states.
async fn labels_and_progress(forge: &GithubForge, scene: &Scene) {
    let (github, name) = (&scene.github, &scene.name);
    let issue = github.open_issue(REPOSITORY, "octocat", "Wait", "").expect("an issue");
    github.add_label(REPOSITORY, issue, "run:dev", "octocat").expect("a label");
    github.add_comment(REPOSITORY, issue, "octocat", "Now?").expect("a comment");
    let since = scene.clock.now() - TimeDelta::hours(1);
    forge.changed_since(name, since).await.expect("GitHub answers");
    forge.label_events(name, issue).await.expect("GitHub answers");
    let head = forge.branch_head(name, "main").await.expect("GitHub answers").expect("a head");
    let states = [
        ProgressState::Queued,
        ProgressState::InProgress,
        ProgressState::Succeeded,
        ProgressState::Failed,
        ProgressState::Cancelled,
        ProgressState::ActionRequired,
    ];
    for state in states {
        let progress = Progress {
            head: head.clone(),
            name: "callboard/dev".into(),
            run: "a run".into(),
            state,
            title: "Working".into(),
            summary: "The agent works.".into(),
            url: Some("https://callboard.example.com/runs/1".into()),
        };
        forge.report_progress(name, &progress).await.expect("GitHub answers");
    }
}

/// Everything an App may have.
const PERMISSIONS: [(&str, &str); 6] = [
    ("metadata", "read"),
    ("contents", "write"),
    ("issues", "write"),
    ("pull_requests", "write"),
    ("checks", "write"),
    ("statuses", "write"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_as_github_describes_it() {
    let Some(description) = Description::of_github() else {
        eprintln!("not run: CALLBOARD_TEST_OPENAPI is not set; `cargo xtask test` sets it");
        return;
    };
    for endpoint in Endpoint::ALL {
        let (method, template) = (endpoint.method(), endpoint.template());
        assert!(description.has(method.as_str(), template), "{method} {template} is not documented");
    }

    let scene = Scene::start().await;
    let forge = scene.personal();
    forge.access(&scene.name).await.expect("GitHub answers");
    every_usual_call(&forge, &scene).await;
    every_call_about_hooks(&forge, &scene).await;
    labels_and_progress(&forge, &scene).await;
    let mut exchanges = scene.end().await;

    let scene = Scene::start().await;
    let app = scene.github.create_app("callboard", "http://127.0.0.1:9/", "a secret").expect("an App");
    scene.github.install_app(app.id, "octocat", &[REPOSITORY], &PERMISSIONS).expect("an installation");
    let forge =
        scene.forge(Credential::App { id: app.id.to_string(), private_key: app.private_key.clone().into() });
    forge.access(&scene.name).await.expect("GitHub answers");
    forge.git_credential(&scene.name).await.expect("GitHub answers");
    every_usual_call(&forge, &scene).await;
    labels_and_progress(&forge, &scene).await;
    every_call_about_deliveries(&forge, &scene, &HookOf::App).await;
    exchanges.extend(scene.end().await);

    let called: BTreeSet<_> = exchanges.iter().map(|e| (e.method.clone(), shape(&e.template))).collect();
    let never: Vec<_> = Endpoint::ALL
        .iter()
        .map(|endpoint| (endpoint.method().to_string(), shape(endpoint.template())))
        .filter(|call| !called.contains(call))
        .collect();
    assert!(never.is_empty(), "no story makes these calls: {never:#?}");
}
