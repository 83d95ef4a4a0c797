//! The folder that holds everything the platform keeps on disk.
//!
//! As root the folder itself may be passed through (0711), because Postgres and the agents
//! run as other users below it; everything private is in subfolders of mode 0700.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use tokio::time::Instant;

/// A platform that is just ending, or a program it is just starting, may hold the folder for a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(3);

/// Places below `data_dir`.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Where the folder is, prepared or not.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Makes the folder and its subfolders, with the modes they need. A folder that is there
    /// must be ours: what is below it is chmodded and, in places, emptied.
    pub(crate) fn prepare(root: &Path) -> anyhow::Result<Self> {
        let data = Self::at(root);
        let shared = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
        let empty = fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none());
        anyhow::ensure!(
            empty || data.lock_file().is_file(),
            "data_dir: {} has something else in it; name an empty folder, or one that does not exist yet",
            root.display()
        );
        make(root, shared)?;
        for private in [data.internal(), data.identities(), data.objects()] {
            make(&private, 0o700)?;
        }
        make(&data.agents(), shared)?;
        // From now on the folder is known as ours.
        data.open_lock_file()?;
        Ok(data)
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn open_lock_file(&self) -> anyhow::Result<fs::File> {
        let path = self.lock_file();
        let opened = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        opened.with_context(|| format!("cannot open {}", path.display()))
    }

    /// Holds the folder for one platform; ends with the process.
    pub(crate) async fn lock(&self) -> anyhow::Result<fs::File> {
        let file = self.open_lock_file()?;
        let until = Instant::now() + LOCK_WITHIN;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            anyhow::ensure!(
                error == Errno::WOULDBLOCK,
                "{} cannot be locked: {error}",
                self.lock_file().display()
            );
            anyhow::ensure!(
                Instant::now() < until,
                "another platform runs in {}; end it, or choose another data_dir",
                self.root.display()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(file)
    }

    /// The CLI's socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }
    fn internal(&self) -> PathBuf {
        self.root.join("internal")
    }
    /// Internal calls of the control plane.
    pub(crate) fn control_plane_socket(&self) -> PathBuf {
        self.internal().join("control-plane.sock")
    }
    /// Identities of our services.
    pub(crate) fn identities(&self) -> PathBuf {
        self.root.join("identities")
    }
    /// The object store.
    pub(crate) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }
    /// The private Postgres.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }
    fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }
    /// The agent gateway's socket, the only one an agent may open.
    pub(crate) fn agents_socket(&self) -> PathBuf {
        self.agents().join("gateway.sock")
    }
    /// Workspaces and staged binaries of the local executor.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The envelope key: the configured file, or one made at the first start.
    pub(crate) fn key(&self, configured: Option<&Path>) -> anyhow::Result<SecretBox<Vec<u8>>> {
        let path = configured.map_or_else(|| self.root.join("key"), Path::to_path_buf);
        if configured.is_none() && !path.exists() {
            let mut key = [0_u8; 32];
            aws_lc_rs::rand::fill(&mut key)
                .map_err(|_| anyhow::anyhow!("the operating system gives no randomness"))?;
            // Whole or not at all: half a key would keep the platform from starting.
            let new = self.root.join("key.new");
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                Ok(()) | Err(_) => {}
            }
            write_private(&new, STANDARD.encode(key).as_bytes())
                .and_then(|()| fs::rename(&new, &path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let text: SecretString = fs::read_to_string(&path)
            .with_context(|| format!("key_file: cannot read {}", path.display()))?
            .into();
        let key = STANDARD.decode(text.expose_secret().trim()).ok().filter(|k| k.len() == 32);
        let key = key.with_context(|| {
            format!(
                "key_file: {} does not hold 32 bytes in base64; `openssl rand -base64 32` makes such a file",
                path.display()
            )
        })?;
        Ok(SecretBox::new(Box::new(key)))
    }
}

/// A file only its owner can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a folder; one that is there gets the mode it needs, its parents are left alone.
/// A link, or a folder of somebody else, is refused: as root we would change what it points at.
fn make(path: &Path, mode: u32) -> anyhow::Result<()> {
    let done = match fs::DirBuilder::new().recursive(false).mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Parents that do not exist belong to us from now on.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(if mode & 0o011 == 0 { 0o700 } else { 0o711 })
                .create(path)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    done.with_context(|| format!("data_dir: cannot make {}", path.display()))?;
    let found =
        fs::symlink_metadata(path).with_context(|| format!("data_dir: cannot look at {}", path.display()))?;
    anyhow::ensure!(found.is_dir(), "data_dir: {} is not a folder", path.display());
    anyhow::ensure!(
        found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0,
        "data_dir: {} belongs to another user or can be written by others; name a folder of your own",
        path.display()
    );
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("data_dir: cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_things_are_private_and_the_key_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::prepare(&folder.path().join("data")).expect("prepared");
        for path in [data.objects(), data.identities(), data.internal()] {
            assert_eq!(
                fs::metadata(&path).expect("there").permissions().mode() & 0o777,
                0o700,
                "{}",
                path.display()
            );
        }
        let first = data.key(None).expect("a key");
        let again =
            DataDir::prepare(&folder.path().join("data")).expect("prepared").key(None).expect("a key");
        assert_eq!(first.expose_secret(), again.expose_secret());
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("thesis.tex"), "precious").expect("written");
        let error = DataDir::prepare(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("has something else in it"), "{error}");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nowhere", &link).expect("a link");
        assert!(DataDir::prepare(&link).is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 2);
    }

    #[test]
    fn a_key_of_the_wrong_size_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "c2hvcnQ=").expect("written");
        let error = DataDir::at(folder.path()).key(Some(&path)).expect_err("too short").to_string();
        assert!(error.contains("does not hold 32 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_is_held_by_one_platform_and_waited_for_a_moment() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::prepare(&folder.path().join("data")).expect("prepared");
        let first = data.lock().await.expect("free");
        let refused = data.lock().await.expect_err("held").to_string();
        assert!(refused.starts_with("another platform runs in "), "{refused}");
        let (second, ()) = tokio::join!(data.lock(), async { drop(first) });
        second.expect("given up meanwhile");
    }
}
