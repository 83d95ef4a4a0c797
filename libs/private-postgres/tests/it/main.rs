//! The private Postgres as the platform and its tests use it, with the real server programs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use private_postgres::{Error, PrivatePostgres, Settings, find_binaries, start};
use tempfile::TempDir;

/// A folder the server's user can pass through.
fn reachable() -> TempDir {
    let folder = tempfile::Builder::new().prefix("cbpg").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    folder
}

fn settings(folder: &Path) -> Settings {
    Settings { directory: folder.join("postgres"), durable: false }
}

fn timed(what: &str, settings: &Settings) -> PrivatePostgres {
    let began = Instant::now();
    let server = start(settings).unwrap();
    println!("{what}: {} ms", began.elapsed().as_millis());
    server
}

/// What a client that knows only the URL is answered.
fn ask(server: &PrivatePostgres, database: &str, statement: &str) -> Result<String, String> {
    let psql = find_binaries().unwrap().join("psql");
    let url = server.url(database);
    let mut command = subprocess::command(psql, Path::new("/tmp"));
    let output = command.args(["-X", "-A", "-t", "-q", "-w", "-d", &url, "-c", statement]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn server_pid(settings: &Settings) -> String {
    let file = fs::read_to_string(settings.directory.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

fn is_gone(settings: &Settings) -> bool {
    !settings.directory.join("data/postmaster.pid").exists()
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn what_was_written_survives_a_restart() {
    let folder = reachable();
    let settings = Settings { durable: true, ..settings(folder.path()) };
    let server = timed("first start, durable", &settings);
    ask(&server, "callboard", "create table kept (n int); insert into kept values (42)").unwrap();
    assert_eq!(ask(&server, "callboard", "show fsync").unwrap(), "on");
    server.stop().unwrap();
    assert!(is_gone(&settings));

    let server = timed("restart", &settings);
    assert_eq!(ask(&server, "callboard", "select n from kept").unwrap(), "42");
    drop(server);
    assert!(is_gone(&settings), "dropping it stops it");
}

#[test]
fn a_server_left_running_is_taken_over() {
    let folder = reachable();
    let settings = settings(folder.path());
    let left = timed("first start", &settings);
    let pid = server_pid(&settings);
    ask(&left, "callboard", "create table kept (n int)").unwrap();
    // What a killed platform leaves: the server, and nobody to stop it.
    std::mem::forget(left);

    let server = timed("taken over", &settings);
    assert_eq!(server_pid(&settings), pid);
    assert_eq!(ask(&server, "callboard", "select count(*) from kept").unwrap(), "0");
    server.stop().unwrap();
    assert!(is_gone(&settings));
}

#[test]
fn a_killed_server_starts_again() {
    let folder = reachable();
    let settings = Settings { durable: true, ..settings(folder.path()) };
    let server = start(&settings).unwrap();
    ask(&server, "callboard", "create table kept (n int); insert into kept values (7)").unwrap();
    let mut immediate = subprocess::command("kill", folder.path());
    assert!(immediate.args(["-QUIT", &server_pid(&settings)]).status().unwrap().success());

    // The start meets it on its way out, or its pid file.
    let again = timed("after a crash", &settings);
    assert_eq!(ask(&again, "callboard", "select n from kept").unwrap(), "7");
    again.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn starts_at_the_same_time_share_one_server() {
    let folder = reachable();
    let settings = settings(folder.path());
    let servers: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..3).map(|_| scope.spawn(|| start(&settings).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for server in &servers {
        assert_eq!(ask(server, "callboard", "select 1").unwrap(), "1");
    }
    for server in servers {
        server.stop().unwrap();
    }
}

#[test]
fn an_interrupted_initialisation_is_done_again() {
    let folder = reachable();
    let settings = settings(folder.path());
    start(&settings).unwrap().stop().unwrap();
    let unfinished = settings.directory.join("data.new");
    fs::rename(settings.directory.join("data"), &unfinished).unwrap();
    fs::remove_file(unfinished.join("global/pg_control")).unwrap();

    let server = start(&settings).unwrap();
    assert_eq!(ask(&server, "callboard", "select 1").unwrap(), "1");
    assert!(!unfinished.exists());
}

#[test]
fn only_its_own_user_gets_to_the_socket() {
    let folder = reachable();
    let settings = settings(folder.path());
    start(&settings).unwrap().stop().unwrap();
    // Whatever happened to the modes meanwhile is put right; outside of the folder nothing is.
    for inside in ["", "sock", "data"] {
        fs::set_permissions(settings.directory.join(inside), Permissions::from_mode(0o755)).unwrap();
    }
    let server = start(&settings).unwrap();

    let us = rustix::process::geteuid().as_raw();
    let mut owners = Vec::new();
    for inside in ["", "sock", "data"] {
        let found = fs::metadata(settings.directory.join(inside)).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o700, "{inside}");
        owners.push(found.uid());
    }
    let socket = fs::symlink_metadata(settings.directory.join("sock/.s.PGSQL.5432")).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o700);
    owners.push(socket.uid());
    owners.dedup();
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert_eq!(owners[0] == us, !root(), "root hands it to a user without rights");
    assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(ask(&server, "callboard", "show listen_addresses").unwrap(), "");
}

#[test]
fn databases_are_copied_from_a_template() {
    let folder = reachable();
    let server = start(&settings(folder.path())).unwrap();
    server.create_database("story_template", None).unwrap();
    ask(&server, "story_template", "create table t (n int); insert into t values (1)").unwrap();
    server.create_database("story_1", Some("story_template")).unwrap();
    assert_eq!(ask(&server, "story_1", "select n from t").unwrap(), "1");

    let taken = server.create_database("story_1", None).unwrap_err().to_string();
    assert!(taken.contains("already exists"), "{taken}");
    for name in ["", "A", "a-b", "a\"; drop database callboard", &"a".repeat(64)] {
        assert!(matches!(server.create_database(name, None), Err(Error::Name(_))), "{name}");
        assert!(matches!(server.create_database("fine", Some(name)), Err(Error::Name(_))), "{name}");
    }
}

#[test]
fn a_path_with_odd_characters_works() {
    let folder = reachable();
    let odd = folder.path().join("a b'$(x)\"&;ü%");
    fs::create_dir(&odd).unwrap();
    fs::set_permissions(&odd, Permissions::from_mode(0o711)).unwrap();
    let server = start(&settings(&odd)).unwrap();
    assert_eq!(ask(&server, "callboard", "select 1").unwrap(), "1");
    server.stop().unwrap();
}

#[test]
fn a_folder_that_blocks_is_named() {
    if !root() {
        println!("not run: needs root, who drops to another user");
        return;
    }
    let folder = reachable();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let error = start(&settings(&inner)).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { folder: blocking, .. } if blocking == folder.path()),
        "{error:?}"
    );
    let sentence = error.to_string();
    assert!(
        sentence.contains("may not pass through /tmp/cbpg") && sentence.contains("Set data_dir"),
        "{sentence}"
    );
    assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, 0o700);
    assert!(!inner.join("postgres").exists());
}

#[test]
fn a_path_that_is_too_long_is_refused() {
    let folder = reachable();
    let parent: PathBuf = folder.path().join("x".repeat(90));
    fs::create_dir(&parent).unwrap();
    let error = start(&settings(&parent)).unwrap_err();
    assert!(matches!(error, Error::TooLong { longest: 107, .. }), "{error:?}");
    assert!(!parent.join("postgres").exists());
}

#[test]
fn a_cluster_of_another_version_is_left_alone() {
    let folder = reachable();
    let settings = settings(folder.path());
    start(&settings).unwrap().stop().unwrap();
    let version = settings.directory.join("data/PG_VERSION");
    fs::write(&version, "9\n").unwrap();
    let sentence = start(&settings).unwrap_err().to_string();
    assert!(sentence.contains("was made by PostgreSQL 9"), "{sentence}");
    assert_eq!(fs::read_to_string(version).unwrap(), "9\n");
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    if !root() {
        println!("not run: needs root, who could take any folder");
        return;
    }
    let folder = reachable();
    let settings = settings(folder.path());
    fs::create_dir(&settings.directory).unwrap();
    fs::write(settings.directory.join("letter"), "mine").unwrap();
    let before = fs::metadata(&settings.directory).unwrap();
    assert!(matches!(start(&settings), Err(Error::Foreign { owner: 0, .. })));
    let after = fs::metadata(&settings.directory).unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));

    // A link is not followed to somebody else's folder either.
    fs::remove_dir_all(&settings.directory).unwrap();
    start(&settings).unwrap().stop().unwrap();
    fs::remove_dir_all(settings.directory.join("sock")).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, settings.directory.join("sock")).unwrap();
    assert!(matches!(start(&settings), Err(Error::Io { .. })));
    assert_eq!(fs::metadata(&elsewhere).unwrap().uid(), 0);
}
