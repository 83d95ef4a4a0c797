//! Branches and commits.

use forge::{FileMode, TreeChange};

use super::*;

fn branch(name: &str, sha: &str, tree: &str) -> Reply {
    json_reply(200, &json!({ "name": name, "commit": { "sha": sha, "commit": { "tree": { "sha": tree } } } }))
}

#[tokio::test]
async fn branches_with_slashes() {
    let server = Server::start(|seen| {
        let name = seen.target.rsplit_once("/branches/").map(|(_, name)| name);
        match (&seen.method, name) {
            (&Method::GET, Some("callboard%2F7-dev")) => branch("callboard/7-dev", SHA, "t"),
            // GitHub leads from the old name to the new one.
            (&Method::GET, Some("was")) => branch("is", SHA, "t"),
            (&Method::POST, _) => json_reply(201, &json!({ "ref": "refs/heads/x" })),
            _ => refused(404, "Branch not found"),
        }
    });
    let server = server.await;
    let head = server.forge.branch_head(&repository(), "callboard/7-dev").await.unwrap();
    assert_eq!(head.map(|sha| sha.to_string()).as_deref(), Some(SHA));
    for none in ["none", "was"] {
        assert_eq!(server.forge.branch_head(&repository(), none).await.unwrap(), None);
    }
    server.forge.create_branch(&repository(), "callboard/7-dev", &SHA.parse().unwrap()).await.unwrap();
    assert_eq!(
        server.calls(),
        ["GET /branches/callboard%2F7-dev", "GET /branches/none", "GET /branches/was", "POST /git/refs"]
    );
    assert_eq!(server.seen()[3].body, json!({ "ref": "refs/heads/callboard/7-dev", "sha": SHA }));
}

/// The head of a branch tells its tree, and the tree is listed once, for everything that wants to
/// know what is in it.
#[tokio::test]
async fn what_a_commit_has_is_asked_once() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.target.contains("/branches/")) {
        ("GET", true) => branch("main", SHA, "basetree"),
        ("GET", false) if seen.target.contains("/contents/") => refused(404, "Not Found"),
        ("GET", false) => {
            let entry =
                |path: &str, mode: &str| json!({ "path": path, "mode": mode, "type": "blob", "sha": SHA });
            let tree = [
                entry("README.md", "100644"),
                entry(".callboard/prompts/dev.md", "100644"),
                entry(".callboard/prompts/link", "120000"),
            ];
            json_reply(200, &json!({ "tree": tree, "truncated": false }))
        }
        _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
    });
    let server = server.await;
    let at = server.forge.branch_head(&repository(), "main").await.unwrap().expect("a head");
    assert_eq!(server.forge.file(&repository(), ".callboard/stages.yaml", &at).await.unwrap(), None);
    let prompts = server.forge.files_below(&repository(), ".callboard/prompts", &at).await.unwrap();
    assert_eq!(prompts, [".callboard/prompts/dev.md"]);
    server
        .forge
        .create_commit(&repository(), &NewCommit { changes: Vec::new(), ..new_commit() })
        .await
        .unwrap();
    assert_eq!(
        server.calls(),
        ["GET /branches/main", "GET /git/trees/basetree?recursive=1", "POST /git/trees", "POST /git/commits"]
    );
    // What is of another repository is not known here.
    let other = "octocat/other".parse().unwrap();
    assert_eq!(server.forge.file(&other, ".callboard/stages.yaml", &at).await.unwrap(), None);
    assert!(server.seen().last().is_some_and(|seen| seen.target.contains("/contents/")));
}

#[tokio::test]
async fn paths_that_changed_between_two_commits() {
    let compared = |status: &'static str, files: Value| {
        Server::start(move |_| {
            json_reply(200, &json!({ "status": status, "total_commits": 2, "files": files }))
        })
    };
    let (base, head): (CommitSha, CommitSha) = (SHA.parse().unwrap(), OTHER_SHA.parse().unwrap());
    let files = json!([
        { "filename": "a.txt", "status": "modified" },
        { "filename": "new.txt", "status": "renamed", "previous_filename": "old.txt" },
    ]);
    let server = compared("ahead", files.clone()).await;
    let paths = server.forge.changed_paths(&repository(), &base, &head).await.unwrap();
    assert_eq!(paths.unwrap(), ["a.txt", "new.txt", "old.txt"]);
    assert_eq!(server.calls(), [format!("GET /compare/{SHA}...{OTHER_SHA}?per_page=1&page=1")]);

    // What is not told wholly is not told: a rewritten branch, a full list, none at all.
    let many = |n: usize| (0..n).map(|n| json!({ "filename": format!("{n}.txt") })).collect::<Value>();
    for (status, files) in
        [("diverged", files.clone()), ("behind", files), ("ahead", many(300)), ("ahead", Value::Null)]
    {
        let server = compared(status, files).await;
        assert_eq!(server.forge.changed_paths(&repository(), &base, &head).await.unwrap(), None, "{status}");
    }
    let server = compared("ahead", many(299)).await;
    let paths = server.forge.changed_paths(&repository(), &base, &head).await.unwrap();
    assert_eq!(paths.map(|p| p.len()), Some(299));
    let server = Server::start(|_| refused(404, "No common ancestor")).await;
    assert_eq!(server.forge.changed_paths(&repository(), &base, &head).await.unwrap(), None);
}

