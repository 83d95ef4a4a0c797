//! What an attempt is to be in the cluster: made of what the control plane sent and of the
//! worker's own settings, of nothing else.

use domain::{cluster::object_name, ids::AttemptId};
use kube::api::ObjectMeta;
use proto::v1::AttemptLease;
use secrecy::SecretString;

use super::{AgentRun, AgentRunSpec, KubernetesSettings, Toleration, TopologySpread, objects::labels};

/// An attempt as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) attempt: AttemptId,
    /// Where all its objects are.
    pub(crate) namespace: String,
    /// What all its objects are called.
    pub(crate) name: String,
    /// What the `AgentRun` says. The deadline counts from the lease: an attempt that is adopted
    /// goes on with the spec it was planned with, as far as that has the stored digest.
    pub(crate) spec: AgentRunSpec,
    /// The one secret of the attempt.
    pub(crate) token: SecretString,
}

impl Desired {
    /// What `lease` asks for, with `settings` where it says nothing.
    ///
    /// # Errors
    /// A sentence when the lease cannot be run in a cluster.
    pub(crate) fn of(lease: AttemptLease, settings: &KubernetesSettings) -> Result<Self, String> {
        let attempt: AttemptId = lease
            .attempt_id
            .parse()
            .map_err(|_| "The control plane sent an attempt without a valid id.".to_owned())?;
        let incomplete = |what: &str| format!("The control plane sent an attempt without {what}.");
        if lease.namespace.is_empty() {
            return Err(incomplete("a namespace; a worker in a cluster needs one"));
        }
        let limits = lease.limits.filter(|limits| limits.memory_bytes > 0);
        let limits = limits.ok_or_else(|| incomplete("a limit on memory"))?;
        let placement = lease.placement.unwrap_or_default();
        let optional = |text: String| Some(text).filter(|text| !text.is_empty());
        let spec = AgentRunSpec {
            run: lease.run_id,
            attempt: lease.attempt_id,
            number: lease.number,
            project: lease.project,
            stage: lease.stage,
            image: optional(placement.image).unwrap_or_else(|| settings.image.clone()),
            deadline_seconds: lease.deadline_seconds,
            cpu_millis: if placement.cpu_millis == 0 { settings.cpu_millis } else { placement.cpu_millis },
            memory_bytes: limits.memory_bytes,
            storage_bytes: match placement.storage_bytes {
                0 => settings.storage_bytes,
                bytes => bytes,
            },
            priority_class: settings
                .priority_classes
                .range(..=placement.priority)
                .next_back()
                .map(|(_, class)| class.clone()),
            node_selector: placement.node_selector.into_iter().collect(),
            tolerations: placement
                .tolerations
                .into_iter()
                .map(|t| Toleration { key: t.key, value: optional(t.value), effect: optional(t.effect) })
                .collect(),
            topology_spread: placement
                .topology_spread
                .into_iter()
                .map(|t| TopologySpread {
                    topology_key: t.topology_key,
                    max_skew: t.max_skew,
                    schedule_anyway: t.schedule_anyway,
                })
                .collect(),
        };
        Ok(Self {
            attempt,
            namespace: lease.namespace,
            name: object_name(attempt),
            spec,
            token: lease.run_token.into(),
        })
    }

    /// The object that stands for it.
    pub(crate) fn agent_run(&self) -> AgentRun {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels(self)),
            ..ObjectMeta::default()
        };
        AgentRun { metadata, spec: self.spec.clone(), status: None }
    }
}
