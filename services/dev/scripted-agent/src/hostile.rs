//! An agent that means harm: tries every way out of the sandbox it can think of and writes
//! down what came of it. Tests read its findings; nothing is used.

use std::net::SocketAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

mod files;
mod kubernetes;
mod machine;
mod network;

/// What to try beside what is always tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Given")]
pub(crate) struct Targets {
    /// Ports of 127.0.0.1 where the host has services.
    ports: Vec<u16>,
    /// Files, folders and sockets of the host.
    paths: Vec<String>,
    /// Where else to connect to.
    addresses: Vec<SocketAddr>,
    /// API servers of clusters.
    kubernetes: Vec<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Plain(#[expect(dead_code, reason = "`true` names no targets; what it is does not matter")] bool),
    Named {
        #[serde(default)]
        ports: Vec<u16>,
        #[serde(default)]
        paths: Vec<String>,
        #[serde(default)]
        addresses: Vec<SocketAddr>,
        #[serde(default)]
        kubernetes: Vec<SocketAddr>,
    },
}

impl From<Given> for Targets {
    fn from(given: Given) -> Self {
        match given {
            Given::Plain(_) => Self::default(),
            Given::Named { ports, paths, addresses, kubernetes } => {
                Self { ports, paths, addresses, kubernetes }
            }
        }
    }
}

/// A secret as it is, in base64, in hex, and as part of an address.
pub(crate) fn disguised(secret: &str) -> String {
    let in_address: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("{secret} {} {} {in_address}", BASE64_STANDARD.encode(secret), hex::encode(secret))
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It did not work.
    Refused,
    /// It worked: something was reached that an agent should not reach, or may reach when
    /// `detail` says so.
    Reached,
    /// A secret, or what looks like one, was found.
    Found,
    /// Nothing was tried; a fact about the place.
    Noted,
}

/// One attempt and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was tried: `"connect 127.0.0.1:8080"`.
    pub(crate) attempt: String,
    pub(crate) outcome: Outcome,
    /// The error, the status, or what was found.
    pub(crate) detail: String,
    /// SHA-256 of a found secret's whole value, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", serde_json::json!(self))
    }
}

impl Finding {
    fn new(attempt: impl Into<String>, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), outcome, detail: detail.into(), sha256: None }
    }

    /// `Reached` with what was got, or `Refused` with the error.
    fn of<T, E: std::fmt::Display>(
        attempt: impl Into<String>,
        result: Result<T, E>,
        describe: impl FnOnce(T) -> String,
    ) -> Self {
        match result {
            Ok(got) => Self::new(attempt, Outcome::Reached, describe(got)),
            Err(error) => Self::new(attempt, Outcome::Refused, error.to_string()),
        }
    }
}

/// Tries everything.
pub(crate) fn probe(targets: &Targets) -> Vec<Finding> {
    let mut findings = machine::facts();
    findings.extend(network::host_ports(&targets.ports));
    findings.extend(network::addresses(&targets.addresses));
    findings.extend(network::internet());
    findings.extend(kubernetes::servers(&targets.kubernetes));
    findings.extend(network::gateway());
    findings.extend(files::paths(&targets.paths));
    findings.extend(machine::processes());
    findings.extend(machine::escapes());
    findings.extend(files::writes());
    findings.extend(files::kernel());
    findings.extend(files::secrets());
    findings
}
