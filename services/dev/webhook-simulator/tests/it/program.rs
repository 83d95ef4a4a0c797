//! The program: a server and the commands that talk to it.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

fn program(folder: &std::path::Path, server: &str, arguments: &[&str]) -> tokio::process::Command {
    let mut command = subprocess::command(env!("CARGO_BIN_EXE_webhook-simulator"), folder);
    command.args(arguments).env("WEBHOOK_SIMULATOR_URL", server);
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn serve_with_an_app() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--app-file", "app.json"];
    let mut server = program(path, "", &serve).env_remove("WEBHOOK_SIMULATOR_URL").spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let url = first["git_url"].as_str().unwrap().to_owned();
    let run = async |arguments: &[&str]| {
        let output = program(path, &url, arguments).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    };
    let app: Value = serde_json::from_str(&std::fs::read_to_string(path.join("app.json")).unwrap()).unwrap();
    let key = path.join(app["private_key_file"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let key = EncodingKey::from_rsa_pem(&std::fs::read(&key).unwrap()).unwrap();
    let id = app["id"].as_u64().unwrap();
    let builder = octocrab::Octocrab::builder().base_uri(first["api_url"].as_str().unwrap()).unwrap();
    let crab = builder.app(id.into(), key).build().unwrap();
    let installed = async || crab.apps().get_repository_installation("octocat", "hello-world").await;
    let installation = installed().await.unwrap().id;
    let token = async || crab.installation_and_token(installation).await.is_ok();
    let of_it = installation.to_string();
    assert!(token().await);
    assert!(run(&["app", "suspend", &of_it]).await.0 && !token().await);
    assert!(run(&["app", "unsuspend", &of_it]).await.0 && token().await);
    assert!(run(&["app", "uninstall", &of_it]).await.0 && installed().await.is_err());
    let id = id.to_string();
    let wrong = ["app", "install", &id, "octocat", "--permission", "issues=some"];
    let (done, words) = run(&wrong).await;
    assert!(!done && words.contains("`some` is no level for issues"), "{words}");
    let install = ["app", "install", &id, "octocat", "--repository", "octocat/hello-world"];
    let (done, again) = run(&install).await;
    assert!(done && installed().await.unwrap().id.to_string() == again, "{again}");
    std::fs::write(path.join("secret"), "hush\n").unwrap();
    assert!(run(&["app", "hook", &id, "http://127.0.0.1:1/", "--secret-file", "secret"]).await.0);
    assert!(run(&["app", "expire-tokens"]).await.0 && run(&["reachable", "false"]).await.0);
    assert!(run(&["app", "create", "other", "--app-file", "other.json"]).await.0);
    assert!(path.join("other.json.pem").exists());
}

#[tokio::test]
async fn serve_seed_issue_label_show() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("secret"), "hush\n").unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--token-file", "token"];
    let mut server = program(path, "", &serve).env_remove("WEBHOOK_SIMULATOR_URL").spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let url = first["git_url"].as_str().unwrap().to_owned();
    let run = async |arguments: &[&str]| {
        let output = program(path, &url, arguments).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    };

    let mode = std::fs::metadata(path.join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(path.join("token")).unwrap();
    assert!(token.starts_with("ghp_"));

    let seed = ["seed", "--hook-url", "http://127.0.0.1:1/x", "--hook-secret-file", "secret"];
    let (done, made) = run(&seed).await;
    assert!(done && made.contains("hook_id") && !made.contains("hush"), "{made}");
    assert_eq!(run(&seed).await.1, made, "a second time changes nothing");
    assert_eq!(run(&["issue", "--title", "Hello", "--body", "Please"]).await, (true, "1".to_owned()));
    assert!(run(&["label", "octocat/hello-world", "1", "run:dev"]).await.0);
    let issue: Value =
        serde_json::from_str(&run(&["show", "issue", "octocat/hello-world", "1"]).await.1).unwrap();
    assert_eq!(issue["labels"][0]["name"], "run:dev");
    assert_eq!(run(&["show", "comments", "octocat/hello-world", "1"]).await.1, "[]");
    assert_eq!(run(&["show", "pull", "octocat/hello-world"]).await.1, "[]");
    let sent: Value =
        serde_json::from_str(&run(&["show", "deliveries", "octocat/hello-world"]).await.1).unwrap();
    assert_eq!(sent[2]["action"], "labeled");
    let id = sent[2]["id"].to_string();
    assert!(run(&["redeliver", &id]).await.0);
    let (done, words) = run(&["redeliver", "1"]).await;
    assert!(!done && words.contains("there is no delivery 1"), "{words}");
    assert!(!run(&["label", "octocat/hello-world", "9", "x"]).await.0);

    // A pull request is opened by a program; a person reviews and merges it.
    let api = format!("{}/repos/octocat/hello-world", first["api_url"].as_str().unwrap());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |path: &str, body: Value| {
        let request = http.post(format!("{api}/{path}")).bearer_auth(&token).json(&body);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let main = http.get(format!("{api}/branches/main")).send().await.unwrap().json::<Value>().await.unwrap();
    let entry = json!({ "path": "a.txt", "mode": "100644", "type": "blob", "content": "a\n" });
    let tree = post("git/trees", json!({ "base_tree": "main", "tree": [entry] })).await;
    let parents = [&main["commit"]["sha"]];
    let commit = json!({ "message": "a", "tree": tree["sha"], "parents": parents });
    let commit = post("git/commits", commit).await;
    post("git/refs", json!({ "ref": "refs/heads/a", "sha": commit["sha"] })).await;
    assert_eq!(post("pulls", json!({ "title": "a", "head": "a", "base": "main" })).await["number"], 2);
    let review = ["review", "octocat/hello-world", "2", "approve", "--remark", "a.txt:1:Fine: yes"];
    let (done, words) = run(&review).await;
    assert!(!done && words.contains("Can not approve your own pull request"), "{words}");
    assert!(run(&[&review[..], &["--as", "lena"]].concat()).await.0);
    let reviews: Value =
        serde_json::from_str(&run(&["show", "reviews", "octocat/hello-world", "2"]).await.1).unwrap();
    assert_eq!(
        (&reviews[0]["state"], &reviews[0]["remarks"][0]["body"]),
        (&json!("APPROVED"), &json!("Fine: yes"))
    );
    assert!(run(&["merge", "octocat/hello-world", "2"]).await.0);
    assert!(!run(&["merge", "octocat/hello-world", "2"]).await.0);
    let page =
        http.get(format!("{url}/octocat/hello-world/pull/2")).send().await.unwrap().text().await.unwrap();
    for words in ["merged", "lena approved", "lena on a.txt, line 1", "octocat</b> merged this"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let fault =
        ["fault", "request", "refuse=503", "--at", "POST /repos/{owner}/{repo}/pulls", "--times", "2"];
    assert!(run(&fault).await.0 && run(&["fault", "delivery", "drop", "--event", "issues"]).await.0);
    let scripted: Value = serde_json::from_str(&run(&["fault", "list"]).await.1).unwrap();
    assert_eq!((&scripted[0]["fault"], &scripted[0]["times"]), (&json!("refuse=503"), &json!(2)));
    assert!(run(&["fault", "clear"]).await.0 && run(&["fault", "list"]).await.1 == "[]");
    let (done, words) = run(&["fault", "request", "explode"]).await;
    assert!(!done && words.contains("there is no fault `explode`"), "{words}");
    assert!(run(&["show", "log"]).await.0);
    assert!(run(&["--help"]).await.0);
}
