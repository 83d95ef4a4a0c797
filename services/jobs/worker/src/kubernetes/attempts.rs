//! The attempts at hand: what the tasks that run them and the controller that tends their
//! objects tell each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use tokio::sync::watch;

use super::{client::Refusal, desired::Desired, found::Found, observe::Observed};

/// What is seen of an attempt.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// Its object has not been seen yet.
    Unseen,
    /// As its objects are.
    Seen(Observed),
    /// Its object is gone, or is not what was made: a sentence.
    Gone(String),
}

/// An attempt whose object was made and reported.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) desired: Arc<Desired>,
    /// Of its `AgentRun`.
    pub(super) uid: String,
    /// Of that object's spec, as stored.
    pub(super) digest: String,
}

/// What was made for an attempt, as far as this process knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    /// Of the ServiceAccount, the Secret and the NetworkPolicy, when they were last applied.
    pub(super) versions: [Option<String>; 3],
    /// Of the Job, and since when it is known.
    pub(super) job: Option<(String, Instant)>,
    /// The Job was among what is watched: when it is not any more, it was deleted.
    pub(super) job_was_seen: bool,
    /// The Job as it was when we deleted it, because it made a second pod.
    pub(super) ended_job: Option<Arc<Job>>,
    /// Since when the cluster fails at what is applied.
    pub(super) failing: Option<Instant>,
    /// When the cluster last refused something of it, and how.
    pub(super) refused: Option<(Instant, Refusal)>,
    /// The first pod, as it was when last seen. There is no second one.
    pub(super) pod: Option<Arc<Pod>>,
}

#[derive(Debug)]
struct Entry {
    ours: Option<Ours>,
    /// It was seen in the cluster: when it is not any more, it is gone.
    was_seen: bool,
    ending: bool,
    made: Made,
    view: watch::Sender<View>,
}

/// What an `AgentRun` that was found is.
#[derive(Debug)]
pub(super) enum Role {
    /// No attempt at hand has its name.
    Unknown,
    /// An attempt at hand has its name, and nothing is to be made for it: not yet, or not any more.
    Left,
    /// An attempt's.
    Ours(Ours, Box<Made>),
    /// Under an attempt's name, and not its own.
    Another,
}

/// The attempts at hand, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<(String, String), Entry>>);

impl Attempts {
    fn locked(&self) -> MutexGuard<'_, HashMap<(String, String), Entry>> {
        // A panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on<T>(&self, namespace: &str, name: &str, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.locked().get_mut(&(namespace.to_owned(), name.to_owned())).map(act)
    }

    /// What is found under this name is an attempt's at hand, and left alone until it is known
    /// to be its own.
    pub(super) fn expect(&self, namespace: &str, name: &str) -> watch::Receiver<View> {
        let mut entries = self.locked();
        let entry = entries.entry((namespace.to_owned(), name.to_owned())).or_insert_with(|| Entry {
            ours: None,
            was_seen: false,
            ending: false,
            made: Made::default(),
            view: watch::Sender::new(View::Unseen),
        });
        entry.view.subscribe()
    }

    /// Its object was made, and that is stored: from now on things are made for it.
    pub(super) fn begin(&self, ours: Ours) {
        let (namespace, name) = (ours.desired.namespace.clone(), ours.desired.name.clone());
        self.on(&namespace, &name, |entry| entry.ours = Some(ours));
    }

    /// From now on nothing is made for it.
    pub(super) fn end(&self, namespace: &str, name: &str) {
        self.on(namespace, name, |entry| entry.ending = true);
    }

    /// Whether nothing is to be made for it any more.
    pub(super) fn is_ending(&self, namespace: &str, name: &str) -> bool {
        self.on(namespace, name, |entry| entry.ending).unwrap_or(true)
    }

    /// Nothing is left of it.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.locked().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Its first pod, as it was when last seen.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.on(namespace, name, |entry| entry.made.pod.clone()).flatten()
    }

    /// Whose an object that was found is. An attempt whose object it turns out not to be is told.
    pub(super) fn role(&self, namespace: &str, found: &Found) -> Role {
        let role = self.on(namespace, found.name(), |entry| {
            let Some(ours) = entry.ours.as_ref().filter(|_| !entry.ending) else { return Role::Left };
            let name = found.name();
            if found.uid() != ours.uid {
                // What is watched may be behind: this is what was there before ours.
                if !entry.was_seen {
                    return Role::Left;
                }
                show(&entry.view, View::Gone(format!("Its AgentRun {name} was deleted, and another was made in its place, not by the platform.")));
                return Role::Another;
            }
            if found.digest != ours.digest {
                show(&entry.view, View::Gone(format!("The spec of its AgentRun {name} was changed, not by the platform.")));
                return Role::Left;
            }
            if found.is_going() {
                show(&entry.view, View::Gone(deleted(name)));
                return Role::Left;
            }
            entry.was_seen = true;
            Role::Ours(ours.clone(), Box::new(entry.made.clone()))
        });
        role.unwrap_or(Role::Unknown)
    }

    /// It is not in the cluster.
    pub(super) fn missed(&self, namespace: &str, name: &str) {
        self.on(namespace, name, |entry| {
            if entry.was_seen && !entry.ending {
                show(&entry.view, View::Gone(deleted(name)));
            }
        });
    }

    /// Names of this namespace.
    pub(super) fn names(&self, namespace: &str) -> Vec<String> {
        self.locked().keys().filter(|(n, _)| n == namespace).map(|(_, name)| name.clone()).collect()
    }

    /// Notes what was made.
    pub(super) fn note(&self, namespace: &str, name: &str, made: Made) {
        self.on(namespace, name, |entry| entry.made = made);
    }

    /// Tells what is seen.
    pub(super) fn show(&self, namespace: &str, name: &str, observed: Observed) {
        self.on(namespace, name, |entry| show(&entry.view, View::Seen(observed)));
    }
}

/// The sentence for an object that a person, or something else, has deleted.
pub(super) fn deleted(name: &str) -> String {
    format!("Its AgentRun {name} was deleted, not by the platform.")
}

/// What is gone stays gone, and what has ended stays as it ended.
fn show(view: &watch::Sender<View>, now: View) {
    view.send_if_modified(|view| match view {
        View::Gone(_) | View::Seen(Observed::Ended { .. }) => false,
        View::Unseen
        | View::Seen(Observed::Nothing | Observed::Waiting { .. } | Observed::Running { .. }) => {
            *view = now;
            true
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fixtures;

    #[test]
    fn what_was_there_before_ours_does_not_end_it() {
        let desired = Arc::new(fixtures::desired());
        let (namespace, name) = (desired.namespace.clone(), desired.name.clone());
        let digest = desired.spec.digest();
        let found = |uid: &str| -> Found {
            let spec = serde_json::to_value(&desired.spec).expect("JSON");
            serde_json::from_value(
                serde_json::json!({ "metadata": { "name": name, "uid": uid }, "spec": spec }),
            )
            .expect("an AgentRun")
        };
        let attempts = Attempts::default();
        let view = attempts.expect(&namespace, &name);
        attempts.begin(Ours { desired: Arc::clone(&desired), uid: "ours".into(), digest });
        // The watch has not told yet that the one before was deleted.
        assert!(matches!(attempts.role(&namespace, &found("before")), Role::Left));
        attempts.missed(&namespace, &name);
        assert!(matches!(*view.borrow(), View::Unseen));
        assert!(matches!(attempts.role(&namespace, &found("ours")), Role::Ours(..)));
        assert!(matches!(attempts.role(&namespace, &found("another")), Role::Another));
        assert!(matches!(*view.borrow(), View::Gone(_)));
    }
}
