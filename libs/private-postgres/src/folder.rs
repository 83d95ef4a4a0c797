//! The cluster's folder: where it may be, and that nobody else gets in.

use std::{
    fs::{self, DirBuilder, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{
    account::Account,
    error::{Error, at},
};

const ONLY_OWNER: u32 = 0o700;
/// `sun_path` has 108 bytes, and the last one is a zero.
const LONGEST_SOCKET: usize = 107;

/// Where `directory` really is, once it is certain that the server can live there.
/// Changes nothing.
pub(crate) fn resolve(directory: &Path, account: &Account) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(directory).map_err(at(directory))?;
    let resolved = match fs::canonicalize(&absolute) {
        Ok(there) => there,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                return Err(at(&absolute)(error));
            };
            fs::canonicalize(parent).map_err(at(parent))?.join(name)
        }
        Err(error) => return Err(at(&absolute)(error)),
    };
    let socket = resolved.join(crate::SOCKETS).join(format!(".s.PGSQL.{}", crate::PORT));
    let bytes = socket.as_os_str().as_bytes().len();
    if bytes > LONGEST_SOCKET {
        return Err(Error::TooLong { socket, bytes, longest: LONGEST_SOCKET });
    }
    // As ourselves we would not have come this far.
    if account.dropped {
        for folder in resolved.ancestors().skip(1) {
            if !passes(&fs::metadata(folder).map_err(at(folder))?, account) {
                let (folder, user) = (folder.to_owned(), account.name.clone());
                return Err(Error::Unreachable { folder, directory: resolved, user });
            }
        }
    }
    Ok(resolved)
}

fn passes(folder: &fs::Metadata, account: &Account) -> bool {
    let execute = match folder {
        f if f.uid() == account.uid => 0o100,
        f if f.gid() == account.gid => 0o010,
        _ => 0o001,
    };
    folder.mode() & execute != 0
}

/// Makes `folder` where it is missing, and sees to it that it is the account's and closed to
/// everybody else. Returns it open.
///
/// Works on the open folder and never through a link: when we are root, what is inside belongs
/// to a user who must not be able to turn us against another folder.
pub(crate) fn own(folder: &Path, account: &Account) -> Result<File, Error> {
    match DirBuilder::new().mode(ONLY_OWNER).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at(folder)(error)),
    }
    let opened = open(folder)?;
    let found = opened.metadata().map_err(at(folder))?;
    if found.uid() != account.uid {
        // An empty one of root's is our own, from just now or from an installer.
        let empty = fs::read_dir(folder).map_err(at(folder))?.next().is_none();
        if !(account.dropped && found.uid() == 0 && empty) {
            return Err(foreign(folder, found.uid(), account));
        }
        std::os::unix::fs::fchown(&opened, Some(account.uid), Some(account.gid)).map_err(at(folder))?;
    }
    if found.mode() & 0o7777 != ONLY_OWNER {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(ONLY_OWNER)).map_err(at(folder))?;
    }
    Ok(opened)
}

fn open(folder: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).map(File::from).map_err(at(folder))
}

fn foreign(folder: &Path, owner: u32, account: &Account) -> Error {
    Error::Foreign { folder: folder.to_owned(), owner, user: account.name.clone() }
}
