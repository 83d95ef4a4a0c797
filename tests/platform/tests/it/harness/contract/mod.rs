//! GitHub's own description of its API, and what of an exchange does not agree with it.

mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::OnceLock,
};

use serde_json::{Value, json};
use webhook_simulator::{Asker, Content, Exchange};

use self::schema::Schemas;

/// Statuses GitHub documents for the whole API and not for every operation, with the page.
const EVERYWHERE: [(u16, &str); 11] = [
    (301, "rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects"),
    (307, "rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects"),
    (
        304,
        "rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate",
    ),
    (400, "rest/using-the-rest-api/troubleshooting-the-rest-api#invalid-request-when-calling-the-rest-api"),
    (401, "rest/authentication/authenticating-to-the-rest-api#failed-login-limit"),
    (403, "rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"),
    (404, "rest/using-the-rest-api/troubleshooting-the-rest-api#404-not-found-for-an-existing-resource"),
    (422, "rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed"),
    (429, "rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"),
    (500, "rest/using-the-rest-api/troubleshooting-the-rest-api"),
    (502, "rest/using-the-rest-api/troubleshooting-the-rest-api#timeouts"),
];

/// The description; parsed once per process.
#[derive(Debug)]
pub(crate) struct Description {
    schemas: Schemas,
    /// By method and shape of the path.
    operations: BTreeMap<(String, String), Operation>,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    value: &'static Value,
    /// What all methods of the path take.
    path: &'static Value,
}

/// A path without the names of its parts. The root folder is documented as an empty path.
pub(crate) fn shape(template: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    let shape = template.trim_end_matches('/').split('/').map(part).collect::<Vec<_>>().join("/");
    if shape.ends_with("/contents") { shape + "/{}" } else { shape }
}