/// As GitHub's documentation shows it, with more than we read.
#[tokio::test]
async fn a_commit_is_read() {
    let body = json!({
        "sha": SHA, "node_id": "MDY6Q29tbWl0", "url": "https://api.github.com/c",
        "author": { "date": "2026-11-21T16:00:49Z", "name": "Callboard", "email": "c@example.com" },
        "message": "Add a greeting\n\nCallboard-Run: 7",
        "tree": { "url": "https://api.github.com/t", "sha": OTHER_SHA },
        "parents": [{ "url": "https://api.github.com/p", "sha": OTHER_SHA, "html_url": "https://github.com/p" }],
        "verification": { "verified": false, "reason": "unsigned", "signature": null, "payload": null },
    });
    let server = Server::start(move |_| json_reply(200, &body)).await;
    let commit = server.forge.commit(&repository(), &SHA.parse().unwrap()).await.unwrap();
    assert_eq!(commit.tree, OTHER_SHA);
    assert_eq!(commit.parents, [OTHER_SHA.parse().unwrap()]);
    assert_eq!(commit.message, "Add a greeting\n\nCallboard-Run: 7");
    assert_eq!(server.calls(), [format!("GET /git/commits/{SHA}")]);
}

fn new_commit() -> NewCommit {
    let change = |path: &str, content: Option<(FileMode, &[u8])>| TreeChange {
        path: path.to_owned(),
        content: content.map(|(mode, bytes)| (mode, bytes.to_vec())),
    };
    NewCommit {
        parent: SHA.parse().unwrap(),
        message: "Add a greeting\n\nCallboard-Run: 1".to_owned(),
        changes: vec![
            change("hello.txt", Some((FileMode::Regular, "hällo\r\n".as_bytes()))),
            change("run.sh", Some((FileMode::Executable, b"#!/bin/sh\n"))),
            change("logo.png", Some((FileMode::Regular, b"\x89PNG\0"))),
            change("zero.bin", Some((FileMode::Regular, b"a\0b"))),
            change("empty", Some((FileMode::Regular, b""))),
            change("link", Some((FileMode::Symlink, b"hello.txt"))),
            change("gone.txt", None),
        ],
        date: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_700_000_000_999),
    }
}

/// The parent commit, or the files of its tree.
fn base(seen: &Seen, tree: &str, files: &[&str]) -> Reply {
    if seen.target.contains("git/trees/") {
        let entry = |path: &&str| json!({ "path": path, "type": "blob", "sha": SHA });
        return json_reply(
            200,
            &json!({ "tree": files.iter().map(entry).collect::<Vec<_>>(), "truncated": false }),
        );
    }
    json_reply(200, &json!({ "sha": SHA, "tree": { "sha": tree } }))
}

/// A path that names a folder would replace everything in it, unseen by the checks.
#[tokio::test]
async fn a_change_that_names_a_folder_is_refused() {
    let files = ["docs/CODEOWNERS", "docs/a.md", "gone.txt"];
    let server = Server::start(move |seen| match seen.method.as_str() {
        "GET" => base(seen, "basetree", &files),
        _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
    });
    let server = server.await;
    let change = |path: &str, content: Option<&[u8]>| TreeChange {
        path: path.to_owned(),
        content: content.map(|bytes| (FileMode::Regular, bytes.to_vec())),
    };
    for folder in [change("docs", None), change("docs", Some(b"now a file"))] {
        let commit = NewCommit { changes: vec![folder], ..new_commit() };
        let error = server.forge.create_commit(&repository(), &commit).await.unwrap_err();
        assert!(
            matches!(&error, ForgeError::Invalid { message } if message.contains("`docs` is a folder")),
            "{error:?}"
        );
    }
    assert!(!server.calls().iter().any(|call| call.starts_with("POST")));
    // With every file of it named and judged, the folder may become a file.
    let named =
        vec![change("docs/CODEOWNERS", None), change("docs/a.md", None), change("docs", Some(b"now a file"))];
    server.forge.create_commit(&repository(), &NewCommit { changes: named, ..new_commit() }).await.unwrap();
}

