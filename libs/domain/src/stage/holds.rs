//! What may stand in a field: checked in a file, said in a sentence, written as JSON Schema.

use serde_json::json;
use serde_yaml::{Mapping, Value};

use super::{fields::Field, plain, pod};
use crate::names::nearest;

/// What may stand in a field.
#[derive(Clone, Copy, Debug)]
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
    /// The key of a label or taint of Kubernetes.
    LabelKey,
    /// The value of one.
    LabelValue,
    /// Labels with their values.
    Labels,
    /// The name of a container image.
    Image,
    /// These fields.
    Fields(&'static [Field]),
    /// A list of mappings with these fields.
    Each(&'static [Field]),
}

/// Most items in a list.
pub(super) const MOST_ITEMS: usize = 100;
const PROGRESS: [&str; 3] = ["published", "approved", "merged"];

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
            Self::LabelKey => here(value.as_str().is_some_and(pod::is_label_key)),
            Self::LabelValue => here(value.as_str().is_some_and(pod::is_label_value)),
            Self::Image => here(value.as_str().is_some_and(pod::is_image)),
            Self::Labels => match value.as_mapping().filter(|labels| labels.len() <= MOST_ITEMS) {
                Some(labels) => wrong_label(labels),
                None => here(false),
            },
            Self::Fields(fields) => match value.as_mapping() {
                Some(given) => wrong_field(fields, given).or_else(|| missing(fields, given)),
                None => here(false),
            },
            Self::Each(fields) => match value.as_sequence().filter(|items| items.len() <= MOST_ITEMS) {
                Some(items) => items.iter().enumerate().find_map(|(at, item)| {
                    let (place, problem) = Self::Fields(fields).wrong(item)?;
                    Some((format!("[{at}]{place}"), problem))
                }),
                None => here(false),
            },
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
            Self::LabelKey => {
                "the key of a Kubernetes label, such as `disk` or `example.com/disk`".to_owned()
            }
            Self::LabelValue => {
                "text of 1 to 63 letters, digits, `-`, `_` and `.`, in quotes where it is a number or `true`"
                    .to_owned()
            }
            Self::Labels => "labels and their values, such as `{disk: ssd}`".to_owned(),
            Self::Image => "an image, such as `registry.example.com/agents:1`".to_owned(),
            Self::Fields(fields) => format!("a mapping of {}", names(fields)),
            Self::Each(fields) => {
                format!("a list of at most {MOST_ITEMS} items, each a mapping of {}", names(fields))
            }
        }
    }

    fn one(self) -> &'static str {
        match self {
            Self::Text(_)
            | Self::Whole(..)
            | Self::OneOf(_)
            | Self::Switch
            | Self::LabelKey
            | Self::LabelValue
            | Self::Labels
            | Self::Image
            | Self::Fields(_)
            | Self::Each(_) => "a value",
            Self::Globs => "a pattern such as `docs/**`",
            Self::Stages => "a stage's name",
            Self::Requirements => "`{stage: NAME, is: published}` (or `approved`, `merged`)",
        }
    }

    /// What may stand there, as JSON Schema.
    pub(super) fn schema(self) -> serde_json::Value {
        let list =
            |items: serde_json::Value| json!({ "type": "array", "maxItems": MOST_ITEMS, "items": items });
        let name = || json!({ "type": "string", "pattern": STAGE_NAME });
        match self {
            Self::Text(most) => json!({ "type": "string", "minLength": 1, "maxLength": most }),
            Self::Whole(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Self::OneOf(words) => json!({ "enum": words }),
            Self::Switch => json!({ "type": "boolean" }),
            Self::Globs => list(json!({ "type": "string", "minLength": 1, "maxLength": 300 })),
            Self::Stages => list(name()),
            Self::Requirements => list(json!({
                "type": "object",
                "properties": { "stage": name(), "is": { "enum": PROGRESS } },
                "required": ["stage", "is"],
                "additionalProperties": false,
            })),
            Self::LabelKey => json!({ "type": "string", "maxLength": pod::KEY_CHARS, "pattern": pod::KEY }),
            Self::LabelValue => json!({ "type": "string", "pattern": pod::VALUE }),
            Self::Labels => json!({
                "type": "object",
                "maxProperties": MOST_ITEMS,
                "propertyNames": { "pattern": pod::KEY },
                "additionalProperties": { "type": "string", "pattern": pod::VALUE },
            }),
            Self::Image => json!({ "type": "string", "maxLength": pod::IMAGE_CHARS, "pattern": pod::IMAGE }),
            Self::Fields(fields) => {
                let mut schema = schema_of(fields);
                let required = fields.iter().filter(|field| field.default.is_empty()).map(|field| field.name);
                schema["required"] = required.collect();
                schema
            }
            Self::Each(fields) => list(Self::Fields(fields).schema()),
        }
    }
}

/// What is wrong with what is there of these fields; first of all where.
pub(super) fn wrong_field(fields: &[Field], given: &Mapping) -> Option<(String, String)> {
    for (key, value) in given {
        let name = match known(key, fields.iter().map(|field| field.name)) {
            Ok(name) => name,
            Err(problem) => return Some((format!(".{}", shown_key(key)), problem)),
        };
        let wrong = fields.iter().find(|field| field.name == name).and_then(|field| field.holds.wrong(value));
        if let Some((place, problem)) = wrong {
            return Some((format!(".{name}{place}"), problem));
        }
    }
    None
}

/// The first field that has to be there and is not.
pub(super) fn missing(fields: &[Field], given: &Mapping) -> Option<(String, String)> {
    let gone = fields.iter().find(|field| field.default.is_empty() && given.get(field.name).is_none())?;
    Some((format!(".{}", gone.name), format!("is missing; expected {}", gone.holds.expected())))
}

fn wrong_label(labels: &Mapping) -> Option<(String, String)> {
    labels.iter().find_map(|(key, value)| {
        let place = format!(".{}", shown_key(key));
        if Holds::LabelKey.wrong(key).is_some() {
            return Some((place, format!("is not a key; expected {}", Holds::LabelKey.expected())));
        }
        let (_, problem) = Holds::LabelValue.wrong(value)?;
        Some((place, problem))
    })
}

/// These fields, as JSON Schema.
pub(super) fn schema_of(fields: &[Field]) -> serde_json::Value {
    let properties: serde_json::Map<String, serde_json::Value> = fields
        .iter()
        .map(|field| {
            let mut schema = field.holds.schema();
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), json!(field.meaning));
            }
            (field.name.to_owned(), schema)
        })
        .collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// "`key`, `value`"
fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ")
}

/// Is the key one of these? Else what is wrong with it, as part of a sentence.
pub(super) fn known(
    key: &Value,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Result<&'static str, String> {
    let name = key.as_str().unwrap_or_default();
    match known.clone().find(|known| *known == name) {
        Some(name) => Ok(name),
        None => Err(match nearest(name, known) {
            Some(meant) => format!("is not known (did you mean `{meant}`?)"),
            None => "is not known".to_owned(),
        }),
    }
}

pub(super) fn shown_key(key: &Value) -> String {
    key.as_str().map_or_else(|| plain(&shown(key)), |name| plain(&name.chars().take(60).collect::<String>()))
}

/// The pattern of a stage's name, and in words: a cluster's objects have it as a label.
pub(super) const STAGE_NAME: &str = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$";
pub(super) const STAGE_NAME_IN_WORDS: &str =
    "1 to 32 lower case letters, digits and dashes, without a dash at its beginning or end";

pub(super) fn stage_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=32).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
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
