//! Every field of a stage: what it holds, what it means, and how far a project may go. The file,
//! its schema and its documentation all read this one table.

use super::Holds;

/// A field of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As it is written.
    pub name: &'static str,
    /// What may stand there.
    pub holds: Holds,
    /// What it means, one sentence.
    pub meaning: &'static str,
    /// What holds where it is left out; empty: it has to be there in a stage of a project's own.
    pub default: &'static str,
    /// What the operator limits, by key of the ceilings, and what holds without.
    pub ceiling: Option<&'static str>,
}

/// Every field there is, in the order they are documented.
pub const FIELDS: &[Field] = &[
    field("description", Holds::Text(300), "One line for people: labels and comments show it.", "", None),
    field(
        "role",
        Holds::Text(60),
        "Who the agent is told to be: `pm`, `sa`, `em`, `dev`, `qa`, `sre`, `km`, `reviewer`, or a role of the project's own prompts.",
        "",
        None,
    ),
    field(
        "write_scope",
        Holds::Globs,
        "Paths the agent may change; anything else is held for a person. An empty list: it changes nothing.",
        "",
        None,
    ),
    field(
        "time_limit_minutes",
        Holds::Whole(1, 1440),
        "How long one attempt may take.",
        "",
        Some("`time_limit_minutes`; 240 without"),
    ),
    field("template", Holds::Text(60), "Name of the prompt template.", "the stage's own name", None),
    field(
        "kind",
        Holds::OneOf(&["work", "review", "discussion"]),
        "What its runs are. A stage of a project's own is `work`.",
        "`work`",
        None,
    ),
    field(
        "mode",
        Holds::OneOf(&["code-only"]),
        "Where its runs may reach: the repository and the model.",
        "`code-only`",
        None,
    ),
    field("model", Holds::Text(100), "Model to ask for.", "the operator's", Some("`models`; any without")),
    field(
        "reasoning",
        Holds::OneOf(&["low", "medium", "high", "extra-high"]),
        "How hard the model is asked to think.",
        "the model's own",
        Some("`reasoning`; any without"),
    ),
    field(
        "start",
        Holds::OneOf(&["write", "maintain", "admin"]),
        "Least permission on the repository to start it.",
        "`write`",
        Some("`start`; and never less than the product's own stage of that name has"),
    ),
    field(
        "publication",
        Holds::OneOf(&["checked", "approver"]),
        "`checked`: what passes the checks is published at once. `approver`: a person releases every changeset.",
        "`checked`",
        Some("`publication`; and never less than the product's own stage of that name has"),
    ),
    field(
        "four_eyes",
        Holds::Switch,
        "`true`: who asked for a run cannot approve its result.",
        "`false`",
        None,
    ),
    field(
        "requires",
        Holds::Requirements,
        "What our records must say about earlier stages of the same issue before it may start: `[{stage: dev, is: published}]`; `is` is `published`, `approved` or `merged`.",
        "nothing",
        None,
    ),
    field("next", Holds::Stages, "Stages that the final comment offers.", "none", None),
    field(
        "second_trigger",
        Holds::OneOf(&["refuse", "queue", "supersede"]),
        "What a second trigger does while a run of the issue is under way: it is refused with a word, it waits behind, or it takes the place of the first.",
        "`refuse`",
        None,
    ),
    field("revise", Holds::Switch, "Whether `run:<stage>:revise` exists.", "`true`", None),
    field(
        "priority",
        Holds::Whole(-1000, 1000),
        "Higher goes first in the queue.",
        "0",
        Some("`priority`; 100 without"),
    ),
    field(
        "pod",
        POD,
        "What its runs ask of a cluster. What it leaves out is as `projects[].pods` has it, then as the worker has it.",
        "the project's",
        None,
    ),
    field(
        "worker_labels",
        Holds::Labels,
        "Labels a worker must have to be given its runs.",
        "any worker of the project",
        Some("`pods.worker_labels`; any without"),
    ),
    field(
        "max_changeset_bytes",
        Holds::Whole(1, 52_428_800),
        "Bytes a changeset may have.",
        "10485760",
        Some("`max_changeset_bytes`; 20971520 without"),
    ),
    field(
        "max_changeset_files",
        Holds::Whole(1, 10_000),
        "Files a changeset may have.",
        "300",
        Some("`max_changeset_files`; 1000 without"),
    ),
    field(
        "max_changeset_lines",
        Holds::Whole(1, 1_000_000),
        "Lines a changeset may write.",
        "50000",
        Some("`max_changeset_lines`; 100000 without"),
    ),
    field(
        "enabled",
        Holds::Switch,
        "`false` switches the stage off, also one that comes with the product.",
        "`true`",
        Some("`stages`; all without"),
    ),
];

/// What a stage, or an operator for a whole project, asks of a cluster.
pub(super) const POD: Holds = Holds::Fields(&[
    field(
        "cpu_millis",
        Holds::Whole(10, 1_024_000),
        "Thousandths of a processor.",
        "the project's",
        Some("`pods.max_cpu_millis`; the project's without"),
    ),
    field(
        "memory_mib",
        Holds::Whole(64, 4_194_304),
        "Mebibytes of memory. Holds on a single machine, too; the other fields are for clusters.",
        "the project's",
        Some("`pods.max_memory_mib`; the project's without"),
    ),
    field(
        "storage_mib",
        Holds::Whole(64, 4_194_304),
        "Mebibytes of files.",
        "the project's",
        Some("`pods.max_storage_mib`; the project's without"),
    ),
    field("image", Holds::Image, "What its pods run.", "the project's", Some("`pods.images`; none without")),
    field(
        "node_selector",
        Holds::Labels,
        "Labels a node must have, besides those the project asks for.",
        "the project's",
        Some("`pods.node_selector`; none without"),
    ),
    field(
        "tolerations",
        Holds::Each(TOLERATION),
        "Taints of nodes that do not keep its pods away, besides the project's.",
        "the project's",
        Some("`pods.tolerations`; none without"),
    ),
    field(
        "topology_spread",
        Holds::Each(TOPOLOGY_SPREAD),
        "How pods of the project are spread over nodes.",
        "the project's",
        None,
    ),
]);
const TOLERATION: &[Field] = &[
    field("key", Holds::LabelKey, "The taint's key.", "", None),
    field("value", Holds::LabelValue, "Its value.", "any", None),
    field(
        "effect",
        Holds::OneOf(&["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        "Its effect.",
        "all",
        None,
    ),
];
const TOPOLOGY_SPREAD: &[Field] = &[
    field("topology_key", Holds::LabelKey, "Label of nodes whose values they are spread over.", "", None),
    field("max_skew", Holds::Whole(1, 100), "By how many pods the values may differ.", "1", None),
    field(
        "schedule_anyway",
        Holds::Switch,
        "`true`: where that cannot be kept, the pod runs all the same; otherwise it waits.",
        "`false`",
        None,
    ),
];

const fn field(
    name: &'static str,
    holds: Holds,
    meaning: &'static str,
    default: &'static str,
    ceiling: Option<&'static str>,
) -> Field {
    Field { name, holds, meaning, default, ceiling }
}
