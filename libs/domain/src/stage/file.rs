//! A stages file over the stages that are there already. Each stage is read by itself: what is
//! wrong with one spoils that one and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::{Mapping, Value};

use super::{
    Broken, Labels, Off, Policy, Stage, StageKind,
    fields::FIELDS,
    holds::{
        MOST_ITEMS, STAGE_NAME_IN_WORDS, known, missing, shown, shown_key, stage_name, text_fits, wrong_field,
    },
    plain, yaml,
};

/// Languages there are prompts in.
pub(super) const LANGUAGES: [&str; 2] = ["en", "ru"];
/// What a file may hold.
pub(super) const PARTS: [&str; 5] = ["version", "language", "labels", "profiles", "stages"];

/// The file over `base`; else why it does not read as a whole, as part of a sentence.
pub(super) fn over(base: &Policy, text: &str) -> Result<Policy, String> {
    let file = yaml::read(text)?;
    let file = file.as_mapping().ok_or_else(|| format!("it is {}; expected a mapping", shown(&file)))?;
    for (key, _) in file {
        known(key, PARTS.into_iter()).map_err(|problem| format!("`{}` {problem}", shown_key(key)))?;
    }
    match file.get("version") {
        Some(version) if version.as_i64() == Some(1) => {}
        Some(version) => return Err(format!("`version` is {}; expected 1", shown(version))),
        None => return Err("`version` is missing; expected 1".to_owned()),
    }
    let mut policy = base.clone();
    if let Some(language) = file.get("language") {
        let known = language.as_str().filter(|language| LANGUAGES.contains(language));
        let known =
            known.ok_or_else(|| format!("`language` is {}; expected `en` or `ru`", shown(language)))?;
        known.clone_into(&mut policy.language);
    }
    if let Some(labels) = file.get("labels") {
        policy.labels = read_labels(labels)?;
    }
    for (name, value) in part(file, "stages")? {
        let name = shown_key(name);
        match read_stage(base, &name, value) {
            Ok(Some(stage)) => drop(policy.stages.insert(name, stage)),
            Ok(None) => {
                policy.stages.remove(&name);
                policy.off.insert(name, Off::Project);
            }
            Err(broken) => spoil(&mut policy, &name, broken),
        }
    }
    for (name, path) in part(file, "profiles")? {
        let name = shown_key(name);
        match read_profile(&policy, &name, path) {
            Ok(path) => drop(policy.profiles.insert(name, path)),
            Err(broken) => {
                policy.profiles.remove(&name);
                policy.broken.insert(format!("profiles.{name}"), broken);
            }
        }
    }
    let written: BTreeSet<String> =
        part(file, "stages")?.into_iter().map(|(name, _)| shown_key(name)).collect();
    agree(&mut policy, &written);
    Ok(policy)
}

fn spoil(policy: &mut Policy, name: &str, broken: Broken) {
    policy.stages.remove(name);
    policy.broken.insert(name.to_owned(), broken);
}

/// A mapping of the file; nothing when it is left out.
fn part<'a>(file: &'a Mapping, name: &str) -> Result<Vec<(&'a Value, &'a Value)>, String> {
    match file.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Mapping(part)) if part.len() <= MOST_ITEMS => Ok(part.iter().collect()),
        Some(Value::Mapping(part)) => {
            Err(format!("`{name}` has {} entries, and at most {MOST_ITEMS} are read", part.len()))
        }
        Some(other) => Err(format!("`{name}` is {}; expected a mapping", shown(other))),
    }
}

/// One stage: its fields over those it has already. `None`: it is switched off.
fn read_stage(base: &Policy, name: &str, value: &Value) -> Result<Option<Stage>, Broken> {
    let broken = |place: &str, problem: String| Broken { field: format!("stages.{name}{place}"), problem };
    if !stage_name(name) {
        return Err(broken("", format!("is not a stage's name; expected {STAGE_NAME_IN_WORDS}")));
    }
    let fields = value.as_mapping().ok_or_else(|| {
        broken("", format!("is {}; expected fields, or `enabled: false` to switch it off", shown(value)))
    })?;
    if let Some((place, problem)) = wrong_field(FIELDS, fields) {
        return Err(broken(&place, problem));
    }
    if fields.get("enabled") == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    let before = base.get(name);
    let mut merged = match before.map(serde_yaml::to_value) {
        Some(Ok(Value::Mapping(stage))) => stage,
        Some(_) | None => Mapping::new(),
    };
    merged.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
    merged.remove("enabled");
    if let Some((place, problem)) = missing(FIELDS, &merged) {
        return Err(broken(&place, problem));
    }
    let mut stage: Stage = serde_yaml::from_value(Value::Mapping(merged))
        .map_err(|error| broken("", format!("does not read: {}", plain(&error.to_string()))))?;
    if stage.template.is_empty() {
        name.clone_into(&mut stage.template);
    }
    // There is one way to ask for a review and one for a discussion, so there is one stage of each.
    let kind = before.map_or(StageKind::Work, |before| before.kind);
    if stage.kind != kind && !base.stages.is_empty() {
        return Err(broken(".kind", "is not the product's; leave it out".to_owned()));
    }
    if stage.kind != StageKind::Work && !stage.write_scope.is_empty() {
        return Err(broken(
            ".write_scope",
            "is not empty, and reviews and discussions change nothing".to_owned(),
        ));
    }
    Ok(Some(stage))
}

