//! The sandbox: bubblewrap with everything unshared.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Bind, HostUser, Refused};

/// Where the agent runner is in the sandbox.
pub(crate) const RUNNER: &str = "/run/callboard/agent-runner";
/// The folder of the agent gateway's socket in the sandbox.
const GATEWAY: &str = "/run/callboard/gateway";
/// Where the run token is in the sandbox.
pub(crate) const TOKEN: &str = "/run/callboard/token";
/// The workspace in the sandbox.
pub(crate) const WORK: &str = "/work";

/// `/tmp` lives in memory; without a limit from the stage it may take this much.
const DEFAULT_TMP_BYTES: u64 = 1 << 30;
const SHM_BYTES: u64 = 64 << 20;
const SANDBOX_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A bubblewrap that was seen to work, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bubblewrap {
    program: PathBuf,
    /// "bubblewrap 0.8.0"
    pub(crate) version: String,
    /// `--disable-userns`: no further user namespaces inside (0.8 and later).
    disable_userns: bool,
    /// `--size`: a bound for files in memory (0.8 and later).
    size: bool,
}

/// What one attempt sees beside `/usr` and `/etc`.
pub(crate) struct Inside<'a> {
    pub(crate) etc: &'a Path,
    pub(crate) workspace: &'a Path,
    pub(crate) token: &'a Path,
    pub(crate) runner: &'a Path,
    pub(crate) gateway: &'a Path,
    pub(crate) mounts: &'a [Bind],
    /// 0 for no limit from the stage.
    pub(crate) memory_bytes: u64,
}

impl Bubblewrap {
    /// Starts an empty sandbox as `user`, to see whether it works here. Blocks.
    pub(crate) fn probe(user: HostUser, etc: &Path) -> Result<Self, Refused> {
        Self::try_program(subprocess::find(&["bwrap"]), user, etc)
    }

