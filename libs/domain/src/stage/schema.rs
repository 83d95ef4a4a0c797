//! The JSON Schema of `.callboard/stages.yaml`.

use serde_json::{Map, Value, json};

use super::{
    Labels,
    fields::FIELDS,
    file::LANGUAGES,
    holds::{MOST_ITEMS, STAGE_NAME, schema_of},
};

/// The JSON Schema (2020-12) of a project's stages file, for editors. What one stage says about
/// another, ceilings and patterns are judged by the platform only.
pub fn schema() -> Value {
    let label = json!({ "type": "string", "minLength": 1, "maxLength": 40 });
    let labels: Map<String, Value> =
        Labels::NAMES.into_iter().map(|name| (name.to_owned(), label.clone())).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Callboard: the stages of a project (.callboard/stages.yaml)",
        "type": "object",
        "properties": {
            "version": { "const": 1 },
            "language": { "enum": LANGUAGES, "description": "Language of the prompts." },
            "labels": {
                "type": "object",
                "description": "Names of labels, where the project calls them otherwise.",
                "properties": labels,
                "additionalProperties": false,
            },
            "profiles": {
                "type": "object",
                "description": "Named paths through the stages.",
                "maxProperties": MOST_ITEMS,
                "propertyNames": { "pattern": STAGE_NAME },
                "additionalProperties": { "type": "array", "maxItems": MOST_ITEMS, "items": { "type": "string", "pattern": STAGE_NAME } },
            },
            "stages": {
                "type": "object",
                "description": "Changes of stages that exist, field by field, and stages of the project's own.",
                "maxProperties": MOST_ITEMS,
                "propertyNames": { "pattern": STAGE_NAME },
                "additionalProperties": { "$ref": "#/$defs/stage" },
            },
        },
        "required": ["version"],
        "additionalProperties": false,
        "$defs": {
            "stage": schema_of(FIELDS),
        },
    })
}
