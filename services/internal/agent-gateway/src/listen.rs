//! The Unix socket attempts come in by.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::Path,
};

use tokio::net::UnixListener;

/// Binds the socket and lets only its owner, or also one group, open it. A socket nobody
/// listens on any more is replaced; anything else at that path is left alone.
///
/// The socket is made in a folder nobody else can enter and moved to its path when its mode is
/// set, so that there is no moment in which others could open it.
pub(crate) fn bind_unix(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something at this path that is no socket",
            ));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process listens there; stop it first",
            ));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Short names: the whole path of a socket has 107 bytes.
    let private = tempfile::Builder::new()
        .prefix(".")
        .rand_bytes(6)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(folder)?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made)?;
    if group.is_some() {
        chown(&made, None, group)?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
    fs::rename(&made, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn replaces_a_stale_socket_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        let first = bind_unix(&path, None).expect("bound");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path, None).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        // Nothing of the making is left.
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        let group = fs::metadata(folder.path()).expect("there").gid();
        drop(bind_unix(&path, Some(group)).expect("bound again"));
        let found = fs::metadata(&path).expect("there");
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, group));

        let file = folder.path().join("file");
        fs::write(&file, "kept").expect("written");
        assert!(bind_unix(&file, None).is_err());
        assert_eq!(fs::read_to_string(&file).expect("there"), "kept");
    }
}
