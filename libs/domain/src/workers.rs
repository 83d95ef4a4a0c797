//! Which workers may take a run, how they stand, and what people are told when none can.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::stage::{is_label_key, is_label_value};

/// What a worker has, and what a stage asks for.
pub type Labels = BTreeMap<String, String>;

/// Why a directive stops an attempt that goes on on another worker.
pub const DRAIN: &str = "drain";

/// A text that is not a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a label; write key=value, such as gpu=a100 or example.com/zone=eu: letters, digits, `-`, `_` and `.`, at most 63 each"
)]
pub struct InvalidLabel(String);

/// Reads `key=value`, each as stages may ask for it.
///
/// # Errors
/// [`InvalidLabel`] when it is not one.
pub fn label(text: &str) -> Result<(String, String), InvalidLabel> {
    match text.split_once('=') {
        Some((key, value)) if is_label_key(key) && is_label_value(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        Some(_) | None => Err(InvalidLabel(text.chars().take(140).collect())),
    }
}

/// `a=1, b=2`
pub fn written(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// What a worker counts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// What it has.
    pub labels: Labels,
    /// What it says it has, and was not enrolled with.
    pub ignored: Labels,
}

/// Holds what a worker says of itself against what it was enrolled with: it can only narrow that.
/// One that says nothing has all of it.
pub fn narrow(enrolled: &Labels, declared: &Labels) -> Narrowed {
    if declared.is_empty() {
        return Narrowed { labels: enrolled.clone(), ignored: Labels::new() };
    }
    let (labels, ignored) =
        declared.clone().into_iter().partition(|(key, value)| enrolled.get(key) == Some(value));
    Narrowed { labels, ignored }
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gets runs.
    Ready,
    /// It gets nothing new.
    Cordoned,
    /// The same, and what it has is leaving it.
    Draining,
    /// The same, and it has nothing left.
    Drained,
}

impl Standing {
    /// From what is recorded, and the attempts it has now.
    pub fn of(is_cordoned: bool, is_drained: bool, running: i64) -> Self {
        match (is_cordoned, is_drained, running) {
            (false, _, _) => Self::Ready,
            (true, false, _) => Self::Cordoned,
            (true, true, 0) => Self::Drained,
            (true, true, _) => Self::Draining,
        }
    }

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// A worker that is enrolled for the project of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// What it counts with.
    pub labels: Labels,
    /// It gets nothing new.
    pub is_cordoned: bool,
    /// It has said nothing for a while.
    pub is_silent: bool,
    /// When it was here last.
    pub heard_at: Option<DateTime<Utc>>,
}

/// Why there is no worker for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWorker {
    /// None is enrolled for its project.
    NotEnrolled,
    /// None has the labels its stage asks for.
    WithoutLabels(Labels),
    /// Those that have them are cordoned: their names.
    Cordoned(Vec<String>),
    /// The others have said nothing for a while: since when, where one was ever here.
    Silent(Option<DateTime<Utc>>),
}

/// Why no worker can take a run that asks for these labels; `None` when one can, if only once it
/// has a place.
pub fn none_for(wanted: &Labels, workers: &[Candidate]) -> Option<NoWorker> {
    let has = |worker: &&Candidate| wanted.iter().all(|(key, value)| worker.labels.get(key) == Some(value));
    if workers.is_empty() {
        return Some(NoWorker::NotEnrolled);
    }
    let fitting: Vec<_> = workers.iter().filter(has).collect();
    if fitting.is_empty() {
        return Some(NoWorker::WithoutLabels(wanted.clone()));
    }
    let open: Vec<_> = fitting.iter().filter(|worker| !worker.is_cordoned).collect();
    if open.is_empty() {
        return Some(NoWorker::Cordoned(fitting.iter().map(|worker| worker.name.clone()).collect()));
    }
    let is_silent = open.iter().all(|worker| worker.is_silent);
    is_silent.then(|| NoWorker::Silent(open.iter().filter_map(|worker| worker.heard_at).max()))
}