fn read_profile(policy: &Policy, name: &str, path: &Value) -> Result<Vec<String>, Broken> {
    let broken = |problem: String| Broken { field: format!("profiles.{name}"), problem };
    if !stage_name(name) {
        return Err(broken(format!("is not a path's name; expected {STAGE_NAME_IN_WORDS}")));
    }
    let field = super::Holds::Stages;
    if let Some((place, problem)) = field.wrong(path) {
        return Err(Broken { field: format!("profiles.{name}{place}"), problem });
    }
    let stages: Vec<String> =
        path.as_sequence().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    match stages.iter().find(|stage| !exists(policy, stage)) {
        Some(stage) => Err(broken(format!("names `{stage}`, and there is no such stage"))),
        None => Ok(stages),
    }
}

/// True when there is a stage of that name, whether it starts here or not.
fn exists(policy: &Policy, name: &str) -> bool {
    policy.stages.contains_key(name) || policy.broken.contains_key(name) || policy.off.contains_key(name)
}

/// Stages name one another: what is named has to be there, and nothing may wait for itself.
fn agree(policy: &mut Policy, written: &BTreeSet<String>) {
    let mut wrong = BTreeMap::new();
    for (name, stage) in &policy.stages {
        let gone = stage.next.iter().find(|next| written.contains(name) && !exists(policy, next));
        if let Some(next) = gone {
            wrong.insert(name.clone(), ("next", format!("names `{next}`, and there is no such stage")));
        }
        for requirement in &stage.requires {
            let earlier = &requirement.stage;
            let problem = if policy.off.contains_key(earlier) {
                format!("names `{earlier}`, which is switched off")
            } else if !exists(policy, earlier) {
                format!("names `{earlier}`, and there is no such stage")
            } else if waits_for(policy, earlier, name) {
                format!("names `{earlier}`, which in turn waits for `{name}`")
            } else {
                continue;
            };
            wrong.insert(name.clone(), ("requires", problem));
        }
    }
    for (name, (field, problem)) in wrong {
        spoil(policy, &name, Broken { field: format!("stages.{name}.{field}"), problem });
    }
    // What is switched off is offered nowhere.
    let Policy { stages, profiles, off, .. } = policy;
    for next in stages.values_mut().map(|stage| &mut stage.next).chain(profiles.values_mut()) {
        next.retain(|name| !off.contains_key(name));
    }
}

/// True when `stage` is `name`, or requires something that waits for it.
fn waits_for(policy: &Policy, stage: &str, name: &str) -> bool {
    let (mut open, mut seen) = (vec![stage], BTreeSet::new());
    while let Some(at) = open.pop() {
        if at == name {
            return true;
        }
        if seen.insert(at) {
            let requires = policy.get(at).into_iter().flat_map(|stage| &stage.requires);
            open.extend(requires.map(|requirement| requirement.stage.as_str()));
        }
    }
    false
}

fn read_labels(value: &Value) -> Result<Labels, String> {
    let given =
        value.as_mapping().ok_or_else(|| format!("`labels` is {}; expected a mapping", shown(value)))?;
    for (key, value) in given {
        let name = known(key, Labels::NAMES.into_iter())
            .map_err(|problem| format!("`labels.{}` {problem}", shown_key(key)))?;
        if !value.as_str().is_some_and(|text| text_fits(text, 40) && text.trim() == text) {
            return Err(format!("`labels.{name}` is {}; expected text of 1 to 40 characters", shown(value)));
        }
    }
    let labels: Labels = serde_yaml::from_value(value.clone())
        .map_err(|error| format!("`labels` does not read: {}", plain(&error.to_string())))?;
    labels.check()?;
    Ok(labels)
}
