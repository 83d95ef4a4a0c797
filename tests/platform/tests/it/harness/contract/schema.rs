//! The part of JSON Schema that GitHub's description uses (OpenAPI 3.0), and one rule more: a
//! field that an object does not describe is wrong, unless the object says that it is open.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Schemas and what they refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schemas {
    document: &'static Value,
}

impl Schemas {
    pub(super) fn new(document: &'static Value) -> Self {
        Self { document }
    }

    /// What is meant: itself, or what it refers to.
    pub(super) fn resolve(self, value: &'static Value) -> &'static Value {
        match value["$ref"].as_str().and_then(|to| self.document.pointer(to.trim_start_matches('#'))) {
            Some(meant) => self.resolve(meant),
            None => value,
        }
    }

    /// A schema that others refer to.
    pub(super) fn named(self, name: &str) -> &'static Value {
        &self.document["components"]["schemas"][name]
    }

    /// Sentences about what is not as the schema has it; places in lists are `[]`.
    pub(super) fn violations(self, schema: &'static Value, value: &Value) -> BTreeSet<String> {
        let mut found = Found::default();
        self.check(schema, value, Place { at: "", is_closed: true }, &mut found);
        found.sentences
    }

    fn check(self, schema: &'static Value, value: &Value, place: Place<'_>, found: &mut Found) {
        let schema = self.resolve(schema);
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            found.add(place.at, &format!("is {value}, which is none of {}", schema["enum"]));
        }
        if let Some(kind) = schema["type"].as_str()
            && !is_a(kind, value)
        {
            found.add(place.at, &format!("is {}, not of type {kind}", kind_of(value)));
            return;
        }
        let whole = schema.get("properties").is_some() || schema.get("allOf").is_some();
        for part in list(schema, "allOf") {
            self.check(part, value, place.open(), found);
        }
        for choice in ["oneOf", "anyOf"] {
            // Each alternative by itself is all there is, unless they add to something.
            let place = if whole { place.open() } else { place };
            self.check_one_of(list(schema, choice), value, place, found);
        }
        match value {
            Value::Object(fields) => self.check_object(schema, fields, place, found),
            Value::Array(items) => {
                bounds(schema, "Items", items.len(), place.at, found);
                for item in items {
                    let at = format!("{}[]", place.at);
                    self.check(&schema["items"], item, Place { at: &at, is_closed: true }, found);
                }
            }
            Value::String(text) => check_text(schema, text, place.at, found),
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    /// One alternative has to fit; otherwise the one that comes closest is explained.
    fn check_one_of(self, choices: &'static [Value], value: &Value, place: Place<'_>, found: &mut Found) {
        let attempts = choices.iter().map(|choice| {
            let mut found = Found::default();
            self.check(choice, value, place, &mut found);
            found
        });
        if let Some(closest) = attempts.min_by_key(|found| found.sentences.len()) {
            found.sentences.extend(closest.sentences);
        }
    }

    fn check_object(
        self,
        schema: &'static Value,
        fields: &Map<String, Value>,
        place: Place<'_>,
        found: &mut Found,
    ) {
        let at =
            |name: &str| if place.at.is_empty() { name.to_owned() } else { format!("{}.{name}", place.at) };
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.add(&at(name), "is required and missing");
            }
        }
        let known = if place.is_closed { self.fields_of(schema) } else { None };
        for (name, value) in fields {
            let at = at(name);
            let place = Place { at: &at, is_closed: true };
            if let Some(described) = schema["properties"].get(name) {
                self.check(described, value, place, found);
            } else if known.as_ref().is_some_and(|known| !known.contains(name.as_str())) {
                found.add(&at, "is not described");
            } else if schema["additionalProperties"].is_object() {
                self.check(&schema["additionalProperties"], value, place, found);
            }
        }
    }

    /// Every field an object may have; `None` when it may have any.
    fn fields_of(self, schema: &'static Value) -> Option<BTreeSet<&'static str>> {
        let schema = self.resolve(schema);
        let is_open = |schema: &Value| {
            schema.get("additionalProperties").is_some_and(|more| more.is_object() || *more == true)
        };
        if is_open(schema) || list(schema, "allOf").iter().any(|part| is_open(self.resolve(part))) {
            return None;
        }
        let own = schema["properties"].as_object().map(|fields| fields.keys().map(String::as_str).collect());
        let parts = ["allOf", "oneOf", "anyOf"].into_iter().flat_map(|of| list(schema, of));
        let parts: Vec<_> = parts.filter_map(|part| self.fields_of(part)).collect();
        let described: Vec<BTreeSet<_>> = own.into_iter().chain(parts).collect();
        if described.is_empty() { None } else { Some(described.into_iter().flatten().collect()) }
    }
}

