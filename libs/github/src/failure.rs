//! What a refusal of GitHub's means, in our kinds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use forge::{ForgeError, Limit};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// GitHub's windows are an hour long; a clock that is wrong must not make us wait for more.
const WINDOW: i64 = 3600;

/// The limit that an answer is about, and how long it says to wait; `None` when it is about
/// something else.
pub(crate) fn limit(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Option<(Limit, Option<Duration>)> {
    let spent = number(headers, "x-ratelimit-remaining") == Some(0);
    let is_limit = match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::FORBIDDEN => {
            let refusal = Refusal::read(status, body, str::to_owned);
            headers.contains_key("retry-after")
                || spent
                || refusal.says(&["secondary rate limit", "abuse detection"])
        }
        _ => false,
    };
    is_limit.then(|| (if spent { Limit::Calls } else { Limit::Pace }, retry_after(headers, now)))
}

/// Sorts an answer that is not of the 2xx kind, and about no limit. `censored` takes our secrets
/// out of the server's words.
pub(crate) fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    censored: impl Fn(&str) -> String,
) -> ForgeError {
    let refusal = Refusal::read(status, body, censored);
    let conflict = refusal.is_conflict();
    let no_such_ref = refusal.says(&["reference does not exist"]);
    let message = refusal.words;
    match status.as_u16() {
        401 => ForgeError::BadCredential { message },
        403 | 451 => ForgeError::Denied { message: format!("{message}{}", needed(headers)) },
        404 => ForgeError::Missing { message },
        405 | 410 | 501 => ForgeError::Unsupported { message },
        409 => ForgeError::Conflict { message },
        422 if conflict => ForgeError::Conflict { message },
        422 if no_such_ref => ForgeError::Missing { message },
        // A write to a repository that was renamed; reads are followed to the new name.
        300..=399 => ForgeError::Missing { message: format!("it has moved: {message}") },
        // 408 is the server's own timeout: nobody knows what was done.
        408 | 500.. => ForgeError::Outage { message: format!("{message} ({})", status.as_u16()) },
        _ => ForgeError::Invalid { message },
    }
}

/// A header that holds a number.
pub(crate) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// What GitHub says the call takes: `,` stands between what is taken together, `;` between ways.
fn needed(headers: &HeaderMap) -> String {
    let Some(accepted) = headers.get("x-accepted-github-permissions").and_then(|v| v.to_str().ok()) else {
        return String::new();
    };
    let ways = accepted.split(';').map(|way| {
        let grants = way.split(',').map(|grant| format!("`{}`", grant.trim().replace('=', ": ")));
        grants.collect::<Vec<_>>().join(" and ")
    });
    let ways: Vec<String> = ways.filter(|way| way != "``").collect();
    if ways.is_empty() { String::new() } else { format!(" (needs {})", ways.join(", or ")) }
}

fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let until_reset = || {
        // With calls left, the limit was another one than the one that resets then.
        let spent = number(headers, "x-ratelimit-remaining").is_none_or(|left| left == 0);
        let reset = i64::try_from(number(headers, "x-ratelimit-reset").filter(|_| spent)?).ok()?;
        u64::try_from(reset.saturating_sub(now.timestamp()).clamp(1, WINDOW)).ok()
    };
    number(headers, "retry-after").or_else(until_reset).map(Duration::from_secs)
}

/// The body of an error.
struct Refusal {
    words: String,
    already_exists: bool,
}

impl Refusal {
    fn read(status: StatusCode, body: &[u8], censored: impl Fn(&str) -> String) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let reason = status.canonical_reason().unwrap_or("an error");
        let mut words = body["message"].as_str().unwrap_or(reason).to_owned();
        let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fields: Vec<String> = errors.iter().filter_map(field_words).collect();
        if !fields.is_empty() {
            words = format!("{words}: {}", fields.join("; "));
        }
        // Before it is cut: half a secret is one too.
        let words =
            censored(&words).chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
        Self { words, already_exists: errors.iter().any(|e| e["code"] == "already_exists") }
    }

    fn says(&self, phrases: &[&str]) -> bool {
        let words = self.words.to_lowercase();
        phrases.iter().any(|phrase| words.contains(phrase))
    }

    fn is_conflict(&self) -> bool {
        self.already_exists
            || self.says(&[
                "already exists",
                "not a fast forward",
                "not a fast-forward",
                "reference update failed",
            ])
    }
}

