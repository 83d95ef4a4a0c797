//! Why there is no private Postgres, in sentences for people.

use std::path::{Path, PathBuf};

/// Why the private Postgres did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's programs are not on this machine.
    #[error(
        "The PostgreSQL server programs (initdb, postgres, pg_ctl) are not installed. \
         Install them (`apt-get install postgresql`), or set database_url to a server you have."
    )]
    NotInstalled,
    /// The server's programs are there, its client is not.
    #[error("The PostgreSQL client psql is not installed. Install it (`apt-get install postgresql-client`).")]
    NoClient,
    /// The cluster was made by another major version than those installed.
    #[error(
        "The private Postgres in {} was made by PostgreSQL {needed}, but only {installed} is installed. \
         Install that version (`apt-get install postgresql-{needed}`), or move the folder away to start with an empty one.",
        directory.display()
    )]
    Version {
        /// The cluster's folder.
        directory: PathBuf,
        /// What made it.
        needed: u32,
        /// What is installed, separated by commas.
        installed: String,
    },
    /// The platform is root, and there is nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and neither `postgres` nor `nobody` is a user of this machine. \
         Start Callboard as an ordinary user, or set database_url."
    )]
    NoUser,
    /// A folder on the way keeps the server's user out.
    #[error(
        "The user `{user}`, who runs the private Postgres, may not pass through {}, which leads to {}. \
         Set data_dir to a folder it can reach, such as /var/lib/callboard.",
        folder.display(), directory.display()
    )]
    Unreachable {
        /// The folder that blocks.
        folder: PathBuf,
        /// Where the cluster was to be.
        directory: PathBuf,
        /// The user who cannot pass.
        user: String,
    },
    /// A folder that should be ours belongs to somebody else.
    #[error(
        "{} belongs to the user with id {owner}, but the private Postgres runs as `{user}`. \
         Start Callboard as the user who made the folder, or set data_dir to another one.",
        folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Who runs the server.
        user: String,
    },
    /// Unix sockets have short paths.
    #[error(
        "The path of the database's socket, {}, is {bytes} bytes long; at most {longest} are possible. \
         Set data_dir to a shorter path.",
        socket.display()
    )]
    TooLong {
        /// The socket's path.
        socket: PathBuf,
        /// Its length.
        bytes: usize,
        /// The longest there can be.
        longest: usize,
    },
    /// A name for a database that is not one here.
    #[error("`{0}` cannot name a database: use lower case letters, digits and `_`, at most 63.")]
    Name(String),
    /// One of the server's programs failed.
    #[error("{program} failed for the private Postgres in {}: {problem}", directory.display())]
    Program {
        /// The program.
        program: String,
        /// The cluster's folder.
        directory: PathBuf,
        /// Its last words, or how it ended.
        problem: String,
    },
    /// A file or folder could not be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// For `map_err`: what the system said, and about which path.
pub(crate) fn at<E: Into<std::io::Error>>(path: &Path) -> impl FnOnce(E) -> Error {
    move |source| Error::Io { path: path.to_owned(), source: source.into() }
}
