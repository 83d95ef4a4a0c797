//! Ways out over the network, and what the gateway lets through.

use std::{
    env, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use super::{Finding, Outcome};

const PATIENCE: Duration = Duration::from_secs(2);

/// Services the machine may have on its loopback.
const USUAL_PORTS: [u16; 8] = [22, 25, 631, 3000, 5432, 8080, 8081, 8083];

pub(super) fn host_ports(more: &[u16]) -> Vec<Finding> {
    let mut ports: Vec<u16> = USUAL_PORTS.iter().chain(more).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    ports
        .into_iter()
        .map(|port| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            Finding::of(format!("connect {address}"), connect(address), |_| "connected".into())
        })
        .collect()
}

/// A connection that gives up reading and writing as it does connecting.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects to each.
pub(super) fn addresses(addresses: &[SocketAddr]) -> Vec<Finding> {
    let look = |address: &SocketAddr| {
        Finding::of(format!("connect {address}"), connect(*address), |_| "connected".into())
    };
    addresses.iter().map(look).collect()
}

/// Addresses for documentation (TEST-NET, RFC 5737) stand for the internet.
pub(super) fn internet() -> Vec<Finding> {
    let far = SocketAddr::from(([192, 0, 2, 1], 80));
    let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
    let resolver = SocketAddr::from(([192, 0, 2, 53], 53));
    let ask = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"\0\0\x01\0", resolver));
    let resolve = |name: &str| {
        let found = (name, 443).to_socket_addrs().map(Iterator::count);
        Finding::of(format!("resolve {name}"), found, |count| format!("{count} addresses"))
    };
    vec![
        Finding::of(format!("connect {far}"), connect(far), |_| "connected".into()),
        Finding::of(format!("connect {metadata}"), connect(metadata), |_| "connected".into()),
        Finding::of(format!("send to {resolver}"), ask, |bytes| format!("{bytes} bytes sent")),
        resolve("example.com"),
        resolve("kubernetes.default.svc"),
    ]
}

/// What the run token opens beyond what it is for.
pub(super) fn gateway() -> Vec<Finding> {
    let Ok(gateway) = env::var("CALLBOARD_GATEWAY") else {
        return vec![Finding::new("find the gateway", Outcome::Refused, "CALLBOARD_GATEWAY is not set")];
    };
    let token = env::var("OPENAI_API_KEY").unwrap_or_default();
    let ask = |method: &str, path: &str, token: Option<&str>| {
        let whose = if token.is_some() { "with the run token" } else { "without a token" };
        let attempt = format!("gateway {method} {path} {whose}");
        match request(&gateway, method, path, token) {
            Ok(Answer { status, grpc: None | Some(0) }) if (200..300).contains(&status) => {
                Finding::new(attempt, Outcome::Reached, format!("status {status}"))
            }
            Ok(Answer { status, grpc }) => {
                let grpc = grpc.map(|grpc| format!(", grpc-status {grpc}")).unwrap_or_default();
                Finding::new(attempt, Outcome::Refused, format!("status {status}{grpc}"))
            }
            Err(error) => Finding::new(attempt, Outcome::Refused, error.to_string()),
        }
    };
    let mut findings: Vec<_> = [
        "/git/other/repo.git/info/refs?service=git-upload-pack",
        "/git/other/repo.git/info/refs?service=git-receive-pack",
        "/git/octocat/../other/repo.git/info/refs?service=git-upload-pack",
        "/admin",
        "/metrics",
        "/healthz",
        "/api/v1/me",
        "/api/v1/runs",
        "/callboard.v1.AttemptService/Authorize",
        "/callboard.v1.WorkerService/Lease",
        "/callboard.admin.v1.AdminService/ListRuns",
    ]
    .map(|path| ask("GET", path, Some(&token)))
    .into();
    for path in ["/git/other/repo.git/info/refs?service=git-upload-pack", "/model/openai/v1/models"] {
        findings.push(ask("GET", path, None));
    }
    findings.push(ask("POST", "/git/other/repo.git/git-receive-pack", Some(&token)));
    findings.push(ask("CONNECT", "example.com:443", Some(&token)));
    findings
}

/// What a server says at the beginning of an answer.
pub(super) struct Answer {
    pub(super) status: u16,
    /// gRPC says no in a header of an answer whose status is 200.
    grpc: Option<u16>,
}

/// What a server is asked.
pub(super) struct Asked<'a> {
    pub(super) host: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
}

fn request(gateway: &str, method: &str, path: &str, token: Option<&str>) -> io::Result<Answer> {
    let host = gateway.trim_start_matches("http://");
    let address = host.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    ask(&mut connect(address)?, &Asked { host, method, path, token })
}

/// Sends a bare HTTP/1.1 request and reads the answer's head.
pub(super) fn ask(stream: &mut (impl Read + Write), asked: &Asked<'_>) -> io::Result<Answer> {
    let Asked { host, method, path, token } = *asked;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") && head.len() < 16 * 1024 {
        match stream.read(&mut piece)? {
            0 => break,
            count => head.extend_from_slice(&piece[..count]),
        }
    }
    answer(&String::from_utf8_lossy(&head)).ok_or_else(|| io::Error::other("no HTTP answer"))
}

fn answer(head: &str) -> Option<Answer> {
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let grpc = head.lines().find_map(|line| line.strip_prefix("grpc-status:")?.trim().parse().ok());
    Some(Answer { status, grpc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_head_of_an_answer() {
        let plain = answer("HTTP/1.1 404 Not Found\r\n\r\n").expect("an answer");
        assert_eq!((plain.status, plain.grpc), (404, None));
        let refused = answer("HTTP/1.1 200 OK\r\ngrpc-status: 12\r\n\r\n").expect("an answer");
        assert_eq!((refused.status, refused.grpc), (200, Some(12)));
        assert!(answer("SSH-2.0").is_none());
    }
}
