//! The runner in a pod, played by bubblewrap: the first process, a user nobody knows, a root
//! that cannot be written to, and the gateway behind TLS.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use proto::v1::{return_outcome::Status, transcript_line::Stream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Child,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use crate::{files, gateway::Gateway};

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway's certificate for `localhost`.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = self.listener.accept().await.expect("a connection");
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves the gateway over TLS too. Gives back its port, and the authority of its certificate.
async fn over_tls(gateway: &Gateway) -> (u16, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).expect("signed").pem();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|server| server.signed_by(&key, &Issuer::from_params(&authority, &authority_key)))
        .expect("signed");
    let chain = CertificateDer::pem_slice_iter(certificate.pem().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("usable");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let tls = Tls { listener, acceptor: Arc::new(config).into() };
    tokio::spawn(axum::serve(tls, gateway.router.clone()).into_future());
    (port, authority_pem)
}

/// A runner at work in a pod.
struct Pod {
    child: Child,
}

impl Pod {
    /// Starts one for a gateway at this port of `localhost`, as a user nobody else has: the
    /// kernel counts what a user has running.
    fn start(gateway: &Gateway, port: u16, authority: &str, user: u32) -> Self {
        let folder = gateway.folder.path().join("pod");
        let work = folder.join("work");
        fs::create_dir_all(&work).expect("made");
        let runner = folder.join("agent-runner");
        // By another process: what is open for writing here, a child that is just being started has
        // open too, and the kernel runs no such file.
        let mut copy = subprocess::command("cp", &folder);
        let copied = copy.arg(env!("CARGO_BIN_EXE_agent-runner")).arg(&runner).status();
        assert!(copied.expect("cp").success());
        let (token, ca) = (gateway.token_file(&folder), folder.join("ca.pem"));
        fs::write(&ca, authority).expect("written");
        let mut arguments: Vec<String> = Vec::new();
        if geteuid().is_root() {
            // Users of bubblewrap are not the kernel's: it would count root's processes, to no limit.
            for path in [gateway.folder.path(), &work] {
                chown(path, Some(user), Some(user)).expect("given away");
            }
            let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
            arguments.extend(["setpriv".into(), user, group, "--clear-groups".into(), "bwrap".into()]);
        } else {
            let user = user.to_string();
            let mapped = ["bwrap", "--unshare-user", "--uid", &user, "--gid", &user];
            arguments.extend(mapped.map(str::to_owned));
        }
        let shown = |path: &Path| path.display().to_string();
        let (runner, token, ca, work) = (shown(&runner), shown(&token), shown(&ca), shown(&work));
        let gateway = format!("https://localhost:{port}");
        let pod = ["--die-with-parent", "--unshare-pid", "--as-pid-1", "--ro-bind", "/", "/"];
        let places = ["--dev", "/dev", "--proc", "/proc", "--bind", &work, &work];
        let told = ["--gateway", &gateway, "--gateway-ca", &ca, "--token-file", &token, "--workspace", &work];
        arguments.extend(
            pod.iter().chain(&places).chain([&*runner].iter()).chain(&told).map(|word| (*word).to_owned()),
        );
        if !geteuid().is_root() {
            arguments.push("--no-process-limit".into());
        }
        let mut command = subprocess::command(&arguments[0], Path::new("/"));
        command.args(&arguments[1..]).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("started");
        Self { child }
    }

