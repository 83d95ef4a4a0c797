//! The model as an agent meets it: over HTTP.

use reqwest::{Client, StatusCode};
use scripted_model::{Script, ScriptedModel};
use serde_json::{Value, json};

async fn start(steps: Value, key: Option<&str>) -> ScriptedModel {
    let script = Script::from_json(&json!({"steps": steps}).to_string()).expect("a script");
    ScriptedModel::start(([127, 0, 0, 1], 0).into(), script, key.map(str::to_owned))
        .await
        .expect("it listens")
}

/// The items of a conversation in which `calls` tool calls were answered.
fn conversation(calls: usize) -> Value {
    let mut input =
        vec![json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]})];
    for call in 0..calls {
        input.push(json!({"type": "function_call", "call_id": format!("call_{call}"), "name": "exec_command", "arguments": "{}"}));
        input
            .push(json!({"type": "function_call_output", "call_id": format!("call_{call}"), "output": "ok"}));
    }
    json!({"model": "scripted", "stream": true, "input": input})
}

async fn ask(model: &ScriptedModel, calls: usize) -> (StatusCode, String) {
    let url = format!("{}/responses", model.base_url());
    let client = Client::builder().no_proxy().build().expect("a client");
    let answer =
        client.post(url).bearer_auth("the-key").json(&conversation(calls)).send().await.expect("an answer");
    (answer.status(), answer.text().await.expect("a body"))
}

/// The item the model answered with.
fn item(events: &str) -> Value {
    let first = events.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str::<Value>(first).expect("JSON")["item"].clone()
}

#[tokio::test]
async fn plays_a_call_then_the_last_words_and_repeats_itself_when_asked_again() {
    let model = start(json!([{"shell": "ls"}, {"text": "done"}]), None).await;
    for _ in 0..2 {
        let (status, events) = ask(&model, 0).await;
        assert_eq!(status, StatusCode::OK);
        let item = item(&events);
        assert_eq!(
            (item["type"].as_str(), item["name"].as_str()),
            (Some("function_call"), Some("exec_command"))
        );
        assert_eq!(item["arguments"], r#"{"cmd":"ls"}"#);
        assert!(events.contains("response.completed"));
    }
    assert_eq!(item(&ask(&model, 1).await.1)["content"][0]["text"], "done");
    assert_eq!(ask(&model, 2).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(model.requests().len(), 4);
    assert_eq!(model.requests()[0].body["model"], "scripted");
    model.shutdown().await;
}

#[tokio::test]
async fn fails_as_often_as_the_script_says() {
    let model = start(json!([{"error": 529, "times": 2}, {"text": "done"}]), None).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask(&model, 0).await.0.as_u16());
    }
    assert_eq!(statuses, [529, 529, 200]);
    model.shutdown().await;
}

#[tokio::test]
async fn a_hanging_step_ends_with_the_model() {
    let model = start(json!([{"hang": 3600}, {"text": "done"}]), None).await;
    let url = format!("{}/responses", model.base_url());
    let request = tokio::spawn(
        Client::builder().no_proxy().build().expect("a client").post(url).json(&conversation(0)).send(),
    );
    while model.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    model.shutdown().await;
    let status = request.await.expect("no panic").expect("an answer").status();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn asks_for_its_key_and_does_not_record_it() {
    let model = start(json!([{"text": "done"}]), Some("another-key")).await;
    assert_eq!(ask(&model, 0).await.0, StatusCode::UNAUTHORIZED);
    let client = Client::builder().no_proxy().build().expect("a client");
    let models = client
        .get(format!("{}/models", model.base_url()))
        .bearer_auth("another-key")
        .send()
        .await
        .expect("an answer");
    assert_eq!(models.json::<Value>().await.expect("JSON")["data"][0]["id"], "scripted");
    let root = model.base_url().replace("/v1", "/");
    assert_eq!(client.head(root).send().await.expect("an answer").status(), StatusCode::OK);
    let requests = model.requests();
    assert_eq!(requests.iter().map(|r| r.authorized).collect::<Vec<_>>(), [false, true, false]);
    let printed = format!("{requests:?}");
    assert!(
        printed.contains("authorization") && !printed.contains("the-key") && !printed.contains("another-key")
    );
    model.shutdown().await;
}
