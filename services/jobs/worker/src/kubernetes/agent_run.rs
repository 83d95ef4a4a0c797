//! `AgentRun`: what `kubectl get arun` shows of an attempt. Written by the worker only, and read
//! by nobody to decide what is made: that is what the control plane sent.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What an attempt is, and what it asks of the cluster. Holds no secret.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "callboard.dev",
    version = "v1alpha1",
    kind = "AgentRun",
    plural = "agentruns",
    singular = "agentrun",
    shortname = "arun",
    category = "callboard",
    namespaced,
    status = "AgentRunStatus",
    derive = "PartialEq",
    doc = "One attempt at a run of a coding agent. A projection: changing it changes nothing but that the attempt is given up.",
    printcolumn = r#"{"name":"Stage","type":"string","jsonPath":".spec.stage"}"#,
    printcolumn = r#"{"name":"Try","type":"integer","jsonPath":".spec.number"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".status.node","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Run","type":"string","jsonPath":".spec.run","priority":1}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentRunSpec {
    /// Id of the run.
    pub run: String,
    /// Id of the attempt.
    pub attempt: String,
    /// Which try at the run it is, from 1.
    pub number: u32,
    /// The project's name.
    pub project: String,
    /// The stage's name.
    pub stage: String,
    /// The image its pod runs.
    pub image: String,
    /// Seconds it may take, from when it was leased.
    pub deadline_seconds: u32,
    /// Thousandths of a processor.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of files.
    pub storage_bytes: u64,
    /// The priority class of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not keep it away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How its project's pods are spread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread: Vec<TopologySpread>,
}

/// A taint that does not keep a pod away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key.
    pub key: String,
    /// Its value; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// How pods of a project are spread over a label of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopologySpread {
    /// Label of nodes.
    pub topology_key: String,
    /// By how many pods the values of that label may differ.
    pub max_skew: u32,
    /// Otherwise the pod waits.
    pub schedule_anyway: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Its objects are made; its pod has no node, no image, or no leave yet.
    Waiting,
    /// Its agent runs.
    Running,
    /// Its pod has ended.
    Ended,
    /// It is not ours: nothing is made for it.
    Refused,
}

/// What the worker sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRunStatus {
    /// How far it is.
    pub phase: Phase,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where its pod is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `Accepted`: it is the platform's. `Ready`: its objects are as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl AgentRunSpec {
    /// SHA-256 of the spec, hexadecimal: the same for the same content, however it is ordered.
    pub fn digest(&self) -> String {
        // Field order is the type's, and maps are ordered.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(Sha256::digest(text))
    }
}
