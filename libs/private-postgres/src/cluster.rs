//! The cluster: made, started, asked, stopped, always by the server's own programs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

use crate::{
    CALLBOARD, PORT, SOCKETS, Settings,
    account::Account,
    binaries::{self, Installation},
    error::{Error, at},
    folder,
};

/// The data, complete: it gets this name only after initdb has ended well.
const DATA: &str = "data";
/// The data while initdb is at work; left behind by one that was interrupted.
const UNFINISHED: &str = "data.new";
const LOG: &str = "server.log";
/// How long a start or a stop may take, in seconds. Recovering after a crash takes its time on a
/// busy disk; one that failed is known sooner.
const PATIENCE: &str = "180";
const PATIENCE_SECONDS: Duration = Duration::from_secs(180);

/// A cluster on disk, and who runs it with what.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: PathBuf,
    account: Account,
    installation: Installation,
    psql: PathBuf,
}

impl Cluster {
    /// The cluster in the settings' folder, made where it is missing, running.
    pub(crate) fn start(settings: &Settings) -> Result<Self, Error> {
        let account = Account::of_cluster()?;
        let directory = folder::resolve(&settings.directory, &account)?;
        let opened = folder::own(&directory, &account)?;
        // Two starts at once would make the same cluster; the lock goes when `opened` is closed.
        rustix::fs::flock(&opened, FlockOperation::LockExclusive).map_err(at(&directory))?;
        let data = directory.join(DATA);
        let installation = binaries::choose(&directory, made_by(&data)?)?;
        let psql = installation.bin.join("psql");
        let psql =
            if psql.is_file() { Some(psql) } else { subprocess::find(&["psql"]) }.ok_or(Error::NoClient)?;

        let cluster = Self { directory, account, installation, psql };
        folder::own(&cluster.directory.join(SOCKETS), &cluster.account)?;
        if !data.exists() {
            cluster.initialise(&opened, settings.durable)?;
        }
        folder::own(&data, &cluster.account)?;
        cluster.run(settings.durable)?;
        if let Err(error) = cluster.ensure_database(CALLBOARD) {
            // Nobody will hold this server; the reason to report is the first one.
            let _ = cluster.stop();
            return Err(error);
        }
        Ok(cluster)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn initialise(&self, opened: &File, durable: bool) -> Result<(), Error> {
        let unfinished = self.directory.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&unfinished)(error)),
            Ok(()) | Err(_) => {}
        }
        let mut initdb = self.program("initdb");
        initdb.args(["-D", UNFINISHED, "-A", "trust", "-U", CALLBOARD, "-E", "UTF8", "--locale=C.UTF-8"]);
        if !durable {
            initdb.arg("--no-sync");
        }
        self.successful("initdb", &mut initdb)?;
        let data = self.directory.join(DATA);
        fs::rename(&unfinished, &data).map_err(at(&data))?;
        if durable {
            opened.sync_all().map_err(at(&self.directory))?;
        }
        Ok(())
    }

    /// Starts the server, or waits until the one that runs already answers.
    fn run(&self, durable: bool) -> Result<(), Error> {
        let began = Instant::now();
        while self.is_running()? {
            // It may be recovering, or on its way out.
            match self.ask("select 1") {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > PATIENCE_SECONDS => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        // pg_ctl hands this to a shell: fixed words only, and paths relative to the data. A platform
        // takes up to 23 connections, and stories of several platforms share a server.
        let mut options = format!(
            "-c listen_addresses= -c port={PORT} -c unix_socket_directories=../{SOCKETS} \
             -c unix_socket_permissions=0700 -c max_connections=300 -c shared_buffers=32MB"
        );
        if !durable {
            options.push_str(" -c fsync=off -c synchronous_commit=off -c full_page_writes=off");
        }
        let mut start = self.program("pg_ctl");
        start.args(["start", "-D", DATA, "-w", "-t", PATIENCE, "-s", "-l", LOG, "-o", &options]);
        self.successful("pg_ctl start", &mut start).map(drop).map_err(|mut error| {
            if let Error::Program { directory, problem, .. } = &mut error {
                problem.push_str(&format!(" (its log: {})", directory.join(LOG).display()));
            }
            error
        })
    }

    fn is_running(&self) -> Result<bool, Error> {
        let mut status = self.program("pg_ctl");
        let output = self.output("pg_ctl status", status.args(["status", "-D", DATA]))?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(3) => Ok(false),
            _ => Err(self.failed("pg_ctl status", &output)),
        }
    }

    pub(crate) fn stop(&self) -> Result<(), Error> {
        let mut stop = self.program("pg_ctl");
        stop.args(["stop", "-D", DATA, "-m", "fast", "-w", "-t", PATIENCE, "-s"]);
        match self.successful("pg_ctl stop", &mut stop) {
            // It had ended by itself: what was wanted.
            Err(_) if matches!(self.is_running(), Ok(false)) => Ok(()),
            stopped => stopped.map(drop),
        }
    }

    fn ensure_database(&self, name: &str) -> Result<(), Error> {
        plain(name)?;
        if self.ask(&format!("select 1 from pg_database where datname = '{name}'"))?.is_empty() {
            self.create_database(name, None)?;
        }
        Ok(())
    }

    pub(crate) fn create_database(&self, name: &str, template: Option<&str>) -> Result<(), Error> {
        let template = template.map(|t| plain(t).map(|t| format!(" template \"{t}\""))).transpose()?;
        self.ask(&format!("create database \"{}\"{}", plain(name)?, template.unwrap_or_default())).map(drop)
    }

    /// What the server answers to one statement, as text.
    fn ask(&self, statement: &str) -> Result<String, Error> {
        let mut psql = subprocess::command(&self.psql, &self.directory);
        self.account.runs(&mut psql);
        psql.env("PGHOST", self.directory.join(SOCKETS))
            .env("PGPORT", PORT.to_string())
            .env("PGCONNECT_TIMEOUT", "5");
        psql.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            CALLBOARD,
            "-d",
            "postgres",
            "-c",
        ]);
        let output = self.successful("psql", psql.arg(statement))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A program of the server, in the cluster's folder and as its user.
    fn program(&self, name: &str) -> Command {
        let mut command = subprocess::command(self.installation.bin.join(name), &self.directory);
        self.account.runs(&mut command);
        command
    }

    fn successful(&self, program: &str, command: &mut Command) -> Result<Output, Error> {
        let output = self.output(program, command)?;
        if output.status.success() { Ok(output) } else { Err(self.failed(program, &output)) }
    }

    fn output(&self, program: &str, command: &mut Command) -> Result<Output, Error> {
        command.output().map_err(|error| Error::Program {
            program: program.to_owned(),
            directory: self.directory.clone(),
            problem: error.to_string(),
        })
    }

    fn failed(&self, program: &str, output: &Output) -> Error {
        let words =
            [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        let problem = words.into_iter().find(|w| !w.is_empty()).unwrap_or_else(|| output.status.to_string());
        Error::Program { program: program.to_owned(), directory: self.directory.clone(), problem }
    }
}

/// The major version that made the data, or nothing when there are none.
fn made_by(data: &Path) -> Result<Option<u32>, Error> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(version) => {
            version.trim().parse().map(Some).map_err(|_| at(&path)(std::io::ErrorKind::InvalidData))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !data.exists() => Ok(None),
        Err(error) => Err(at(&path)(error)),
    }
}

/// `name` as it may stand in a statement.
fn plain(name: &str) -> Result<&str, Error> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(known) {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(name)
}
