//! Deliveries to hooks of repositories and Apps: signed, sent once, recorded, sent again when asked.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::ids::DeliveryId;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    Simulator, fault, payload,
    refusal::Refusal,
    world::{Hook, World},
};

/// GitHub waits this long for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// One webhook call, sent or about to be.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Id of this attempt.
    pub id: u64,
    /// `X-GitHub-Delivery`; a redelivery has the same.
    pub guid: String,
    /// The hook it goes to.
    pub hook: u64,
    /// Where it was sent.
    pub url: String,
    /// `owner/name` in lower case, of the repository it is about.
    pub repository: Option<String>,
    /// Number of that repository.
    pub repository_id: Option<u64>,
    /// The App's installation it is about.
    pub installation_id: Option<u64>,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The payload's `action`.
    pub action: Option<String>,
    /// True when it was asked for again.
    pub redelivery: bool,
    /// When it was made.
    pub delivered_at: DateTime<Utc>,
    /// What was sent, signature included.
    pub request_headers: BTreeMap<String, String>,
    /// The exact bytes that were sent and signed.
    pub body: String,
    /// `None` while it is under way.
    pub answer: Option<Answer>,
}

/// How a delivery ended.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// HTTP status; 502 when nobody was there, 504 when it took too long.
    pub status_code: u16,
    /// `OK`, or what went wrong.
    pub status: String,
    /// Seconds.
    pub duration: f64,
    /// Headers of the answer.
    pub headers: BTreeMap<String, String>,
    /// Body of the answer, its first 64 KiB.
    pub body: String,
}

/// What a payload is about.
#[derive(Default, Deserialize)]
struct About {
    repository: Option<AboutRepository>,
    installation: Option<AboutInstallation>,
}

#[derive(Deserialize)]
struct AboutRepository {
    id: u64,
    full_name: String,
}

#[derive(Deserialize)]
struct AboutInstallation {
    id: u64,
}

