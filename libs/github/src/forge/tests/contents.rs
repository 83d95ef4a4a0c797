//! Files at a commit, and the repository's labels.

use super::*;

fn raw(body: &str) -> Reply {
    (
        200,
        vec![("content-type", "application/vnd.github.raw+json; charset=utf-8".to_owned())],
        body.to_owned(),
    )
}

fn at() -> CommitSha {
    SHA.parse().unwrap()
}

#[tokio::test]
async fn a_file_is_read_as_it_is() {
    let server = Server::start(|_| raw("{\"a\": 1}\r\n")).await;
    let file = server.forge.file(&repository(), ".callboard/stages one.yaml", &at()).await.unwrap();
    assert_eq!(file.as_deref(), Some(&b"{\"a\": 1}\r\n"[..]));
    assert_eq!(server.calls(), [format!("GET /contents/.callboard/stages%20one.yaml?ref={SHA}")]);
    assert_eq!(server.seen()[0].headers["accept"], "application/vnd.github.raw+json");

    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert_eq!(server.forge.file(&repository(), "nope", &at()).await.unwrap(), None);
    // A folder is described, whatever is asked for.
    let server = Server::start(|_| json_reply(200, &json!([{ "name": "a", "type": "file" }]))).await;
    assert_eq!(server.forge.file(&repository(), "src", &at()).await.unwrap(), None);
    // A server that describes files too does not offer this: its description is not the file.
    let server = Server::start(|_| json_reply(200, &json!({ "type": "file", "content": "YQ==" }))).await;
    let error = server.forge.file(&repository(), "a", &at()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_large_file_is_refused() {
    for (bytes, fine) in [(1024 * 1024, true), (1024 * 1024 + 1, false)] {
        let server = Server::start(move |_| raw(&"x".repeat(bytes))).await;
        let read = server.forge.file(&repository(), "big.yaml", &at()).await;
        assert_eq!(read.is_ok(), fine);
        assert!(fine || read.unwrap_err().to_string().contains("`big.yaml` has 1048577 bytes"));
    }
}

#[tokio::test]
async fn the_files_below_a_folder() {
    let folder = |truncated: bool| {
        Server::start(move |seen| {
            let entry = |path: &str, kind: &str| json!({ "path": path, "type": kind, "sha": OTHER_SHA });
            if seen.target.contains("/contents/") {
                let mut submodule = entry(".callboard/other", "file");
                submodule["submodule_git_url"] = json!("https://github.com/o/r.git");
                let entries = [
                    entry(".callboard/stages.yaml", "file"),
                    entry(".callboard/prompts", "dir"),
                    entry(".callboard/link", "symlink"),
                    submodule,
                ];
                return json_reply(200, &json!(entries));
            }
            let entry = |path: &str, mode: &str| json!({ "path": path, "mode": mode, "sha": SHA });
            let tree = [
                entry("en", "040000"),
                entry("en/dev.md", "100644"),
                entry("en/link", "120000"),
                entry("en/sub", "160000"),
                entry("check.sh", "100755"),
            ];
            json_reply(200, &json!({ "tree": tree, "truncated": truncated }))
        })
    };
    let server = folder(false).await;
    let files = server.forge.files_below(&repository(), ".callboard", &at()).await.unwrap();
    assert_eq!(
        files,
        [".callboard/stages.yaml", ".callboard/prompts/en/dev.md", ".callboard/prompts/check.sh"]
    );
    assert_eq!(
        server.calls(),
        [format!("GET /contents/.callboard?ref={SHA}"), format!("GET /git/trees/{OTHER_SHA}?recursive=1")]
    );
    // What is not told wholly is an error and never a part.
    let error = folder(true).await.forge.files_below(&repository(), ".callboard", &at()).await.unwrap_err();
    assert!(error.to_string().contains("`.callboard/prompts` has more files"), "{error}");
    let many: Vec<Value> =
        (0..1000).map(|n| json!({ "path": format!("a/{n}"), "type": "file", "sha": SHA })).collect();
    let server = Server::start(move |_| json_reply(200, &json!(many))).await;
    let error = server.forge.files_below(&repository(), "a", &at()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Invalid { .. }), "{error:?}");
    // There is none, or it is a file.
    let server = Server::start(|_| refused(404, "Not Found")).await;
    assert!(server.forge.files_below(&repository(), "a", &at()).await.unwrap().is_empty());
    let server = Server::start(|_| json_reply(200, &json!({ "path": "a", "type": "file" }))).await;
    assert!(server.forge.files_below(&repository(), "a", &at()).await.unwrap().is_empty());
}

#[tokio::test]
async fn labels_are_read_made_and_changed() {
    let server = Server::start(|seen| match seen.method {
        Method::GET => json_reply(
            200,
            &json!([
                { "id": 1, "name": "bug", "color": "d73a4a", "description": "Something is wrong" },
                { "id": 2, "name": "run:dev", "color": "0e8a16", "description": null },
            ]),
        ),
        _ => json_reply(201, &json!({})),
    });
    let server = server.await;
    let found = server.forge.labels(&repository()).await.unwrap();
    let label = |name: &str, color: &str, description: &str| LabelDefinition {
        name: name.into(),
        color: color.into(),
        description: description.into(),
    };
    assert_eq!(found, [label("bug", "d73a4a", "Something is wrong"), label("run:dev", "0e8a16", "")]);
    let wanted = label("run:dev", "1d76db", "Write the code");
    server.forge.create_label(&repository(), &wanted).await.unwrap();
    server.forge.update_label(&repository(), &wanted).await.unwrap();
    assert_eq!(server.calls(), ["GET /labels?per_page=100&page=1", "POST /labels", "PATCH /labels/run:dev"]);
    let bodies: Vec<Value> = server.seen().into_iter().skip(1).map(|seen| seen.body).collect();
    assert_eq!(
        bodies,
        [
            json!({ "name": "run:dev", "color": "1d76db", "description": "Write the code" }),
            json!({ "color": "1d76db", "description": "Write the code" }),
        ]
    );
    let there = json!({
        "message": "Validation Failed", "errors": [{ "resource": "Label", "field": "name", "code": "already_exists" }],
    });
    let server = Server::start(move |_| json_reply(422, &there)).await;
    let error = server.forge.create_label(&repository(), &wanted).await.unwrap_err();
    assert!(matches!(error, ForgeError::Conflict { .. }), "{error:?}");
}