/// Where in a value we are.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: &'a str,
    /// False for a part of a description whose other parts know fields of their own.
    is_closed: bool,
}

impl Place<'_> {
    fn open(self) -> Self {
        Self { is_closed: false, ..self }
    }
}

#[derive(Default)]
struct Found {
    sentences: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, at: &str, what: &str) {
        let at = if at.is_empty() { "the whole" } else { at };
        self.sentences.insert(format!("{at} {what}"));
    }
}

fn list(schema: &'static Value, name: &str) -> &'static [Value] {
    schema[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("a type this does not know: {other}"),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn bounds(schema: &Value, of: &str, length: usize, at: &str, found: &mut Found) {
    let bound = |which: &str| schema[format!("{which}{of}")].as_u64().and_then(|n| usize::try_from(n).ok());
    if bound("min").is_some_and(|least| length < least) || bound("max").is_some_and(|most| length > most) {
        found.add(at, &format!("has a length of {length}, which is out of bounds"));
    }
}

fn check_text(schema: &Value, text: &str, at: &str, found: &mut Found) {
    bounds(schema, "Length", text.chars().count(), at, found);
    let reads = match schema["format"].as_str() {
        Some("date-time") => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        Some("uri") => reqwest::Url::parse(text).is_ok(),
        _ => true,
    };
    if !reads {
        found.add(at, &format!("is no {}: {text}", schema["format"]));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Sentences, joined.
    fn judged(schema: &Value, value: &Value) -> String {
        let document = Box::leak(Box::new(json!({
            "named": { "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" } } },
            "schema": schema,
        })));
        let found = Schemas::new(document).violations(&document["schema"], value);
        found.into_iter().collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_missing_wrong_and_unknown_is_told() {
        let schema = json!({ "type": "array", "items": { "$ref": "#/named" } });
        assert_eq!(judged(&schema, &json!([{ "id": 1 }])), "");
        assert_eq!(
            judged(&schema, &json!([{ "id": "1", "a": 1 }, {}])),
            "[].a is not described; [].id is a string, not of type integer; [].id is required and missing"
        );
        assert_eq!(judged(&schema, &json!({})), "the whole is an object, not of type array");
    }

    #[test]
    fn alternatives_nothing_and_open_objects() {
        let either = json!({ "oneOf": [{ "$ref": "#/named" }, { "type": "string", "nullable": true }] });
        for fits in [json!({ "id": 1 }), json!("x"), json!(null)] {
            assert_eq!(judged(&either, &fits), "");
        }
        assert_eq!(judged(&either, &json!({ "name": 1, "id": 1 })), "name is not described");
        let more =
            json!({ "allOf": [{ "$ref": "#/named" }], "properties": { "name": { "enum": ["a", "b"] } } });
        assert_eq!(judged(&more, &json!({ "id": 1, "name": "a" })), "");
        assert_eq!(
            judged(&more, &json!({ "id": 1, "name": "c", "x": 0 })),
            "name is \"c\", which is none of [\"a\",\"b\"]; x is not described"
        );
        assert_eq!(judged(&json!({ "type": "object" }), &json!({ "any": 1 })), "");
        let map =
            json!({ "type": "object", "additionalProperties": { "type": "string", "format": "date-time" } });
        assert_eq!(judged(&map, &json!({ "at": "today" })), "at is no \"date-time\": today");
    }
}