/// A tree too large for one answer is walked folder by folder.
#[tokio::test]
async fn folders_are_found_in_a_truncated_tree() {
    let server = Server::start(|seen| {
        let entry = |path: &str, kind: &str, sha: &str| json!({ "path": path, "type": kind, "sha": sha });
        let listing = |entries: Value, truncated: bool| {
            json_reply(200, &json!({ "tree": entries, "truncated": truncated }))
        };
        match (seen.method.as_str(), seen.target.as_str()) {
            ("GET", t) if t.contains("recursive") => listing(json!([]), true),
            ("GET", t) if t.ends_with("trees/basetree") => {
                listing(json!([entry("src", "tree", "srctree")]), false)
            }
            ("GET", t) if t.ends_with("trees/srctree") => {
                listing(json!([entry("lib", "tree", "libtree"), entry("a.rs", "blob", SHA)]), false)
            }
            ("GET", _) => json_reply(200, &json!({ "sha": SHA, "tree": { "sha": "basetree" } })),
            _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
        }
    });
    let server = server.await;
    let put =
        |path: &str| TreeChange { path: path.to_owned(), content: Some((FileMode::Regular, b"x".to_vec())) };
    let commit = |path: &str| NewCommit { changes: vec![put(path)], ..new_commit() };
    assert!(matches!(
        server.forge.create_commit(&repository(), &commit("src/lib")).await,
        Err(ForgeError::Invalid { .. })
    ));
    for fine in ["src/a.rs", "src/new/deep.rs", "top.txt"] {
        server.forge.create_commit(&repository(), &commit(fine)).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_is_made_of_blobs_a_tree_and_a_commit() {
    let server =
        Server::start(|seen| match (seen.method.as_str(), seen.target.rsplit('/').next().unwrap()) {
            ("GET", _) => base(seen, "basetree", &["gone.txt"]),
            (_, "blobs") => json_reply(201, &json!({ "sha": "blob" })),
            (_, "trees") => json_reply(201, &json!({ "sha": "newtree" })),
            _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
        });
    let server = server.await;
    let sha = server.forge.create_commit(&repository(), &new_commit()).await.unwrap();
    assert_eq!(sha.as_str(), OTHER_SHA);
    assert_eq!(
        server.calls(),
        [
            "GET /git/commits/0123456789012345678901234567890123456789",
            "GET /git/trees/basetree?recursive=1",
            "POST /git/blobs",
            "POST /git/blobs",
            "POST /git/blobs",
            "POST /git/trees",
            "POST /git/commits",
        ]
    );
    let bodies: Vec<Value> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies[2], json!({ "content": "iVBORwA=", "encoding": "base64" }));
    assert_eq!(
        bodies[5],
        json!({ "base_tree": "basetree", "tree": [
            { "path": "hello.txt", "mode": "100644", "type": "blob", "content": "hällo\r\n" },
            { "path": "run.sh", "mode": "100755", "type": "blob", "content": "#!/bin/sh\n" },
            { "path": "logo.png", "mode": "100644", "type": "blob", "sha": "blob" },
            { "path": "zero.bin", "mode": "100644", "type": "blob", "sha": "blob" },
            { "path": "empty", "mode": "100644", "type": "blob", "sha": "blob" },
            { "path": "link", "mode": "120000", "type": "blob", "content": "hello.txt" },
            { "path": "gone.txt", "mode": "100644", "type": "blob", "sha": null },
        ] })
    );
    let who = json!({ "name": "Callboard", "email": "callboard@users.noreply.github.com", "date": "2023-11-14T22:13:20Z" });
    assert_eq!(
        bodies[6],
        json!({
            "message": "Add a greeting\n\nCallboard-Run: 1", "tree": "newtree", "parents": [SHA],
            "author": who, "committer": who,
        })
    );
}

#[tokio::test]
async fn a_commit_that_changes_nothing_is_invalid() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => base(seen, "same", &[]),
        _ => json_reply(201, &json!({ "sha": "same" })),
    });
    let server = server.await;
    let error = server.forge.create_commit(&repository(), &new_commit()).await.unwrap_err();
    assert!(matches!(&error, ForgeError::Invalid { message } if message == "nothing changed"), "{error:?}");
    assert!(!server.calls().contains(&"POST /git/commits".to_owned()));
}

#[tokio::test]
async fn much_text_goes_by_blob() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => base(seen, "basetree", &[]),
        _ => json_reply(201, &json!({ "sha": OTHER_SHA })),
    });
    let server = server.await;
    let file = |path: &str| TreeChange {
        path: path.to_owned(),
        content: Some((FileMode::Regular, vec![b'x'; 900_000])),
    };
    let commit = NewCommit { changes: ["a", "b", "c"].map(file).to_vec(), ..new_commit() };
    server.forge.create_commit(&repository(), &commit).await.unwrap();
    assert_eq!(server.calls().iter().filter(|call| call.ends_with("blobs")).count(), 1);
}

#[tokio::test]
async fn a_branch_only_moves_forward() {
    let moved = |status: u16, message: &'static str| async move {
        let server = Server::start(move |_| refused(status, message)).await;
        let to: CommitSha = OTHER_SHA.parse().unwrap();
        let outcome = server.forge.move_branch(&repository(), "callboard/7-dev", &to).await;
        assert_eq!(server.calls(), ["PATCH /git/refs/heads/callboard/7-dev"]);
        assert_eq!(server.seen()[0].body, json!({ "sha": OTHER_SHA, "force": false }));
        outcome
    };
    moved(200, "moved").await.unwrap();
    assert!(matches!(moved(422, "Update is not a fast forward").await, Err(ForgeError::Conflict { .. })));
    assert!(matches!(moved(422, "Reference does not exist").await, Err(ForgeError::Missing { .. })));
    assert!(matches!(moved(422, "Object does not exist").await, Err(ForgeError::Invalid { .. })));
}
