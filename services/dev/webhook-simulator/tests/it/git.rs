//! Plain git against smart HTTP, and commits made by REST seen by git.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::{Fixture, REPOSITORY, git, run_git};

#[tokio::test]
async fn clone_commit_push_and_clone_again() {
    let f = Fixture::new().await;
    let folder = f.folder.path();
    let hook = f.github.add_hook(REPOSITORY, "http://127.0.0.1:1/hook", "s").unwrap();
    git(folder, &["clone", "-q", &f.remote(), "work"]).await;
    let work = folder.join("work");
    let mode = std::fs::metadata(work.join("src/greeting.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "a script is executable");

    // Bigger than a pipe takes at once, in both directions, and not compressible.
    let mut noise = 1_u64;
    let big: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 33).to_le_bytes()[0]
    })
    .take(6 << 20)
    .collect();
    std::fs::write(work.join("big.bin"), &big).unwrap();
    git(&work, &["checkout", "-q", "-b", "feature/big"]).await;
    git(&work, &["add", "."]).await;
    git(&work, &["commit", "-q", "-m", "Add noise"]).await;
    git(&work, &["push", "-q", "origin", "feature/big"]).await;

    git(folder, &["clone", "-q", "--filter=blob:none", "--branch", "feature/big", &f.remote(), "again"])
        .await;
    assert_eq!(std::fs::read(folder.join("again/big.bin")).unwrap(), big);

    let pushes: Vec<_> = f.github.deliveries(hook).into_iter().filter(|d| d.event == "push").collect();
    assert_eq!(pushes.len(), 1);
    let payload: Value = serde_json::from_str(&pushes[0].body).unwrap();
    assert_eq!(payload["ref"], "refs/heads/feature/big");
    assert_eq!(payload["created"], true);
    assert_eq!(payload["commits"][0]["added"], json!(["big.bin"]));
    assert_eq!(payload["sender"]["login"], "octocat");
    f.github.shutdown().await;
}

#[tokio::test]
async fn who_may_clone_and_push() {
    let f = Fixture::new().await;
    let folder = f.folder.path();
    f.github.create_repository("octocat/secret", true, &[("a", "b")]).await.unwrap();
    f.github.add_user("mona", false);
    let mona = f.github.add_token("mona").unwrap();
    let origin = f.github.git_url().replacen("http://", "", 1);
    let url = |token: &str, name: &str| format!("http://x:{token}@{origin}/octocat/{name}.git");

    let open = format!("{}/{REPOSITORY}.git", f.github.git_url());
    git(folder, &["clone", "-q", &open, "anonymous"]).await;
    let secret = format!("{}/octocat/secret.git", f.github.git_url());
    assert!(!run_git(folder, &["ls-remote", &secret]).await.0, "private needs a token");
    assert!(!run_git(folder, &["ls-remote", &url("wrong", "secret")]).await.0, "a wrong token is refused");
    let (done, words) = run_git(folder, &["ls-remote", &url(&mona, "secret")]).await;
    assert!(!done && words.contains("not found"), "{words}");
    git(folder, &["ls-remote", &url(&f.token, "secret")]).await;

    git(folder, &["clone", "-q", &url(&mona, "hello-world"), "monas"]).await;
    let work = folder.join("monas");
    git(&work, &["commit", "-q", "--allow-empty", "-m", "x"]).await;
    let (done, words) = run_git(&work, &["push", "origin", "HEAD:main"]).await;
    assert!(!done && words.contains("403"), "{words}");

    let response = f.http.get(format!("{secret}/info/refs?service=git-upload-pack")).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"GitHub\"");
    let counts = f.github.request_counts();
    assert!(counts["GET /{owner}/{repo}/info/refs"] >= 6, "{counts:?}");
    let log = format!("{:?}", f.github.request_log());
    assert!(!log.contains(&f.token) && !log.contains(&mona), "no token is logged");
}

