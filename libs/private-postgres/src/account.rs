//! The user who runs the server: we ourselves, or an unprivileged one when we are root.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use crate::error::{Error, at};

const PASSWD: &str = "/etc/passwd";

/// Who runs the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether we are root and have to become this user first.
    pub(crate) dropped: bool,
}

impl Account {
    /// Ourselves, or `postgres`, else `nobody`, when we are root: initdb refuses root.
    pub(crate) fn of_cluster() -> Result<Self, Error> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        if uid != 0 {
            return Ok(Self { name: format!("uid {uid}"), uid, gid, dropped: false });
        }
        let passwd = fs::read_to_string(PASSWD).map_err(at(Path::new(PASSWD)))?;
        ["postgres", "nobody"].iter().find_map(|name| in_passwd(&passwd, name)).ok_or(Error::NoUser)
    }

    /// Makes `command` run as this user. Becoming it leaves root's groups behind as well.
    pub(crate) fn runs(&self, command: &mut Command) {
        if self.dropped {
            command.uid(self.uid).gid(self.gid);
        }
    }
}

fn in_passwd(passwd: &str, name: &str) -> Option<Account> {
    let fields =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&name))?;
    let id = |at: usize| fields.get(at)?.parse::<u32>().ok().filter(|id| *id != 0);
    Some(Account { name: name.to_owned(), uid: id(2)?, gid: id(3)?, dropped: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_without_roots_rights_is_taken() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres:x:101:104:admin:/var/lib:/bin/sh\nnobody:x:0:65534::/:/bin/false\n";
        let account = in_passwd(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid, account.dropped), (101, 104, true));
        assert_eq!(in_passwd(passwd, "nobody"), None);
        assert_eq!(in_passwd(passwd, "post"), None);
    }
}
