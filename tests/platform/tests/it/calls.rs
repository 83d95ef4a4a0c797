//! What a run costs at the code host: every call from the label to the last word, counted there.

use serde_json::{Value, json};

use crate::harness::{GO, REPOSITORY, Setup, World};

/// The most a change of up to twenty text files may cost, minted tokens and look-ups included.
const MOST: usize = 24;
const FOLDERS: [&str; 4] = ["src", "src/deep/er", "docs", "new"];

/// Twenty files in four folders, some of them new.
fn steps() -> Value {
    let write = |n: usize| {
        let path = format!("{}/file{n}.txt", FOLDERS[n % FOLDERS.len()]);
        json!({ "write": { "path": path, "content": format!("text {n}\n") } })
    };
    let summary = json!({ "summary": "Wrote twenty files." });
    [json!({ "wait_for_file": GO })].into_iter().chain((0..20).map(write)).chain([summary]).collect()
}

/// At its start the platform looks for what it missed, which is no part of a run. The tokens it
/// needs for that are: a run that comes later finds them gone.
const OF_THE_LOOK: [&str; 4] = [
    "GET /app/hook/deliveries",
    "GET /repos/{owner}/{repo}/hooks",
    "GET /repos/{owner}/{repo}/hooks/{hook}/deliveries",
    "GET /repos/{owner}/{repo}/issues",
];

/// All calls of a run and how many of each, minted tokens and look-ups among them.
fn table(world: &World) -> (usize, String) {
    let mut calls: Vec<(String, usize)> = Vec::new();
    let of_the_api = |template: &str| ["/repos/", "/user", "/app"].iter().any(|p| template.starts_with(p));
    for request in world.github.request_log().into_iter().filter(|r| of_the_api(&r.template)) {
        let name = format!("{} {}", request.method, request.template);
        if OF_THE_LOOK.contains(&name.as_str()) {
            continue;
        }
        match calls.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => *times += 1,
            None => calls.push((name, 1)),
        }
    }
    // What happens at the same time comes in any order.
    calls.sort();
    let all = calls.iter().map(|(_, times)| times).sum();
    let lines: Vec<String> = calls.into_iter().map(|(name, times)| format!("{times} {name}")).collect();
    (all, format!("{}\n{all} in all", lines.join("\n")))
}

async fn cost(app: bool) -> String {
    let files =
        vec![("src/file0.txt", "old\n"), ("docs/file2.txt", "old\n"), ("src/deep/er/kept.txt", "kept\n")];
    let world = World::with(Setup { files, app, ..Setup::default() }).await;
    let issue = world.scripted_issue("Write twenty files", &steps());
    world.until_looked(0).await;
    world.label(issue, "run:dev");
    let run = world.run_of(issue).await;
    // Long enough at work that its comment says so.
    world.until_waiting(&run.id, 1).await;
    let working = |body: &String| body.contains("🏃");
    world.until("the comment to say so", |_| world.comments(issue).iter().any(working).then_some(())).await;
    world.let_go(&run.id).await;
    assert_eq!(world.finished(&run.id).await.run.expect("a run").state, "succeeded");
    let (all, table) = table(&world);
    println!("{table}");
    let pull = world.github.pull_requests(REPOSITORY).pop().expect("a pull request");
    let diff = world.github.pull_request_diff(REPOSITORY, pull.number).await.expect("a diff");
    assert_eq!(diff.matches("diff --git").count(), 20, "all of them are there");
    assert!(all <= MOST, "{table}");
    world.end().await;
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_twenty_files_costs_few_calls() {
    insta::assert_snapshot!("calls_of_an_app", cost(true).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_persons_token_it_costs_fewer() {
    insta::assert_snapshot!("calls_of_a_person", cost(false).await);
}