/// `{"resource":"PullRequest","field":"head","code":"invalid"}` in words; some errors are
/// plain text.
fn field_words(error: &Value) -> Option<String> {
    if let Some(words) = error.as_str().or_else(|| error["message"].as_str()) {
        return Some(words.to_owned());
    }
    let field = error["field"].as_str()?;
    let code = error["code"].as_str().unwrap_or("invalid").replace('_', " ");
    Some(match error["resource"].as_str() {
        Some(resource) => format!("{resource}.{field} is {code}"),
        None => format!("{field} is {code}"),
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000)
    }

    fn classified(status: u16, headers: &[(&'static str, &str)], body: &str) -> ForgeError {
        let status = StatusCode::from_u16(status).expect("a status");
        let headers =
            headers.iter().map(|(k, v)| (k.parse().expect("a name"), v.parse().expect("a value"))).collect();
        assert_eq!(limit(status, &headers, body.as_bytes(), now()), None);
        classify(status, &headers, body.as_bytes(), str::to_owned)
    }

    /// Which limit, and how long it says that it holds.
    fn limited(status: u16, headers: &[(&'static str, &str)], body: &str) -> Option<(Limit, Option<u64>)> {
        let status = StatusCode::from_u16(status).expect("a status");
        let headers =
            headers.iter().map(|(k, v)| (k.parse().expect("a name"), v.parse().expect("a value"))).collect();
        let (limit, wait) = limit(status, &headers, body.as_bytes(), now())?;
        Some((limit, wait.map(|wait| wait.as_secs())))
    }

    #[test]
    fn every_status_has_its_kind() {
        let kind = |status| {
            let text = classified(status, &[], r#"{"message":"words"}"#).to_string();
            assert!(text.contains("words"), "{text}");
            text.split(':').next().map(str::to_owned)
        };
        let table: Vec<String> =
            [307, 400, 401, 403, 404, 405, 408, 409, 410, 415, 422, 451, 500, 501, 502, 503, 504]
                .map(|status| format!("{status} {}", kind(status).expect("a kind")))
                .to_vec();
        assert_eq!(
            table,
            [
                "307 not found",
                "400 refused as invalid",
                "401 the code host refuses our credential",
                "403 not allowed",
                "404 not found",
                "405 not offered by this server",
                "408 no usable answer",
                "409 conflict",
                "410 not offered by this server",
                "415 refused as invalid",
                "422 refused as invalid",
                "451 not allowed",
                "500 no usable answer",
                "501 not offered by this server",
                "502 no usable answer",
                "503 no usable answer",
                "504 no usable answer",
            ]
        );
    }

    #[test]
    fn limits_say_how_long() {
        let reset = (now().timestamp() + 90).to_string();
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
        let (calls, pace) = (|wait| Some((Limit::Calls, wait)), |wait| Some((Limit::Pace, wait)));
        assert_eq!(limited(429, &[], ""), pace(None));
        assert_eq!(limited(429, &[("retry-after", "7")], ""), pace(Some(7)));
        assert_eq!(limited(403, &[("retry-after", "7")], ""), pace(Some(7)));
        assert_eq!(limited(403, &spent, ""), calls(Some(90)));
        // The reset is past, or a clock is wrong.
        for (reset, wait) in [("5", Some(1)), ("18446744073709551615", None), ("99999999999", Some(3600))] {
            let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
            assert_eq!(limited(403, &spent, ""), calls(wait), "{reset}");
        }
        // A secondary limit has nothing to do with the reset of the primary one.
        let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#;
        let left = [("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", reset.as_str())];
        assert_eq!(limited(403, &left, secondary), pace(None));
        // A plain refusal is none.
        assert_eq!(limited(403, &left, r#"{"message":"Must have admin rights"}"#), None);
    }

    #[test]
    fn a_refusal_names_what_it_takes() {
        let refused = |accepted: &str| {
            let headers = [("x-accepted-github-permissions", accepted), ("x-ratelimit-remaining", "9")];
            classified(403, &headers, r#"{"message":"Resource not accessible by integration"}"#).to_string()
        };
        let words = "not allowed: Resource not accessible by integration";
        assert_eq!(refused("issues=write"), format!("{words} (needs `issues: write`)"));
        assert_eq!(
            refused("contents=write; contents=read,workflows=write"),
            format!("{words} (needs `contents: write`, or `contents: read` and `workflows: write`)")
        );
        assert_eq!(refused(""), words);
    }

    #[test]
    fn a_422_is_a_conflict_when_it_says_so() {
        for body in [
            r#"{"message":"Reference already exists"}"#,
            r#"{"message":"Update is not a fast forward"}"#,
            r#"{"message":"Reference update failed"}"#,
            r#"{"message":"Validation Failed","errors":[{"resource":"Label","field":"name","code":"already_exists"}]}"#,
            r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","code":"custom","message":"A pull request already exists for octocat:x."}]}"#,
        ] {
            assert!(matches!(classified(422, &[], body), ForgeError::Conflict { .. }), "{body}");
        }
        let body = r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","field":"head","code":"invalid"},"No commits between a and b"]}"#;
        assert_eq!(
            classified(422, &[], body).to_string(),
            "refused as invalid: Validation Failed: PullRequest.head is invalid; No commits between a and b"
        );
    }

    #[test]
    fn words_are_bounded_and_on_one_line() {
        let body = format!(r#"{{"message":"a\nb{}"}}"#, "x".repeat(10_000));
        let text = classified(404, &[], &body).to_string();
        assert!(text.len() < 700 && text.starts_with("not found: a bx"), "{text}");
        assert_eq!(
            classified(502, &[], "<html>Unicorn</html>").to_string(),
            "no usable answer: Bad Gateway (502)"
        );
    }
}
