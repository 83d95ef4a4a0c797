//! Host users for sandboxes. A uid belongs to one slot of one platform for as long as its
//! lock is held, so that two platforms on a machine never end each other's attempts.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{HostUser, SANDBOX_FIRST_UID, SANDBOX_GID};

/// Root's own folder; the kernel lets go of a lock when its process ends, however it ends.
const LOCKS: &str = "/run/callboard/uids";
/// How many uids there are to choose from.
const CHOICE: u32 = 1000;

/// A host user that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) user: HostUser,
    _lock: Option<fs::File>,
}

impl Claim {
    /// The first free user; without root it is who we are.
    pub(crate) fn one() -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            let user = HostUser { uid: uid.as_raw(), gid: gid.as_raw(), dropped: false };
            return Ok(Self { user, _lock: None });
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(LOCKS)?;
        for uid in SANDBOX_FIRST_UID..SANDBOX_FIRST_UID + CHOICE {
            let path = Path::new(LOCKS).join(uid.to_string());
            let lock =
                fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let user = HostUser { uid, gid: SANDBOX_GID, dropped: true };
                return Ok(Self { user, _lock: Some(lock) });
            }
        }
        Err(io::Error::other(format!(
            "all host uids from {SANDBOX_FIRST_UID} to {} are taken by other platforms of this machine",
            SANDBOX_FIRST_UID + CHOICE - 1
        )))
    }

    /// One for each slot.
    pub(crate) fn many(slots: usize) -> io::Result<Vec<Self>> {
        (0..slots).map(|_| Self::one()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_gets_a_claimed_user() {
        let (first, second) = (Claim::one().expect("a user"), Claim::one().expect("a user"));
        assert_eq!(first.user.dropped, rustix::process::geteuid().is_root());
        assert_eq!(first.user.uid == second.user.uid, !first.user.dropped);
        let freed = first.user.uid;
        drop(first);
        // Free again, unless another test was faster.
        assert!(Claim::one().expect("a user").user.uid >= SANDBOX_FIRST_UID.min(freed));
    }
}
