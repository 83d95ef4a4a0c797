//! What a run asks of the place its attempts run at, as it was when the run was asked for.

use domain::stage::Effect;
use proto::v1::{Placement, Toleration, TopologySpread};

use super::store::Run;
use crate::App;

const MIB: u64 = 1024 * 1024;

/// Bytes of memory an attempt may use, wherever it runs.
pub(super) fn memory_bytes(app: &App, run: &Run) -> u64 {
    run.definition.pod.memory_mib.map_or(app.agents.memory_bytes, |mib| u64::from(mib) * MIB)
}

/// What it asks of a cluster.
pub(super) fn of(run: &Run) -> Placement {
    let pod = &run.definition.pod;
    Placement {
        cpu_millis: pod.cpu_millis.unwrap_or_default(),
        storage_bytes: u64::from(pod.storage_mib.unwrap_or_default()) * MIB,
        image: pod.image.clone().unwrap_or_default(),
        priority: run.definition.priority,
        node_selector: pod.node_selector.clone().into_iter().collect(),
        tolerations: pod
            .tolerations
            .iter()
            .map(|toleration| Toleration {
                key: toleration.key.clone(),
                value: toleration.value.clone().unwrap_or_default(),
                effect: toleration.effect.map(Effect::as_str).unwrap_or_default().to_owned(),
            })
            .collect(),
        topology_spread: pod
            .topology_spread
            .iter()
            .map(|spread| TopologySpread {
                topology_key: spread.topology_key.clone(),
                max_skew: spread.max_skew,
                schedule_anyway: spread.schedule_anyway,
            })
            .collect(),
    }
}
