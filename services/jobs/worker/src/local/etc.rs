//! The sandbox's `/etc`: the few files a command line needs, all made by us.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use super::HostUser;

/// Writes the folder anew. World-readable: there is nothing of the machine in it but where
/// its shared libraries are and which of several programs a name like `cc` means.
pub(crate) fn write(folder: &Path, users: &[HostUser]) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    make_folder(folder)?;
    let mut passwd = String::from("root:x:0:0::/:/usr/sbin/nologin\n");
    let mut group = String::from("root:x:0:\n");
    let mut known: Vec<u32> = Vec::new();
    for user in users.iter().filter(|user| user.uid != 0) {
        if !known.contains(&user.uid) {
            let name = if known.is_empty() { "agent".to_owned() } else { format!("agent{}", known.len()) };
            passwd.push_str(&format!("{name}:x:{}:{}::/work/home:/bin/sh\n", user.uid, user.gid));
            known.push(user.uid);
        }
    }
    if let Some(user) = users.iter().find(|user| user.gid != 0) {
        group.push_str(&format!("agent:x:{}:\n", user.gid));
    }
    put(&folder.join("passwd"), passwd.as_bytes())?;
    put(&folder.join("group"), group.as_bytes())?;
    put(&folder.join("hosts"), b"127.0.0.1 localhost callboard\n")?;
    put(&folder.join("hostname"), b"callboard\n")?;
    put(&folder.join("resolv.conf"), b"")?;
    put(&folder.join("nsswitch.conf"), b"passwd: files\ngroup: files\nhosts: files\n")?;
    if let Ok(cache) = fs::read("/etc/ld.so.cache") {
        put(&folder.join("ld.so.cache"), &cache)?;
    }
    alternatives(&folder.join("alternatives"))
}

/// Debian's `/usr/bin/cc`, `awk` and others are links into this folder.
fn alternatives(folder: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir("/etc/alternatives") else { return Ok(()) };
    make_folder(folder)?;
    for entry in entries.flatten() {
        if let Ok(target) = fs::read_link(entry.path())
            && target.starts_with("/usr")
        {
            symlink(target, folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_name_and_the_folder_can_be_written_again() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("etc");
        let user = |uid| HostUser { uid, gid: 64200, dropped: true };
        write(&folder, &[user(64200), user(64201)]).expect("written");
        write(&folder, &[user(64200), user(64201)]).expect("written again");
        let passwd = fs::read_to_string(folder.join("passwd")).expect("there");
        assert!(
            passwd.contains("agent:x:64200:64200:") && passwd.contains("agent1:x:64201:64200:"),
            "{passwd}"
        );
        assert!(fs::read(folder.join("resolv.conf")).expect("there").is_empty());
    }
}
