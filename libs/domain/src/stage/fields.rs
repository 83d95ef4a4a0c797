//! Every field of a stage: what it holds, what it means, and how far a project may go. The file,
//! its schema and its documentation all read this one table.

use serde_yaml::Value;

use super::plain;

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

/// What may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Text of at most that many characters.
    Text(usize),
    /// A whole number between the two.
    Whole(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// Patterns of paths.
    Globs,
    /// Names of stages.
    Stages,
    /// Stages, and how far each has to be.
    Requirements,
}

/// Most items in a list.
pub(super) const MOST_ITEMS: usize = 100;
const PROGRESS: [&str; 3] = ["published", "approved", "merged"];

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

const fn field(
    name: &'static str,
    holds: Holds,
    meaning: &'static str,
    default: &'static str,
    ceiling: Option<&'static str>,
) -> Field {
    Field { name, holds, meaning, default, ceiling }
}

impl Holds {
    /// What is wrong with a value, as part of a sentence; where in the value, if not at its root.
    pub(super) fn wrong(self, value: &Value) -> Option<(String, String)> {
        let here = |right: bool| (!right).then(|| (String::new(), self.mismatch(value)));
        match self {
            Self::Text(most) => here(value.as_str().is_some_and(|text| text_fits(text, most))),
            Self::Whole(least, most) => here(value.as_i64().is_some_and(|n| (least..=most).contains(&n))),
            Self::OneOf(words) => here(value.as_str().is_some_and(|word| words.contains(&word))),
            Self::Switch => here(value.is_bool()),
            Self::Globs => self.items(value, |item| {
                let glob = item.as_str().filter(|glob| text_fits(glob, 300))?;
                globset::Glob::new(glob).ok().map(drop)
            }),
            Self::Stages => self.items(value, |item| item.as_str().filter(|name| stage_name(name)).map(drop)),
            Self::Requirements => self.items(value, |item| {
                let item = item.as_mapping().filter(|item| item.len() == 2)?;
                let word = |key: &str| item.get(key).and_then(Value::as_str);
                word("stage").filter(|name| stage_name(name))?;
                word("is").filter(|word| PROGRESS.contains(word)).map(drop)
            }),
        }
    }

    fn items(self, value: &Value, right: impl Fn(&Value) -> Option<()>) -> Option<(String, String)> {
        let Some(items) = value.as_sequence().filter(|items| items.len() <= MOST_ITEMS) else {
            return Some((String::new(), self.mismatch(value)));
        };
        let wrong = items.iter().position(|item| right(item).is_none())?;
        let found = items.get(wrong).map_or_else(String::new, shown);
        Some((format!("[{wrong}]"), format!("is {found}; expected {}", self.one())))
    }

    fn mismatch(self, value: &Value) -> String {
        format!("is {}; expected {}", shown(value), self.expected())
    }

    /// What is expected, for sentences and the documentation.
    pub fn expected(self) -> String {
        match self {
            Self::Text(most) => format!("text of 1 to {most} characters"),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::OneOf(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
            }
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Globs | Self::Stages | Self::Requirements => {
                format!("a list of at most {MOST_ITEMS} items, each {}", self.one())
            }
        }
    }

    fn one(self) -> &'static str {
        match self {
            Self::Text(_) | Self::Whole(..) | Self::OneOf(_) | Self::Switch => "a value",
            Self::Globs => "a pattern such as `docs/**`",
            Self::Stages => "a stage's name",
            Self::Requirements => "`{stage: NAME, is: published}` (or `approved`, `merged`)",
        }
    }

    /// What may stand there, as JSON Schema.
    pub(super) fn schema(self) -> serde_json::Value {
        let list = |items: serde_json::Value| serde_json::json!({ "type": "array", "maxItems": MOST_ITEMS, "items": items });
        let name = || serde_json::json!({ "type": "string", "pattern": STAGE_NAME });
        match self {
            Self::Text(most) => serde_json::json!({ "type": "string", "minLength": 1, "maxLength": most }),
            Self::Whole(least, most) => {
                serde_json::json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Self::OneOf(words) => serde_json::json!({ "enum": words }),
            Self::Switch => serde_json::json!({ "type": "boolean" }),
            Self::Globs => list(serde_json::json!({ "type": "string", "minLength": 1, "maxLength": 300 })),
            Self::Stages => list(name()),
            Self::Requirements => list(serde_json::json!({
                "type": "object",
                "properties": { "stage": name(), "is": { "enum": PROGRESS } },
                "required": ["stage", "is"],
                "additionalProperties": false,
            })),
        }
    }
}

/// The pattern of a stage's name, and in words.
pub(super) const STAGE_NAME: &str = "^[a-z0-9-]{1,32}$";
pub(super) const STAGE_NAME_IN_WORDS: &str = "1 to 32 lower case letters, digits and dashes";

pub(super) fn stage_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

/// One line of plain text, and not too much of it.
pub(super) fn text_fits(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
}

/// A value in a sentence.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(on) => format!("`{on}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::String(text) if text.trim().is_empty() => "empty text".to_owned(),
        Value::String(text) => format!("`{}`", plain(&text.chars().take(60).collect::<String>())),
        Value::Sequence(items) => format!("a list of {} items", items.len()),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}