    fn try_program(program: Option<PathBuf>, user: HostUser, etc: &Path) -> Result<Self, Refused> {
        let instead = "or set `executor.local.sandbox: none` to run agents with nothing but a process group around them";
        let program = program.ok_or_else(|| {
            Refused::new(
                "There is no sandbox: `bwrap` is not installed.",
                format!("Install bubblewrap (`apt-get install bubblewrap`), {instead}."),
            )
        })?;
        let ask = |argument| {
            let output = subprocess::command(&program, Path::new("/")).arg(argument).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let options = ask("--help");
        let bubblewrap = Self {
            version: ask("--version").trim().to_owned(),
            disable_userns: options.contains("--disable-userns"),
            size: options.contains("--size"),
            program,
        };
        let mut command = bubblewrap.command(user, Some(etc).filter(|etc| etc.is_dir()), 0);
        // What a sandbox needs, it must have now: the same arguments as for an attempt.
        command
            .args(["--remount-ro", "/", "--", "/usr/bin/true"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let found = match command.output() {
            Ok(output) if output.status.success() => return Ok(bubblewrap),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                text.lines().next().map_or_else(|| output.status.to_string(), str::to_owned)
            }
            Err(error) => error.to_string(),
        };
        Err(Refused::new(
            format!("There is no sandbox: bubblewrap does not start as host uid {}: {found}.", user.uid),
            format!("{}, {instead}.", remedy()),
        ))
    }

    /// The command line that runs the agent runner for one attempt, without its arguments.
    pub(crate) fn attempt(&self, user: HostUser, inside: &Inside<'_>) -> Command {
        let mut command = self.command(user, Some(inside.etc), inside.memory_bytes);
        let mut bind = |how: &str, host: &Path, path: &Path| {
            command.arg(how).arg(host).arg(path);
        };
        bind("--bind", inside.workspace, Path::new(WORK));
        bind("--ro-bind", inside.runner, Path::new(RUNNER));
        match own_folder(inside.gateway) {
            Some(folder) => bind("--ro-bind", folder, Path::new(GATEWAY)),
            None => bind("--ro-bind", inside.gateway, &gateway_inside(inside.gateway)),
        }
        bind("--ro-bind", inside.token, Path::new(TOKEN));
        for mount in inside.mounts {
            bind("--ro-bind", &mount.host, &mount.inside);
        }
        // The process id of the sandbox's first process comes back over standard input, the
        // one descriptor that can be handed over without a moment at which others inherit it.
        command.args(["--remount-ro", "/", "--chdir", WORK, "--info-fd", "0", "--", RUNNER]);
        command
    }

    fn command(&self, user: HostUser, etc: Option<&Path>, memory_bytes: u64) -> Command {
        let mut command = subprocess::command(&self.program, Path::new("/"));
        user.apply(&mut command);
        command.process_group(0);
        // `--unshare-all` alone goes on without a user namespace where there is none.
        command.args(["--unshare-all", "--unshare-user"]);
        if self.disable_userns {
            command.arg("--disable-userns");
        }
        command.args(["--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]);
        command.args(["--hostname", "callboard", "--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
            if Path::new("/usr").join(name).exists() {
                command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
            }
        }
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        let mut memory = |bytes: u64, path: &str| {
            if self.size {
                command.args(["--size", &bytes.to_string()]);
            }
            command.args(["--tmpfs", path]);
        };
        memory(SHM_BYTES, "/dev/shm");
        memory(if memory_bytes == 0 { DEFAULT_TMP_BYTES } else { memory_bytes }, "/tmp");
        command.args(["--remount-ro", "/dev"]);
        if let Some(etc) = etc {
            command.arg("--ro-bind").arg(etc).arg("/etc");
        }
        for (name, value) in
            [("PATH", SANDBOX_PATH), ("HOME", "/work/home"), ("LANG", "C.UTF-8"), ("TMPDIR", "/tmp")]
        {
            command.args(["--setenv", name, value]);
        }
        command
    }
}

/// Where a socket of the host is in the sandbox.
pub(crate) fn gateway_inside(socket: &Path) -> PathBuf {
    Path::new(GATEWAY).join(socket.file_name().unwrap_or_default())
}

/// The socket's folder, when it holds nothing else. Mounted as a folder, it shows the socket
/// of a gateway that was restarted; a socket mounted alone is gone with its gateway.
fn own_folder(socket: &Path) -> Option<&Path> {
    let folder = socket.parent()?;
    let alone = fs::read_dir(folder)
        .ok()?
        .all(|entry| entry.is_ok_and(|entry| Some(entry.file_name().as_os_str()) == socket.file_name()));
    alone.then_some(folder)
}

/// What this kernel would have to allow.
fn remedy() -> String {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let set = |name: &str, value: &str| format!("Allow user namespaces (`sysctl -w {name}={value}`)");
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        set("kernel.unprivileged_userns_clone", "1")
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        set("user.max_user_namespaces", "15000")
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "Allow bubblewrap user namespaces with an AppArmor profile (or `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`)".to_owned()
    } else {
        "Allow user namespaces for unprivileged users (kernel.unprivileged_userns_clone; in a container also its seccomp profile)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_working_sandbox_the_sentence_says_what_to_do() {
        let etc = Path::new("/nonexistent");
        let missing =
            Bubblewrap::try_program(None, crate::local::users::Claim::one().expect("a user").user, etc)
                .expect_err("nothing to start");
        assert!(
            missing
                .to_string()
                .starts_with("There is no sandbox: `bwrap` is not installed. Install bubblewrap")
        );
        assert!(missing.to_string().contains("sandbox: none"));
        let program = subprocess::find(&["false"]);
        let broken =
            Bubblewrap::try_program(program, crate::local::users::Claim::one().expect("a user").user, etc)
                .expect_err("it exits 1");
        assert!(broken.what.contains("bubblewrap does not start as host uid"), "{broken}");
        assert!(
            broken.next_step.contains("user namespaces") && broken.next_step.contains("sandbox: none"),
            "{broken}"
        );
    }

    #[test]
    fn a_folder_that_holds_more_than_the_socket_is_not_mounted() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("gateway.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        assert_eq!(own_folder(&socket), Some(folder.path()));
        fs::write(folder.path().join("secret"), "s").expect("written");
        assert_eq!(own_folder(&socket), None);
        assert_eq!(gateway_inside(&socket), Path::new("/run/callboard/gateway/gateway.sock"));
    }

    #[test]
    fn the_command_line_mounts_no_more_than_is_needed() {
        let bubblewrap = Bubblewrap {
            program: "/usr/bin/bwrap".into(),
            version: String::new(),
            disable_userns: true,
            size: true,
        };
        let user = HostUser { uid: 64200, gid: 64200, dropped: false };
        let mounts = [Bind { host: "/srv/agent".into(), inside: "/opt/agent".into() }];
        let command = bubblewrap.attempt(
            user,
            &Inside {
                etc: Path::new("/state/etc"),
                workspace: Path::new("/state/work/1/workspace"),
                token: Path::new("/state/work/1/token"),
                runner: Path::new("/state/bin/agent-runner"),
                gateway: Path::new("/state/agents.sock"),
                mounts: &mounts,
                memory_bytes: 0,
            },
        );
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let sources: Vec<_> = arguments
            .iter()
            .zip(arguments.iter().skip(1))
            .filter(|(option, _)| option.ends_with("bind"))
            .map(|(_, source)| source.as_ref())
            .collect();
        assert_eq!(
            sources,
            [
                "/usr",
                "/state/etc",
                "/state/work/1/workspace",
                "/state/bin/agent-runner",
                "/state/agents.sock",
                "/state/work/1/token",
                "/srv/agent"
            ]
        );
        for option in ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"]
        {
            assert!(arguments.iter().any(|argument| argument == option), "{option} is missing");
        }
        assert!(command.get_envs().all(|(name, _)| name == "PATH" || name == "LANG"));
    }
}