impl World {
    /// Makes a delivery for every hook that wants the event. `parts` are the payload's own
    /// fields; repository and sender are added.
    pub(crate) fn emit(
        &mut self,
        key: &str,
        event: &str,
        action: Option<&str>,
        actor: &str,
        parts: Vec<(&'static str, Value)>,
    ) -> Result<(), Refusal> {
        let wants = |h: &&Hook| h.wants(event);
        let hooks: Vec<u64> = self.repository(key)?.hooks.iter().filter(wants).map(|h| h.id).collect();
        if hooks.is_empty() && self.apps.installations.is_empty() {
            return Ok(());
        }
        let payload = self.payload(key, action, actor, parts)?;
        for hook in hooks {
            self.deliver(hook, event, action, payload.to_string(), None)?;
        }
        self.tell_apps(key, event, action, &payload)
    }

    /// The first delivery to a new hook, and any asked for later.
    pub(crate) fn ping(&mut self, key: &str, hook: u64, actor: &str) -> Result<(), Refusal> {
        let repository = self.repository(key)?;
        let found = repository.hooks.iter().find(|h| h.id == hook).ok_or_else(Refusal::not_found)?;
        let parts = vec![
            ("zen", json!("Keep it logically awesome.")),
            ("hook_id", json!(hook)),
            ("hook", payload::hook(self, repository, found)),
        ];
        let body = self.payload(key, None, actor, parts)?.to_string();
        self.deliver(hook, "ping", None, body, None).map(drop)
    }

    /// Sends a delivery again, with its GUID and its bytes.
    pub(crate) fn redeliver(&mut self, id: u64) -> Result<u64, Refusal> {
        let old = self.deliveries.get(&id).cloned().ok_or_else(Refusal::not_found)?;
        let action = old.action.as_deref();
        self.deliver(old.hook, &old.event, action, old.body, Some(old.guid))
    }

    /// A hook, and what it belongs to: kind and number, as the headers of its deliveries say.
    fn hook(&self, id: u64) -> Option<(&Hook, &'static str, u64)> {
        let of_repositories = self.repositories.values();
        let of_repositories = of_repositories.flat_map(|r| r.hooks.iter().map(|h| (h, "repository", r.id)));
        let of_apps = self.apps.registered.values().map(|app| (&app.hook, "integration", app.id));
        of_repositories.chain(of_apps).find(|(hook, ..)| hook.id == id)
    }

    fn hook_mut(&mut self, id: u64) -> Option<&mut Hook> {
        let hooks = self.repositories.values_mut().flat_map(|r| &mut r.hooks);
        hooks.chain(self.apps.registered.values_mut().map(|app| &mut app.hook)).find(|h| h.id == id)
    }

    fn payload(
        &self,
        key: &str,
        action: Option<&str>,
        actor: &str,
        parts: Vec<(&'static str, Value)>,
    ) -> Result<Value, Refusal> {
        let repository = self.repository(key)?;
        let mut payload = json!({
            "repository": payload::repository(self, repository),
            "sender": payload::user(&self.urls, &self.user(actor)),
        });
        if let Some(action) = action {
            payload["action"] = json!(action);
        }
        for (field, value) in parts {
            payload[field] = value;
        }
        Ok(payload)
    }

    /// Makes one delivery. `again` is the GUID of the one that is repeated.
    pub(crate) fn deliver(
        &mut self,
        hook: u64,
        event: &str,
        action: Option<&str>,
        body: String,
        again: Option<String>,
    ) -> Result<u64, Refusal> {
        let (id, redelivery) = (self.next_id(), again.is_some());
        let guid = again.unwrap_or_else(|| self.ids.next::<DeliveryId>().to_string());
        let (target, kind, owner) = self.hook(hook).ok_or_else(Refusal::not_found)?;
        let mut headers = BTreeMap::from(
            [
                ("Accept", "*/*".to_owned()),
                ("Content-Type", "application/json".to_owned()),
                ("User-Agent", "GitHub-Hookshot/0000000".to_owned()),
                ("X-GitHub-Delivery", guid.clone()),
                ("X-GitHub-Event", event.to_owned()),
                ("X-GitHub-Hook-ID", hook.to_string()),
                ("X-GitHub-Hook-Installation-Target-ID", owner.to_string()),
                ("X-GitHub-Hook-Installation-Target-Type", kind.to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if let Some(secret) = &target.secret {
            headers.insert("X-Hub-Signature-256".to_owned(), signature(secret, body.as_bytes()));
        }
        let url = target.url.clone();
        let about: About = serde_json::from_str(&body).unwrap_or_default();
        let delivery = Delivery {
            id,
            guid,
            hook,
            url,
            repository: about.repository.as_ref().map(|r| r.full_name.to_lowercase()),
            repository_id: about.repository.map(|r| r.id),
            installation_id: about.installation.map(|i| i.id),
            event: event.to_owned(),
            action: action.map(str::to_owned),
            redelivery,
            delivered_at: self.now(),
            request_headers: headers,
            body,
            answer: None,
        };
        self.deliveries.insert(id, delivery);
        self.send_off(id, event);
        Ok(id)
    }

    fn settle(&mut self, id: u64, answer: Answer) {
        self.release_held();
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        let hook = delivery.hook;
        let last = (answer.status_code, answer.status.clone());
        delivery.answer = Some(answer);
        if let Some(hook) = self.hook_mut(hook) {
            hook.last_response = Some(last);
        }
    }
}

/// `sha256=` and the HMAC of the body.
fn signature(secret: &SecretString, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Sends one delivery and records how it ended. It is not tried again, as on GitHub.
pub(crate) async fn send(simulator: Simulator, client: reqwest::Client, id: u64) {
    if let Some(answer) = fault::let_out(&simulator, id).await {
        return simulator.change(|world| world.settle(id, answer));
    }
    let prepared = simulator.read(|world| {
        let delivery = world.deliveries.get(&id)?;
        let (headers, body) = (delivery.request_headers.clone(), delivery.body.clone());
        Some((delivery.url.clone(), headers, body, world.unreachable))
    });
    let Some((url, headers, body, unreachable)) = prepared else { return };
    if unreachable {
        return simulator.change(|world| world.settle(id, nobody_there(0.0)));
    }
    let mut request = client.post(url).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let started = tokio::time::Instant::now();
    let outcome = async {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, response.text().await?))
    };
    let outcome = outcome.await;
    let duration = started.elapsed().as_secs_f64();
    let answer = match outcome {
        Ok((status, headers, body)) => Answer {
            status_code: status.as_u16(),
            status: if status.is_success() {
                "OK".to_owned()
            } else {
                format!("Invalid HTTP Response: {}", status.as_u16())
            },
            duration,
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            body: body.chars().take(65_536).collect(),
        },
        Err(error) if error.is_timeout() => unanswered(504, "timed out", duration),
        Err(_) => nobody_there(duration),
    };
    simulator.change(|world| world.settle(id, answer));
}

pub(crate) fn nobody_there(duration: f64) -> Answer {
    unanswered(502, "failed to connect to host", duration)
}

fn unanswered(status_code: u16, status: &str, duration: f64) -> Answer {
    Answer { status_code, status: status.to_owned(), duration, headers: BTreeMap::new(), body: String::new() }
}