#[tokio::test]
async fn a_commit_made_by_rest_is_a_real_commit() {
    let f = Fixture::new().await;
    let (_, head) = f.call("GET", "git/ref/heads/main", Value::Null).await;
    let parent = head["object"]["sha"].as_str().unwrap().to_owned();
    let (_, commit) = f.call("GET", &format!("git/commits/{parent}"), Value::Null).await;
    let (status, blob) =
        f.call("POST", "git/blobs", json!({ "content": "AAH/\nAA==", "encoding": "base64" })).await;
    assert_eq!(status, 201);
    let sha = &blob["sha"];
    let (_, read) = f.call("GET", &format!("git/blobs/{}", sha.as_str().unwrap()), Value::Null).await;
    assert_eq!(read["content"], "AAH/AA==\n");

    let entries = json!([
        { "path": "README.md", "mode": "100644", "type": "blob", "sha": null },
        { "path": "src", "mode": "040000", "type": "tree", "sha": null },
        { "path": "bin/run", "mode": "100755", "type": "blob", "content": "#!/bin/sh\n" },
        { "path": "link", "mode": "120000", "type": "blob", "content": "bin/run" },
        { "path": "data/blob.bin", "mode": "100644", "type": "blob", "sha": sha },
        { "path": "vendor", "mode": "160000", "type": "commit", "sha": parent },
        { "path": "copy", "mode": "040000", "type": "tree", "sha": commit["tree"]["sha"] },
    ]);
    let (tree, base) = (
        json!([
            { "path": "README.md/now/a-folder", "mode": "100644", "type": "blob", "content": "x" },
            { "path": "README.md", "mode": "100644", "type": "blob", "sha": null },
        ]),
        &commit["tree"]["sha"],
    );
    let (status, tree) = f.call("POST", "git/trees", json!({ "base_tree": base, "tree": tree })).await;
    assert_eq!((status, &tree["tree"][0]["type"]), (201, &json!("tree")), "{tree}");

    let new = json!({ "base_tree": commit["tree"]["sha"], "tree": entries });
    let (status, tree) = f.call("POST", "git/trees", new).await;
    assert_eq!(status, 201, "{tree}");
    let person =
        json!({ "name": "Callboard", "email": "c@example.com", "date": "2026-01-02T03:04:05+01:00" });
    let new = json!({
        "message": "Change things\n\nCallboard-Run: 1", "tree": tree["sha"], "parents": [parent], "author": person,
    });
    let (status, made) = f.call("POST", "git/commits", new.clone()).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["author"]["date"], "2026-01-02T02:04:05Z");
    assert_eq!(made["verification"]["reason"], "unsigned");
    assert_eq!(f.call("POST", "git/commits", new).await.1["sha"], made["sha"], "same input, same commit");
    let sha = made["sha"].as_str().unwrap();
    let (status, _) =
        f.call("POST", "git/refs", json!({ "ref": "refs/heads/callboard/1-dev", "sha": sha })).await;
    assert_eq!(status, 201);
    let new = json!({ "title": "Do it", "body": "Done", "head": "callboard/1-dev", "base": "main" });
    let (status, pull) = f.call("POST", "pulls", new).await;
    assert_eq!(status, 201, "{pull}");
    assert_eq!(pull["commits"], 1);

    let folder = f.folder.path();
    git(folder, &["clone", "-q", "--branch", "callboard/1-dev", &f.remote(), "work"]).await;
    let work = folder.join("work");
    let listed = git(&work, &["ls-tree", "-r", "--format=%(objectmode) %(path)", "HEAD"]).await;
    let expected = "100755 bin/run\n100644 copy/README.md\n100755 copy/src/greeting.sh\n\
        100644 data/blob.bin\n120000 link\n160000 vendor\n";
    assert_eq!(listed, expected);
    assert_eq!(std::fs::read(work.join("data/blob.bin")).unwrap(), [0, 1, 255, 0]);
    assert_eq!(std::fs::read_link(work.join("link")).unwrap().to_str(), Some("bin/run"));
    assert_eq!(
        git(&work, &["log", "-1", "--format=%B"]).await.trim_end(),
        "Change things\n\nCallboard-Run: 1"
    );
    git(&work, &["fetch", "-q", "origin", "pull/1/head"]).await;

    let diff = f.github.pull_request_diff(REPOSITORY, 1).await.unwrap();
    assert!(
        diff.contains("rename to copy/src/greeting.sh") && diff.contains("new file mode 120000"),
        "{diff}"
    );
    let accept = f.request("GET", "pulls/1").header("Accept", "application/vnd.github.diff");
    assert_eq!(accept.send().await.unwrap().text().await.unwrap(), diff);
    let (_, files) = f.call("GET", "pulls/1/files", Value::Null).await;
    let names: Vec<&str> = files.as_array().unwrap().iter().filter_map(|f| f["filename"].as_str()).collect();
    assert!(names.contains(&"bin/run") && names.contains(&"data/blob.bin"), "{names:?}");

    // A push to the head moves the pull request.
    git(&work, &["commit", "-q", "--allow-empty", "-m", "More"]).await;
    git(&work, &["push", "-q", "origin", "HEAD"]).await;
    let pulls = f.github.pull_requests(REPOSITORY);
    assert_ne!(pulls[0].head_sha, sha);
    assert_eq!(f.call("GET", "pulls/1", Value::Null).await.1["commits"], 2);
}