    /// The runner's number here, when it runs.
    fn runner(&self) -> Option<Pid> {
        let bubblewrap = self.child.id()?;
        fs::read_dir("/proc").expect("/proc").flatten().find_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (pid, rest) = stat.split_once(" (")?;
            let mut fields = rest.rsplit_once(") ")?.1.split(' ');
            let parent: u32 = fields.nth(1)?.parse().ok()?;
            (parent == bubblewrap).then(|| Pid::from_raw(pid.parse().ok()?)).flatten()
        })
    }

    /// Says that it is to end, as the kubelet does, until it has.
    async fn delete(mut self) -> (Option<i32>, String) {
        let deleted = async {
            loop {
                if let Some(runner) = self.runner() {
                    // Gone already is as good.
                    let _ = kill_process(runner, Signal::TERM);
                }
                if let Ok(ended) = tokio::time::timeout(Duration::from_millis(50), self.child.wait()).await {
                    return ended.expect("waited for").code();
                }
            }
        };
        let code = tokio::time::timeout(PATIENCE, deleted).await.expect("it ends");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("piped");
        tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut said).await.expect("text");
        (code, said)
    }

    /// Waits for its end.
    async fn ended(self) -> String {
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.expect("it ends");
        String::from_utf8_lossy(&output.expect("waited for").stderr).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_pod_it_works_and_looks_after_what_others_leave() {
    let gateway = Gateway::with_agent(
        r#"
        cat > prompt.txt
        { id -u; echo $USER; cat /proc/1/comm; touch /outside /tmp/outside 2> /dev/null || echo refused; } > facts
        sh -c 'sleep 0 &'
        tries=0
        while grep -qs "^State:.Z" /proc/[0-9]*/status && [ $tries -lt 500 ]; do
            tries=$((tries + 1)); sleep 0.01
        done
        [ $tries -lt 500 ] && echo "nothing dead is left" >> facts
        "#,
        |_| {},
    )
    .await;
    let (port, authority) = over_tls(&gateway).await;
    let said = Pod::start(&gateway, port, &authority, 31_001).ended().await;
    assert_eq!(said, "agent-runner: returned: thank you\n");
    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::Done, "{}", received.outcome.message);
    let facts = received.files.iter().find(|file| file.path == b"facts").expect("facts");
    let facts = String::from_utf8_lossy(&facts.content).into_owned();
    assert_eq!(facts, "31001\nagent\nagent-runner\nrefused\nnothing dead is left\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_deleted_leaves_a_checkpoint() {
    let script = "echo half > half.txt; echo ready; exec sleep 86400";
    let gateway = Gateway::with_agent(script, |assignment| assignment.checkpoint_seconds = 3600).await;
    let (port, authority) = over_tls(&gateway).await;
    let pod = Pod::start(&gateway, port, &authority, 31_002);
    let ready = async {
        while gateway.lines(Stream::Stdout).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it works");
    let (code, said) = pod.delete().await;
    assert_eq!((code, said.as_str()), (Some(1), "agent-runner: told to end before there was a result\n"));
    let taken = gateway.checkpoints();
    let names: Vec<_> =
        files(taken.last().expect("a checkpoint")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["half.txt"]);
    assert!(gateway.returned_nothing());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_deleted_at_once_when_nothing_has_begun() {
    let gateway = Gateway::with_agent("true", |_| {}).await;
    let (_, authority) = over_tls(&gateway).await;
    // Bound, but nobody accepts.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    let (code, said) = Pod::start(&gateway, port, &authority, 31_003).delete().await;
    assert_eq!((code, said.as_str()), (Some(1), "agent-runner: told to end before there was a result\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_ends_with_its_agent_and_takes_nobody_with_it() {
    if !geteuid().is_root() {
        eprintln!(
            "not proven here: only root can give the pod a user of its own, whose processes are counted"
        );
        return;
    }
    let gateway = Gateway::with_agent(
        r#"
        cat > prompt.txt
        trap 'exit 0' EXIT
        setsid sh -c 'bomb() { bomb | bomb & }; while :; do bomb; done' 2> /dev/null &
        # Until there is no room for another.
        while :; do sleep 86400 2> /dev/null & done 2> /dev/null
        "#,
        |assignment| assignment.max_processes = 100,
    )
    .await;
    let (port, authority) = over_tls(&gateway).await;
    let said = Pod::start(&gateway, port, &authority, 31_004).ended().await;
    assert_eq!(said, "agent-runner: returned: thank you\n");
    let received = gateway.received();
    assert_eq!(received.outcome.status(), Status::Done, "{}", received.outcome.message);
    let names: Vec<_> = received.files.iter().map(|file| file.path.as_slice()).collect();
    assert_eq!(names, [b"prompt.txt"], "git could be run afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_not_the_one_that_was_meant_hears_nothing() {
    let gateway = Gateway::with_agent("true", |_| {}).await;
    let (port, authority) = over_tls(&gateway).await;
    let (_, another) = over_tls(&gateway).await;
    let written = |name: &str, text: &str| -> PathBuf {
        let path = gateway.folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let right = written("ca.pem", &authority).display().to_string();
    let wrong = written("another.pem", &another).display().to_string();
    for (host, ca, why) in [
        ("localhost", &wrong, "not the agent gateway that was meant: invalid peer certificate"),
        ("127.0.0.1", &right, "not the agent gateway that was meant: invalid peer certificate"),
        (
            "localhost",
            &gateway.token_file(gateway.folder.path()).display().to_string(),
            "holds no certificate",
        ),
    ] {
        let output =
            gateway.run_at(&["--gateway", &format!("https://{host}:{port}"), "--gateway-ca", ca]).await;
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
        fs::remove_dir_all(gateway.folder.path().join("work")).expect("removed");
    }
    assert_eq!(gateway.greeted(), 0);
}
