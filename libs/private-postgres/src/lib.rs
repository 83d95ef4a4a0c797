//! A Postgres of our own: a cluster in a folder, on a Unix socket only, for the platform on one
//! machine and for tests.
//!
//! Only the platform's user and the user who runs the server can reach it: the server trusts
//! whoever opens the socket, and the folder around the socket is closed to everybody else.

mod account;
mod binaries;
mod cluster;
mod error;
mod folder;

use std::{os::unix::ffi::OsStrExt, path::PathBuf};

pub use binaries::find_binaries;
pub use error::Error;

use cluster::Cluster;

/// The folder of the socket, inside the cluster's.
const SOCKETS: &str = "sock";
/// Part of the socket's name; no network port is ever opened.
const PORT: u16 = 5432;
/// The role that owns everything, and the first database.
const CALLBOARD: &str = "callboard";

/// Where the private Postgres lives and how much it cares.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's folder, ours alone; made where it is missing, its parent has to exist.
    /// When the platform is root the user `postgres` (else `nobody`) becomes its owner.
    pub directory: PathBuf,
    /// Whether what is committed survives a power cut. False is for tests.
    pub durable: bool,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct PrivatePostgres {
    cluster: Cluster,
    running: bool,
}

/// Starts the private Postgres, or takes over the one that a killed platform left running there.
/// Makes the cluster and its database `callboard` where they are missing. Blocks: about a
/// second the first time, 30 seconds at most for a server that has to recover.
///
/// Two platforms must not use one folder at the same time: the first to end stops the server.
///
/// # Errors
/// [`Error`], whose sentences are for people.
pub fn start(settings: &Settings) -> Result<PrivatePostgres, Error> {
    Ok(PrivatePostgres { cluster: Cluster::start(settings)?, running: true })
}

impl PrivatePostgres {
    /// The address of `database`, for clients on this machine. Holds no secret.
    pub fn url(&self, database: &str) -> String {
        let sockets = self.cluster.directory().join(SOCKETS);
        let (database, host) =
            (percent_encoded(database.as_bytes()), percent_encoded(sockets.as_os_str().as_bytes()));
        format!("postgres://{CALLBOARD}@localhost/{database}?host={host}")
    }

    /// Makes a database, empty or as a copy of `template`, to which nobody may be connected.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that is not of lower case letters, digits and `_`;
    /// [`Error::Program`] when the server refuses, such as for a name that is taken.
    pub fn create_database(&self, name: &str, template: Option<&str>) -> Result<(), Error> {
        self.cluster.create_database(name, template)
    }

    /// Stops the server: open transactions are rolled back, and it is gone when this returns.
    ///
    /// # Errors
    /// [`Error::Program`] when it does not end within 30 seconds.
    pub fn stop(mut self) -> Result<(), Error> {
        self.running = false;
        self.cluster.stop()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if self.running {
            // Nobody is left to be told; the next start takes over what still runs.
            let _ = self.cluster.stop();
        }
    }
}

/// For a path in a URL's query: letters, digits and `-._~/` stay.
fn percent_encoded(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn what_a_url_gives_a_meaning_to_is_encoded() {
        assert_eq!(percent_encoded("/a b/ü?&=%+#".as_bytes()), "/a%20b/%C3%BC%3F%26%3D%25%2B%23");
        assert_eq!(percent_encoded(b"/var/lib/call-board_1.2~"), "/var/lib/call-board_1.2~");
    }
}
