//! The private folder of an attempt.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
};

use domain::ids::AttemptId;
use secrecy::{ExposeSecret, SecretString};

use super::{HostUser, leftovers};

/// How the name of what could not be removed begins.
const ASIDE: &str = ".leftover-";

/// Makes the worker's folders in `state_dir` and removes what earlier attempts left there.
pub(crate) fn open(state_dir: &Path) -> io::Result<()> {
    for (name, mode) in [("work", 0o711), ("bin", 0o755)] {
        let folder = state_dir.join(name);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
    }
    for entry in fs::read_dir(state_dir.join("work"))? {
        match entry {
            Ok(entry) => clear(&entry.path(), &entry.file_name()),
            Err(error) => tracing::warn!(%error, "the folder of the workspaces cannot be read to its end"),
        }
    }
    Ok(())
}

/// Removes what an attempt that was cut off left, or puts it aside: it must not keep the
/// platform from starting.
fn clear(path: &Path, name: &OsStr) {
    // Sandboxes end with the platform; this is for `sandbox: none`.
    if let Some(attempt) = name.to_str().and_then(|name| name.parse().ok()) {
        leftovers::end_marked(attempt);
    }
    let folder = path.display();
    let Err(error) = remove(path) else {
        tracing::info!(%folder, "removed the workspace of an attempt that was cut off");
        return;
    };
    tracing::warn!(%folder, %error, "a workspace could not be removed; it is put aside as `.leftover-…` and tried again at the next start");
    if !name.as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
        let mut aside = OsString::from(ASIDE);
        aside.push(name);
        if let Err(error) = fs::rename(path, path.with_file_name(aside)) {
            tracing::warn!(%folder, %error, "a workspace could not be put aside");
        }
    }
}

/// `work/<attempt>`, removed at the latest when this is dropped.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Makes the folder with the run token beside the part the agent may write. Both belong
    /// to `user` alone.
    pub(crate) fn create(
        state_dir: &Path,
        attempt: AttemptId,
        user: HostUser,
        token: &SecretString,
    ) -> io::Result<Self> {
        let workspace = Self { root: state_dir.join("work").join(attempt.to_string()) };
        let own =
            |path: &Path| if user.dropped { chown(path, Some(user.uid), Some(user.gid)) } else { Ok(()) };
        for folder in [workspace.root.clone(), workspace.folder()] {
            fs::DirBuilder::new().mode(0o700).create(&folder)?;
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(workspace.token_file())?;
        file.write_all(token.expose_secret().as_bytes())?;
        // The outermost last: until then nobody but us can reach what is inside.
        own(&workspace.token_file())?;
        own(&workspace.folder())?;
        own(&workspace.root)?;
        Ok(workspace)
    }

    /// What the agent may write: `/work` in the sandbox.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// Removes it; to be called where blocking is fine.
    pub(crate) fn removal(&self) -> impl FnOnce() + Send + 'static {
        let root = self.root.clone();
        move || removed(&root)
    }

    /// The run token.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.root.join("token")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        removed(&self.root);
    }
}

fn removed(folder: &Path) {
    if let Err(error) = remove(folder) {
        tracing::warn!(folder = %folder.display(), %error, "a workspace could not be removed; it is tried again at the next start");
    }
}

/// Removes a tree, also one whose folders forbid it (module caches are read-only). Blocks.
///
/// Its content is the agent's: as deep as it likes, and with links wherever it likes. So it
/// is removed by programs that take any depth, and as the user who owns it, not as root.
fn remove(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => return fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let dropped = rustix::process::geteuid().is_root() && found.uid() != 0;
    let owner = HostUser { uid: found.uid(), gid: found.gid(), dropped };
    for (program, options) in [("chmod", ["-R", "u+rwX"]), ("rm", ["-rf", "--one-file-system"])] {
        let mut command = subprocess::command(program, Path::new("/"));
        command.args(options).arg("--").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        owner.apply(&mut command);
        // How it ended says little: the owner may not remove the outermost folder itself.
        command.status()?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, fchown, mkdirat, openat};

    use super::*;

    const ATTEMPT: &str = "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f";

    /// A folder that a slot's user can pass through.
    fn state() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("set");
        folder
    }

    /// Far deeper than a path, a stack or the open files of a process reach.
    fn dig(folder: &Path, user: HostUser) {
        let mut here = rustix::fs::open(folder, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..20_000 {
            mkdirat(&here, "d", Mode::RWXU).expect("made");
            here = openat(&here, "d", OFlags::DIRECTORY, Mode::empty()).expect("opened");
            if user.dropped {
                let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
                fchown(&here, Some(uid), Some(gid)).expect("given away");
            }
        }
    }

    #[test]
    fn a_tree_of_any_depth_goes_away() {
        let state = state();
        open(state.path()).expect("opened");
        let claim = crate::local::users::Claim::one().expect("a user");
        let user = claim.user;
        let attempt = ATTEMPT.parse().expect("an id");
        let workspace =
            Workspace::create(state.path(), attempt, user, &"secret".to_owned().into()).expect("made");
        dig(&workspace.folder(), user);
        drop(workspace);
        assert_eq!(fs::read_dir(state.path().join("work")).expect("there").count(), 0);
    }

    #[test]
    fn what_cannot_be_removed_is_put_aside() {
        let state = state();
        let folder = state.path().join("work").join(ATTEMPT);
        fs::create_dir_all(folder.join("of-root")).expect("made");
        fs::write(folder.join("of-root/file"), "x").expect("made");
        let claim = crate::local::users::Claim::one().expect("a user");
        let user = claim.user;
        if !user.dropped {
            // Only another user's files resist us.
            return;
        }
        chown(&folder, Some(user.uid), Some(user.gid)).expect("given away");
        for _ in 0..2 {
            open(state.path()).expect("it starts");
            assert!(state.path().join("work").join(format!(".leftover-{ATTEMPT}")).is_dir());
        }
    }

    #[test]
    fn a_workspace_is_private_and_goes_away() {
        let state = state();
        open(state.path()).expect("opened");
        let claim = crate::local::users::Claim::one().expect("a user");
        let user = claim.user;
        let attempt = ATTEMPT.parse().expect("an id");
        let workspace =
            Workspace::create(state.path(), attempt, user, &"secret".to_owned().into()).expect("made");
        for (path, mode) in [(workspace.folder(), 0o700), (workspace.token_file(), 0o400)] {
            let found = fs::metadata(path).expect("there");
            assert_eq!((found.uid(), found.mode() & 0o777), (user.uid, mode));
        }
        let locked = workspace.folder().join("cache");
        fs::create_dir_all(locked.join("inner")).expect("made");
        for folder in [locked.join("inner"), locked.clone()] {
            if user.dropped {
                chown(&folder, Some(user.uid), Some(user.gid)).expect("given away");
            }
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).expect("locked");
        }
        let outside = state.path().join("outside");
        fs::write(&outside, "x").expect("made");
        std::os::unix::fs::symlink(&outside, workspace.folder().join("link")).expect("made");
        drop(workspace);
        assert_eq!(fs::read_dir(state.path().join("work")).expect("there").count(), 0);
        assert!(outside.exists(), "links are not followed");
    }

    #[test]
    fn what_a_killed_platform_left_is_removed() {
        let state = state();
        fs::create_dir_all(state.path().join("work").join(ATTEMPT).join("workspace/repo")).expect("made");
        fs::write(state.path().join("work/stray"), "x").expect("made");
        open(state.path()).expect("opened");
        assert_eq!(fs::read_dir(state.path().join("work")).expect("there").count(), 0);
    }
}
