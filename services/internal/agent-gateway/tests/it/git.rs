//! git through the gateway.

use std::{
    path::Path,
    process::{Command, Output},
};

use reqwest::StatusCode;

use crate::world::{ATTEMPT, World, http};

fn git(directory: &Path) -> Command {
    let mut command = subprocess::command("git", directory);
    command.env("HOME", directory).env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]);
    command
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("git runs")
}

/// A repository with one commit.
async fn repository(folder: &Path) {
    std::fs::create_dir(folder.join("origin")).expect("a folder");
    let origin = folder.join("origin");
    std::fs::write(origin.join("README"), "hello\n".repeat(5000)).expect("written");
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "first"]] {
        let mut command = git(&origin);
        command.args(arguments);
        assert!(output(command).await.status.success());
    }
}

#[tokio::test]
async fn clones_with_bearer_and_with_basic_and_cannot_push() {
    let world = World::new().await;
    let folder = world.folder.path().to_owned();
    repository(&folder).await;
    world.control_plane.seen().repository = Some(folder.join("origin"));

    let url = format!("{}/git/octocat/hello-world.git", world.url);
    let mut bearer = git(&folder);
    bearer.args(["-c", &format!("http.extraHeader=Authorization: Bearer {}", world.token())]);
    bearer.args(["clone", "-q", &url, "bearer"]);
    let mut basic = git(&folder);
    basic.args(["clone", "-q", &url.replace("://", &format!("://x:{}@", world.token())), "basic"]);
    for clone in [bearer, basic] {
        let done = output(clone).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    for clone in ["bearer", "basic"] {
        assert_eq!(std::fs::read(folder.join(clone).join("README")).expect("cloned").len(), 30_000);
    }

    let mut push = git(&folder.join("basic"));
    push.args(["push", "-q", "origin", "HEAD:refs/heads/x"]);
    let done = output(push).await;
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("403"));

    let seen = world.control_plane.seen();
    assert!(seen.git.iter().all(|request| request.attempt.as_ref().is_some_and(|a| a.attempt_id == ATTEMPT)));
    let post = seen.git.iter().find(|request| request.path == "git-upload-pack").expect("a fetch");
    assert_eq!(post.headers["Content-Type"], "application/x-git-upload-pack-request");
    assert_eq!(seen.git[0].headers["Git-Protocol"], "version=2");
    assert!(post.headers.keys().all(|name| !name.eq_ignore_ascii_case("authorization")));
}

#[tokio::test]
async fn passes_on_only_what_git_needs_in_both_directions() {
    let world = World::new().await;
    let folder = world.folder.path().to_owned();
    repository(&folder).await;
    world.control_plane.seen().repository = Some(folder.join("origin"));
    let url = format!("{}/git/OCTOCAT/Hello-World.git", world.url);

    let packed = vec![0x1f, 0x8b, 0, 1, 2];
    let request = http()
        .post(format!("{url}/git-upload-pack"))
        .bearer_auth(world.token())
        .header("content-encoding", "gzip")
        .header("cookie", "a=b")
        .header("x-forwarded-for", "1.2.3.4")
        .body(packed.clone());
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    assert!(answer.headers().get("x-internal").is_none());
    {
        let seen = world.control_plane.seen();
        assert_eq!(seen.git[0].body, packed, "the body is passed on as it is");
        let mut names: Vec<_> = seen.git[0].headers.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["Accept", "Content-Encoding"]);
    }

    let large =
        http().post(format!("{url}/git-upload-pack")).bearer_auth(world.token()).body(vec![0; (8 << 20) + 1]);
    assert_eq!(large.send().await.expect("an answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.control_plane.seen().git.len(), 1);
}

#[tokio::test]
async fn an_absent_code_host_is_said_without_its_address() {
    let world = World::new().await;
    let url = format!("{}/git/octocat/hello-world.git/info/refs?service=git-upload-pack", world.url);
    let answer = http().get(url).bearer_auth(world.token()).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.text().await.expect("a body").contains("internal.example"));
}
