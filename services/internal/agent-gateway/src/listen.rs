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
    let listener = UnixListener::bind(path)?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
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