impl Description {
    /// `None` when `CALLBOARD_TEST_OPENAPI` does not say where it is; `cargo xtask test` does.
    pub(crate) fn of_github() -> Option<&'static Self> {
        static DESCRIPTION: OnceLock<Option<Description>> = OnceLock::new();
        let read = || {
            let path = std::env::var_os("CALLBOARD_TEST_OPENAPI").map(PathBuf::from)?;
            let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            Some(Self::new(Box::leak(Box::new(serde_json::from_slice(&text).expect("JSON")))))
        };
        DESCRIPTION.get_or_init(read).as_ref()
    }

    fn new(document: &'static Value) -> Self {
        let mut operations = BTreeMap::new();
        for (template, path) in document["paths"].as_object().expect("paths") {
            for (method, value) in path.as_object().expect("methods") {
                operations.insert((method.to_uppercase(), shape(template)), Operation { value, path });
            }
        }
        Self { schemas: Schemas::new(document), operations }
    }

    /// True when there is such a call.
    pub(crate) fn has(&self, method: &str, template: &str) -> bool {
        self.operation(method, template).is_some()
    }

    fn operation(&self, method: &str, template: &str) -> Option<Operation> {
        self.operations.get(&(method.to_owned(), shape(template))).copied()
    }

    /// Sentences about what is not as described.
    pub(crate) fn violations(&self, exchange: &Exchange) -> BTreeSet<String> {
        let call = format!("{} {}", exchange.method, exchange.template);
        let Some(operation) = self.operation(&exchange.method, &exchange.template) else {
            return BTreeSet::from([format!("{call} is not documented: {}", exchange.path)]);
        };
        let mut wrong = BTreeSet::new();
        if exchange.asker == Asker::Installation
            && operation.value["x-github"]["enabledForGitHubApps"] != true
        {
            wrong.insert("is not for installations".to_owned());
        }
        wrong.extend(self.query(operation, exchange));
        wrong.extend(self.request(operation, exchange).into_iter().map(|w| format!("request: {w}")));
        if !exchange.is_scripted {
            let answer = self.answer(operation, exchange);
            wrong.extend(answer.into_iter().map(|w| format!("answer {}: {w}", exchange.status)));
        }
        wrong.into_iter().map(|w| format!("{call}: {w}")).collect()
    }

    fn query(&self, operation: Operation, exchange: &Exchange) -> Vec<String> {
        let all = [operation.path, operation.value].map(|of| of["parameters"].as_array());
        let all: Vec<_> = all.into_iter().flatten().flatten().map(|p| self.schemas.resolve(p)).collect();
        let mut wrong = Vec::new();
        for (name, text) in &exchange.query {
            let Some(parameter) = all.iter().find(|p| p["in"] == "query" && p["name"] == name.as_str())
            else {
                wrong.push(format!("?{name} is not documented"));
                continue;
            };
            let schema = self.schemas.resolve(&parameter["schema"]);
            let value = match schema["type"].as_str() {
                Some("integer") => text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
                Some("boolean") => text.parse::<bool>().map_or_else(|_| json!(text), |yes| json!(yes)),
                Some("array") => json!(text.split(',').collect::<Vec<_>>()),
                _ => json!(text),
            };
            let found = self.schemas.violations(schema, &value);
            wrong.extend(found.into_iter().map(|w| format!("?{name}: {w}")));
        }
        wrong
    }

    fn request(&self, operation: Operation, exchange: &Exchange) -> BTreeSet<String> {
        let body = operation.value.get("requestBody").map(|body| self.schemas.resolve(body));
        let one = |sentence: &str| BTreeSet::from([sentence.to_owned()]);
        match (&exchange.request, body) {
            (Content::TooLarge, _) | (Content::Empty, None) => BTreeSet::new(),
            (Content::Empty, Some(body)) => {
                if body["required"] == true {
                    one("has no body")
                } else {
                    BTreeSet::new()
                }
            }
            (Content::Json(_) | Content::Other(_), None) => one("has a body, which is not documented"),
            (Content::Other(kind), Some(_)) => one(&format!("is {kind}")),
            (Content::Json(value), Some(body)) => {
                self.schemas.violations(&body["content"]["application/json"]["schema"], value)
            }
        }
    }

    fn answer(&self, operation: Operation, exchange: &Exchange) -> BTreeSet<String> {
        let one = |sentence: &str| BTreeSet::from([sentence.to_owned()]);
        let documented = operation.value["responses"].get(exchange.status.to_string());
        let general = EVERYWHERE.iter().any(|(status, _)| *status == exchange.status);
        let error = &operation.value["responses"].as_object().expect("responses");
        let content = match documented {
            Some(response) => &self.schemas.resolve(response)["content"],
            None if general && exchange.status != 304 => return self.error(exchange),
            None if general => &Value::Null,
            None => return one(&format!("is not among {:?}", error.keys().collect::<Vec<_>>())),
        };
        let described = content.get("application/json");
        match &exchange.answer {
            Content::TooLarge => BTreeSet::new(),
            Content::Empty if described.is_some() => one("is empty"),
            Content::Empty => BTreeSet::new(),
            // The file itself, which the operation's own words describe.
            Content::Other(kind) if kind == "application/vnd.github.raw+json" => BTreeSet::new(),
            Content::Other(kind) if content.get(kind).is_some() => BTreeSet::new(),
            Content::Other(kind) => one(&format!("is {kind}")),
            Content::Json(value) => match described {
                Some(described) => self.schemas.violations(&described["schema"], value),
                None => one("has a body, which is not documented"),
            },
        }
    }

    /// An error that is documented for the whole API.
    fn error(&self, exchange: &Exchange) -> BTreeSet<String> {
        let schema = if exchange.status == 422 { "validation-error" } else { "basic-error" };
        match &exchange.answer {
            Content::Json(value) => self.schemas.violations(self.schemas.named(schema), value),
            Content::Empty | Content::Other(_) | Content::TooLarge => {
                BTreeSet::from(["is no error as GitHub gives them".to_owned()])
            }
        }
    }
}

/// Fails with everything in a story's exchanges that is not as GitHub describes it. Judges
/// nothing where there is no description.
pub(crate) fn assert_described(exchanges: &[Exchange]) {
    let Some(description) = Description::of_github() else { return };
    let wrong: BTreeSet<String> = exchanges.iter().flat_map(|e| description.violations(e)).collect();
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "not as GitHub describes its API:\n{}", wrong.join("\n"));
}