impl NoWorker {
    /// What is so, and what to do next.
    pub fn sentence(&self, project: &str, stage: &str) -> String {
        match self {
            Self::NotEnrolled => format!(
                "No worker is enrolled for project `{project}`. `callboard worker enroll --project {project} --name NAME` makes one known."
            ),
            Self::WithoutLabels(wanted) => format!(
                "No worker of project `{project}` has what stage `{stage}` asks for: {}. `callboard worker list` shows what they have.",
                wanted.iter().map(|(key, value)| format!("`{key}={value}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::Cordoned(names) => match names.as_slice() {
                [name] => format!(
                    "Worker `{name}` is cordoned and gets nothing new. It starts after `callboard worker uncordon {name}`."
                ),
                names => format!(
                    "All {} workers that could take it are cordoned. It starts after `callboard worker uncordon NAME` of one of them.",
                    names.len()
                ),
            },
            Self::Silent(Some(since)) => format!(
                "No worker of project `{project}` was heard of since {}. `callboard worker list` shows them; start one.",
                since.format("%Y-%m-%d %H:%M UTC")
            ),
            Self::Silent(None) => format!(
                "No worker of project `{project}` was ever here. `callboard worker list` shows them; start one."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(' ').filter(|t| !t.is_empty()).map(|t| label(t).expect("a label")).collect()
    }

    #[test]
    fn labels_read_as_people_write_them() {
        assert_eq!(label("gpu=a100"), Ok(("gpu".to_owned(), "a100".to_owned())));
        assert_eq!(
            label("example.com/zone=eu-1.a"),
            Ok(("example.com/zone".to_owned(), "eu-1.a".to_owned()))
        );
        for text in [
            "",
            "gpu",
            "=a",
            "gpu=",
            "gpu=a b",
            "gpu=a=b",
            "gpu=a/b",
            "-gpu=a",
            &format!("{}=a", "k".repeat(64)),
        ] {
            let error = label(text).expect_err(text).to_string();
            assert!(error.contains("write key=value"), "{error}");
        }
    }

    #[test]
    fn what_a_worker_says_only_narrows() {
        let enrolled = labels("gpu=a100 zone=eu");
        for (declared, counts, ignored) in [
            ("", "gpu=a100 zone=eu", ""),
            ("zone=eu", "zone=eu", ""),
            ("zone=us", "", "zone=us"),
            ("gpu=a100 big=yes", "gpu=a100", "big=yes"),
        ] {
            let narrowed = narrow(&enrolled, &labels(declared));
            assert_eq!(narrowed, Narrowed { labels: labels(counts), ignored: labels(ignored) }, "{declared}");
        }
    }

    #[test]
    fn a_run_without_a_worker_says_why() {
        let worker = |name: &str, has: &str, is_cordoned, is_silent| Candidate {
            name: name.to_owned(),
            labels: labels(has),
            is_cordoned,
            is_silent,
            heard_at: is_silent.then(|| "2026-11-22T14:05:10Z".parse().expect("a time")),
        };
        let (ready, cordoned) = (worker("ready", "", false, false), worker("cordoned", "", true, false));
        let (silent, gpu) = (worker("silent", "", false, true), worker("gpu", "gpu=a100", true, false));
        let never = Candidate { heard_at: None, ..silent.clone() };
        let cases: [(&str, Vec<&Candidate>); 9] = [
            ("", vec![&ready]),
            ("", vec![&cordoned, &silent, &ready]),
            ("", vec![]),
            ("gpu=a100", vec![&ready, &silent]),
            ("gpu=a100", vec![&ready, &gpu]),
            ("", vec![&cordoned, &gpu]),
            ("", vec![&cordoned, &silent]),
            ("", vec![&silent, &never]),
            ("", vec![&never]),
        ];
        let said: Vec<String> = cases
            .into_iter()
            .map(|(wanted, workers)| {
                let workers: Vec<Candidate> = workers.into_iter().cloned().collect();
                let names: Vec<_> = workers.iter().map(|worker| worker.name.as_str()).collect();
                let why = none_for(&labels(wanted), &workers);
                let why = why.map_or_else(|| "-".to_owned(), |why| why.sentence("demo", "dev"));
                format!("[{}] {wanted}\n    {why}", names.join(" "))
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_drained_worker_is_drained_once_it_has_nothing() {
        for (cordoned, drained, running, name) in [
            (false, false, 1, "ready"),
            (true, false, 1, "cordoned"),
            (true, true, 1, "draining"),
            (true, true, 0, "drained"),
        ] {
            assert_eq!(Standing::of(cordoned, drained, running).as_str(), name);
        }
    }
}
