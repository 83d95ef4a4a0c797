//! The private folder of an attempt.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use domain::ids::AttemptId;
use secrecy::{ExposeSecret, SecretString};

use super::{HostUser, leftovers};

/// Makes the worker's folders in `state_dir` and removes what earlier attempts left there.
pub(crate) fn open(state_dir: &Path) -> io::Result<()> {
    for (name, mode) in [("work", 0o711), ("bin", 0o755)] {
        let folder = state_dir.join(name);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
    }
    for entry in fs::read_dir(state_dir.join("work"))? {
        let entry = entry?;
        // Sandboxes end with the platform; this is for `sandbox: none`.
        if let Some(attempt) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            leftovers::end(attempt);
        }
        remove(&entry.path())?;
        tracing::info!(folder = %entry.path().display(), "removed the workspace of an attempt that was cut off");
    }
    Ok(())
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

/// Removes a tree, also one whose folders forbid it (module caches are read-only).
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        Err(_) => {
            unlock(path)?;
            fs::remove_dir_all(path)
        }
    }
}

/// Gives every folder below `folder` the rights that removing it takes. Follows no links.
fn unlock(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const ATTEMPT: &str = "0198a6a4-7c1e-7d5b-9a51-0a1b2c3d4e5f";

    #[test]
    fn a_workspace_is_private_and_goes_away() {
        let state = tempfile::tempdir().expect("a folder");
        open(state.path()).expect("opened");
        let user = HostUser::for_slot(0);
        let attempt = ATTEMPT.parse().expect("an id");
        let workspace =
            Workspace::create(state.path(), attempt, user, &"secret".to_owned().into()).expect("made");
        for (path, mode) in [(workspace.folder(), 0o700), (workspace.token_file(), 0o400)] {
            let found = fs::metadata(path).expect("there");
            assert_eq!((found.uid(), found.mode() & 0o777), (user.uid, mode));
        }
        let locked = workspace.folder().join("cache");
        fs::create_dir_all(locked.join("inner")).expect("made");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("locked");
        drop(workspace);
        assert_eq!(fs::read_dir(state.path().join("work")).expect("there").count(), 0);
    }

    #[test]
    fn what_a_killed_platform_left_is_removed() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(state.path().join("work").join(ATTEMPT).join("workspace/repo")).expect("made");
        fs::write(state.path().join("work/stray"), "x").expect("made");
        open(state.path()).expect("opened");
        assert_eq!(fs::read_dir(state.path().join("work")).expect("there").count(), 0);
    }
}
