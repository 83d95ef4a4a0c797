//! An `AgentRun` as it is found: anybody with rights in the namespace may have written it, so
//! nothing is read of it but what it is, and whether it says what ours says.

use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer};

use super::{AgentRun, AgentRunSpec, AgentRunStatus};

/// What is kept of an `AgentRun` in the cluster.
#[derive(Clone, Debug, Resource, Deserialize)]
#[resource(inherit = "AgentRun")]
pub(super) struct Found {
    pub(super) metadata: ObjectMeta,
    /// The digest of its spec; empty when it says what no `AgentRun` of ours says.
    #[serde(default, rename = "spec", deserialize_with = "digest")]
    pub(super) digest: String,
    /// As we write it, or nothing.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: Option<AgentRunStatus>,
}

impl Found {
    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// It is there only until what it owns is gone.
    pub(super) fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

// A schema does not say all that a type says (`u32`): what cannot be read must not stop the
// watch of those that can.
fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let spec: Option<AgentRunSpec> = lenient(deserializer)?;
    Ok(spec.map(|spec| spec.digest()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_read_without_harm() {
        let spec = serde_json::json!({
            "run": "r", "attempt": "a", "number": 1, "project": "p", "stage": "s", "image": "i",
            "deadlineSeconds": 60, "cpuMillis": 500, "memoryBytes": 1, "storageBytes": 1
        });
        let found = |spec: &serde_json::Value, status: serde_json::Value| {
            let object =
                serde_json::json!({"metadata": {"name": "attempt-a"}, "spec": spec, "status": status});
            serde_json::from_value::<Found>(object).unwrap()
        };
        let ours: AgentRunSpec = serde_json::from_value(spec.clone()).unwrap();
        let same = found(&spec, serde_json::json!({"phase": "Running"}));
        assert_eq!(same.digest, ours.digest());
        assert!(same.status.is_some());
        let mut forged = spec.clone();
        forged["number"] = serde_json::json!(1_u64 << 40);
        let forged = found(&forged, serde_json::json!({"phase": 7}));
        assert_eq!((forged.digest.as_str(), forged.status), ("", None));
    }
}
