//! Reading the file: environment on top, paths relative to the file, mistakes with place
//! and suggestion.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use domain::{names::APP_SOURCE, stage::Pod, workers::label};
use secrecy::SecretString;
use serde_yaml::Value;
use url::Url;

use super::{AgentName, Config, Executor, GithubCredential, KubernetesExecutor, Repository};

/// Bytes of a configuration file.
const MAX_BYTES: u64 = 1024 * 1024;

/// Scalars that the environment may set: variable and place in the file.
const ENVIRONMENT: &[(&str, &[&str])] = &[
    ("CALLBOARD_DATABASE_URL", &["database_url"]),
    ("CALLBOARD_DATA_DIR", &["data_dir"]),
    ("CALLBOARD_PUBLIC_URL", &["public_url"]),
    ("CALLBOARD_KEY_FILE", &["key_file"]),
    ("CALLBOARD_CONTROL_PLANE", &["control_plane"]),
    ("CALLBOARD_IDENTITY_FILE", &["identity_file"]),
    ("CALLBOARD_LISTEN_API", &["listen", "api"]),
    ("CALLBOARD_LISTEN_ADMIN", &["listen", "admin"]),
    ("CALLBOARD_LISTEN_AGENTS", &["listen", "agents"]),
    ("CALLBOARD_LISTEN_INTERNAL", &["listen", "internal"]),
    ("CALLBOARD_GITHUB_API_URL", &["github", "api_url"]),
    ("CALLBOARD_GITHUB_WEB_URL", &["github", "web_url"]),
    ("CALLBOARD_GITHUB_GIT_URL", &["github", "git_url"]),
    ("CALLBOARD_GITHUB_TOKEN_FILE", &["github", "token_file"]),
    ("CALLBOARD_GITHUB_APP_ID", &["github", "app", "id"]),
    ("CALLBOARD_GITHUB_APP_PRIVATE_KEY_FILE", &["github", "app", "private_key_file"]),
    ("CALLBOARD_GITHUB_APP_WEBHOOK_SECRET_FILE", &["github", "app", "webhook_secret_file"]),
    ("CALLBOARD_GITHUB_APP_PREVIOUS_WEBHOOK_SECRET_FILE", &["github", "app", "previous_webhook_secret_file"]),
    ("CALLBOARD_OBJECTS_DIRECTORY", &["objects", "directory"]),
];

/// What is wrong with the configuration, in words.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file or a secret's file cannot be read.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// Why.
        problem: String,
    },
    /// It is not YAML, has an unknown key, or a value of the wrong kind.
    #[error("{path}: {problem}")]
    Syntax {
        /// Which file.
        path: String,
        /// The parser's words, with place and suggestion.
        problem: String,
    },
    /// Well-formed, but it says something that cannot be.
    #[error("{key}: {problem}")]
    Value {
        /// Place in the file.
        key: String,
        /// What is wrong and what to write.
        problem: String,
    },
}

fn value(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), problem: problem.into() }
}

/// Reads the file, puts the environment on top, and checks what can be checked without
/// touching anything else. `environment` looks a variable up.
///
/// # Errors
/// [`ConfigError`] with the file or the key, what is wrong, and what to write.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let shown = path.display().to_string();
    let file = |problem: String| ConfigError::File { path: shown.clone(), problem };
    let size = fs::metadata(path).map_err(|e| file(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(file(format!("{size} bytes; a configuration has at most {MAX_BYTES}")));
    }
    let text = fs::read_to_string(path).map_err(|e| file(e.to_string()))?;
    let syntax = |e: &serde_yaml::Error| ConfigError::Syntax {
        path: shown.clone(),
        problem: explain(&without_credentials(&e.to_string())),
    };
    // Once as it stands, for messages with line and column; then with the environment on top.
    let overrides: Vec<_> =
        ENVIRONMENT.iter().filter_map(|(name, place)| Some((*place, environment(name)?))).collect();
    let mut config: Config = if overrides.is_empty() {
        serde_yaml::from_str(&text).map_err(|e| syntax(&e))?
    } else {
        let mut document: Value = serde_yaml::from_str(&text).map_err(|e| syntax(&e))?;
        for (place, text) in overrides {
            put(&mut document, place, text);
        }
        serde_yaml::from_value(document).map_err(|e| syntax(&e))?
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    resolve(&mut config, folder);
    check(&config)?;
    Ok(config)
}

fn put(document: &mut Value, place: &[&str], text: String) {
    let Some((last, parents)) = place.split_last() else { return };
    let mut at = document;
    for key in parents {
        if !at.is_mapping() {
            return;
        }
        let missing = at.get(*key).is_none_or(Value::is_null);
        if missing && let Some(mapping) = at.as_mapping_mut() {
            mapping.insert(Value::from(*key), Value::Mapping(serde_yaml::Mapping::new()));
        }
        let Some(next) = at.get_mut(*key) else { return };
        at = next;
    }
    if let Some(mapping) = at.as_mapping_mut() {
        mapping.insert(Value::from(*last), Value::from(text));
    }
}

/// The message without the name and password of an address in it.
fn without_credentials(message: &str) -> String {
    let (mut shown, mut rest) = (String::new(), message);
    while let Some((before, address)) = rest.split_once("://") {
        let end = address.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        shown.push_str(before);
        shown.push_str("://");
        match address.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str("…@");
                shown.push_str(host);
            }
            None => shown.push_str(address),
        }
        rest = after;
    }
    shown + rest
}

/// Adds the nearest known key to an unknown one.
fn explain(message: &str) -> String {
    let Some(rest) = message.split("unknown field `").nth(1) else { return message.to_owned() };
    let unknown = rest.split('`').next().unwrap_or_default();
    let known = rest.split('`').skip(2).step_by(2);
    let nearest = known.map(|k| (strsim::damerau_levenshtein(unknown, k), k)).min();
    match nearest {
        Some((distance, key)) if distance <= 3.max(unknown.len() / 2) => {
            format!("{message}\n\nhint: did you mean `{key}`?")
        }
        Some(_) | None => message.to_owned(),
    }
}

/// Paths in the file are relative to the file.
fn resolve(config: &mut Config, folder: &Path) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let fix = |path: &mut PathBuf| {
        if let Ok(rest) = path.strip_prefix("~")
            && let Some(home) = std::env::var_os("HOME")
        {
            *path = Path::new(&home).join(rest);
        } else if path.is_relative() {
            *path = folder.join(&*path);
        }
    };
    fix(&mut config.data_dir);
    match &mut config.github.credential {
        GithubCredential::Token(file) => fix(file),
        GithubCredential::App(app) => {
            fix(&mut app.private_key_file);
            fix(&mut app.webhook_secret_file);
            app.previous_webhook_secret_file.iter_mut().for_each(fix);
        }
    }
    for path in [
        &mut config.key_file,
        &mut config.identity_file,
        &mut config.listen.tls_certificate_file,
        &mut config.listen.tls_key_file,
        &mut config.objects.directory,
    ] {
        path.iter_mut().for_each(fix);
    }
    for repository in config.projects.iter_mut().flat_map(|p| &mut p.repositories) {
        repository.webhook_secret_file.iter_mut().for_each(fix);
        repository.previous_webhook_secret_file.iter_mut().for_each(fix);
    }
    config.models.iter_mut().filter_map(|m| m.api_key_file.as_mut()).for_each(fix);
    if let Executor::Kubernetes(cluster) = &mut config.executor {
        cluster.kubeconfig.iter_mut().for_each(fix);
        fix(&mut cluster.gateway_ca_file);
    }
    config.agents.codex.iter_mut().for_each(|c| fix(&mut c.binary));
}

fn check(config: &Config) -> Result<(), ConfigError> {
    if config.data_dir.as_os_str().len() > 70 {
        return Err(value(
            "data_dir",
            "longer than 70 bytes; sockets below it have to stay under 108, so choose a shorter path",
        ));
    }
    for (key, url) in [
        ("github.api_url", &config.github.api_url),
        ("github.web_url", &config.github.web_url),
        ("github.git_url", &config.github.git_url),
    ] {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(value(key, format!("`{}://` is not supported; write https://…", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(value(key, "has a user name or password in it; the token goes into token_file"));
        }
    }
    if let Some(url) = &config.agents_url {
        check_agents_url(url)?;
    }
    for (key, has) in config.worker.labels.iter().flatten() {
        label(&format!("{key}={has}")).map_err(|e| value("worker.labels", e.to_string()))?;
    }
    check_projects(config)?;
    if let Executor::Kubernetes(cluster) = &config.executor {
        check_cluster(config, cluster)?;
    }
    match config.agents.default {
        AgentName::Command if config.agents.command.as_ref().is_none_or(|c| c.argv.is_empty()) => Err(value(
            "agents.command.argv",
            "is missing; write the command line of your agent, or set agents.default: codex",
        )),
        AgentName::Codex if config.agents.codex.is_none() => {
            Err(value("agents.codex.binary", "is missing; write the path of the codex binary"))
        }
        AgentName::Codex if config.models.is_empty() => {
            Err(value("models", "is empty, and codex needs a model backend"))
        }
        AgentName::Command | AgentName::Codex => {
            if config.models.len() > 1 {
                return Err(value("models", "has more than one backend; exactly one is supported"));
            }
            if config.executor.capacity() == 0 {
                return Err(value("executor", "`capacity` is 0, so nothing would ever run"));
            }
            Ok(())
        }
    }
}

/// How pods reach the agent gateway.
fn check_agents_url(url: &Url) -> Result<(), ConfigError> {
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if url.scheme() == "https" && url.has_host() && plain {
        return Ok(());
    }
    Err(value(
        "agents_url",
        "pods send their run tokens there, so it is https and nothing but name and port; write https://callboard-agents:8081",
    ))
}

/// What pods are made of where neither project nor stage says anything.
fn check_cluster(config: &Config, cluster: &KubernetesExecutor) -> Result<(), ConfigError> {
    let key = |field: &str| format!("executor.kubernetes.{field}");
    let mib = |mib: u64| Some(u32::try_from(mib).unwrap_or(u32::MAX));
    let pod = Pod {
        cpu_millis: Some(cluster.cpu_millis),
        memory_mib: mib(cluster.memory_mib),
        storage_mib: mib(cluster.storage_mib),
        image: Some(cluster.image.clone()),
        ..Pod::default()
    };
    if let Some((field, problem)) = pod.problem() {
        return Err(value(key(&field), problem));
    }
    if cluster.pending_seconds == 0 {
        return Err(value(key("pending_seconds"), "is 0, and no pod runs at once; write 600"));
    }
    if cluster.gateway_ip.is_loopback() || cluster.gateway_ip.is_unspecified() {
        let problem =
            format!("`{}` is each pod itself; write the address behind agents_url", cluster.gateway_ip);
        return Err(value(key("gateway_ip"), problem));
    }
    if config.agents_url.is_none() {
        return Err(value(
            "agents_url",
            "is missing; write how pods reach the agent gateway, such as https://callboard-agents:8081",
        ));
    }
    Ok(())
}

fn check_projects(config: &Config) -> Result<(), ConfigError> {
    let is_app = matches!(config.github.credential, GithubCredential::App(_));
    let repositories: Vec<_> = config.projects.iter().flat_map(|p| &p.repositories).collect();
    let (mut names, mut sources, mut projects) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (at, project) in config.projects.iter().enumerate() {
        if !projects.insert(project.name.as_str()) {
            return Err(value("projects", format!("`{}` is there twice", project.name)));
        }
        let of_pods = [("pods", project.pods.problem()), ("ceilings.pods", project.ceilings.pods.problem())];
        for (key, problem) in of_pods {
            if let Some((field, problem)) = problem {
                return Err(value(format!("projects[{at}].{key}.{field}"), problem));
            }
        }
    }
    for repository in &repositories {
        if !names.insert(repository.name.key()) {
            return Err(value("projects[].repositories", format!("{} is there twice", repository.name)));
        }
        check_hook(repository, is_app, repositories.len())?;
        if let Some(source) = &repository.source
            && !sources.insert(source)
        {
            return Err(value(
                "projects[].repositories[].source",
                format!("`{source}` is there twice; each repository needs its own webhook address"),
            ));
        }
    }
    Ok(())
}

/// A repository's own webhook, which it needs unless there is an App's.
fn check_hook(repository: &Repository, is_app: bool, repositories: usize) -> Result<(), ConfigError> {
    let name = &repository.name;
    let source = |problem: String| value("projects[].repositories[].source", problem);
    if repository.webhook_secret_file.is_none() {
        if !is_app {
            return Err(value(
                "projects[].repositories[].webhook_secret_file",
                format!("{name} has none; only with github.app its deliveries need no webhook of its own"),
            ));
        }
        if repository.source.is_some() || repository.previous_webhook_secret_file.is_some() {
            return Err(value(
                "projects[].repositories[].webhook_secret_file",
                format!(
                    "{name} has none, and a source or a previous secret; leave those out, or give its own webhook a secret"
                ),
            ));
        }
        return Ok(());
    }
    let Some(text) = &repository.source else {
        if is_app {
            return Err(source(format!(
                "{name} has none; beside the App's webhook its own needs an address, of which this is the last part"
            )));
        }
        if repositories > 1 {
            return Err(source(format!(
                "{name} has none; with more than one repository each needs its own, the last part of its webhook address"
            )));
        }
        return Ok(());
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > 60 || !text.bytes().all(plain) {
        return Err(source(format!("`{text}`: use letters, digits, - _ . , at most 60")));
    }
    if text == APP_SOURCE {
        return Err(source(format!("`{text}` stands for the App's webhook; choose another name")));
    }
    Ok(())
}

/// Reads a secret's file; the line end that editors add is not part of it.
///
/// # Errors
/// [`ConfigError`] naming the key and the file, never the content.
pub fn read_secret(key: &str, path: &Path) -> Result<SecretString, ConfigError> {
    let text = fs::read_to_string(path).map_err(|e| value(key, format!("{}: {e}", path.display())))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(value(key, format!("{} is empty", path.display())));
    }
    Ok(secret.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "github: { token_file: token }\nagents: { default: command, command: { argv: [./agent.sh] } }\n";

    fn with(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("callboard.yaml");
        fs::write(&path, text).expect("written");
        load(&path, environment)
            .map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "FOLDER"))
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let said =
            without_credentials("invalid: \"https://me:pass/word@host/v1\", not https://example.com or a@b");
        assert_eq!(said, "invalid: \"https://…@host/v1\", not https://example.com or a@b");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let none = |_: &str| None;
        let error = |text: &str| with(text, &none).expect_err("a mistake");
        insta::assert_snapshot!(error(&format!("{GOOD}listn: {{ api: 127.0.0.1:1 }}\n")));
        insta::assert_snapshot!(error(&format!("{GOOD}projects: [ {{ name: Demo, repositories: [] }} ]\n")));
        insta::assert_snapshot!(error(
            "github: { token_file: token, git_url: 'file:///srv' }\nagents: { default: command, command: { argv: [x] } }\n"
        ));
        insta::assert_snapshot!(error("github: { token_file: token }\nagents: { default: codex }\n"));
        let twice = "projects: [ { name: demo, repositories: [ { name: a/b, webhook_secret_file: s }, { name: a/c, webhook_secret_file: s } ] } ]\n";
        insta::assert_snapshot!(error(&format!("{GOOD}{twice}")));
        insta::assert_snapshot!(error(&format!("{GOOD}retention: {{ transcripts: 30 }}\n")));
        let url = |url: &str| format!("{GOOD}agents_url: {url}\n");
        assert!(with(&url("https://callboard-agents:8081"), &none).is_ok());
        for wrong in ["http://127.0.0.1:8081", "https://me@callboard-agents", "https://callboard-agents/path"]
        {
            assert!(error(&url(wrong)).starts_with("agents_url: pods send their run tokens"), "{wrong}");
        }
    }

    #[test]
    fn the_platform_is_an_app_or_has_a_token() {
        let agents = "agents: { default: command, command: { argv: [./agent.sh] } }\n";
        let app = "app: { id: 7, private_key_file: key, webhook_secret_file: secret }";
        let none = |_: &str| None;
        let config = with(&format!("github: {{ {app} }}\n{agents}"), &none).expect("valid");
        let GithubCredential::App(found) = config.github.credential else { panic!("an App") };
        assert_eq!(found.id, "7");
        assert!(found.private_key_file.is_absolute() && found.webhook_secret_file.is_absolute());
        // In the environment it is text, as a client id is in the file.
        let id = |name: &str| (name == "CALLBOARD_GITHUB_APP_ID").then(|| "Iv23abc".to_owned());
        let config = with(&format!("github: {{ {app} }}\n{agents}"), &id).expect("valid");
        assert!(matches!(config.github.credential, GithubCredential::App(app) if app.id == "Iv23abc"));

        let error = |github: &str, repositories: &str| {
            let projects = format!("projects: [ {{ name: demo, repositories: [ {repositories} ] }} ]\n");
            with(&format!("github: {{ {github} }}\n{agents}{projects}"), &none).expect_err("a mistake")
        };
        let mistakes = [
            error(&format!("{app}, token_file: token"), "{ name: a/b }"),
            error("list_lag_seconds: 1", "{ name: a/b }"),
            error("token_file: token", "{ name: a/b }"),
            error(app, "{ name: a/b, source: b }"),
            error(app, "{ name: a/b, webhook_secret_file: s }"),
            error(app, "{ name: a/b, source: app, webhook_secret_file: s }"),
        ];
        insta::assert_snapshot!(mistakes.join("\n"));
    }

    #[test]
    fn pods_are_what_kubernetes_takes_and_no_larger_than_the_operators() {
        let none = |_: &str| None;
        let project = |keys: &str| {
            let executor = "executor: { local: { memory_mib: 2048 } }\n";
            with(&format!("{GOOD}{executor}projects: [ {{ name: demo, {keys} }} ]\n"), &none)
        };
        let mistakes = [
            "pods: { cpus: 2 }",
            "pods: { cpu_millis: 2 }",
            "pods: { node_selector: { a b: c } }",
            "pods: { tolerations: [ { key: spot, effect: Schedule } ] }",
            "ceilings: { pods: { image: [a] } }",
            "ceilings: { pods: { images: ['ghcr.io/[acme'] } }",
            "ceilings: { pods: { max_memory_mib: 1 } }",
            "ceilings: { pods: { node_selector: { disk: ['a b'] } } }",
        ];
        insta::assert_snapshot!(mistakes.map(|keys| project(keys).expect_err(keys)).join("\n"));

        let sizes = |keys: &str| {
            let config = project(keys).expect("valid");
            let pods = config.projects[0].ceilings_with(&config.executor).pods;
            [pods.max_cpu_millis, pods.max_memory_mib, pods.max_storage_mib].map(Option::unwrap_or_default)
        };
        assert_eq!(sizes("bots: []"), [1000, 2048, 8192], "the executor's");
        assert_eq!(sizes("pods: { cpu_millis: 4000, memory_mib: 512 }"), [4000, 512, 8192], "the project's");
        let own = "pods: { memory_mib: 512 }, ceilings: { pods: { max_memory_mib: 1024 } }";
        assert_eq!(sizes(own), [1000, 1024, 8192], "as it is written");
    }

    #[test]
    fn a_cluster_is_asked_for_pods_that_can_be() {
        let cluster = |url: &str, keys: &str| {
            let given = "gateway_ip: 10.0.0.7, gateway_ca_file: ca.pem";
            with(&format!("{GOOD}{url}executor: {{ kubernetes: {{ {given}, {keys} }} }}\n"), &|_| None)
        };
        let url = "agents_url: https://callboard-agents:8081\n";
        assert!(cluster(url, "image: 'registry.example.com/agents:1'").is_ok());
        for (keys, field) in [
            ("image: 'not an image'", "image"),
            ("image: a, memory_mib: 0", "memory_mib"),
            ("image: a, cpu_millis: 0", "cpu_millis"),
            ("image: a, storage_mib: 0", "storage_mib"),
            ("image: a, pending_seconds: 0", "pending_seconds"),
        ] {
            let error = cluster(url, keys).expect_err(keys);
            assert!(error.starts_with(&format!("executor.kubernetes.{field}: ")), "{error}");
        }
        let error = cluster("", "image: a").expect_err("no address");
        assert!(error.starts_with("agents_url: is missing"), "{error}");
        for ip in ["127.0.0.1", "'::'", "'::1'"] {
            let executor = format!(
                "executor: {{ kubernetes: {{ image: a, gateway_ca_file: ca.pem, gateway_ip: {ip} }} }}\n"
            );
            let error = with(&format!("{GOOD}{url}{executor}"), &|_| None).expect_err(ip);
            assert!(error.starts_with("executor.kubernetes.gateway_ip: "), "{error}");
        }
    }

    #[test]
    fn the_environment_wins_and_paths_are_relative_to_the_file() {
        let config =
            with(GOOD, &|name| (name == "CALLBOARD_LISTEN_API").then(|| "127.0.0.1:9999".to_owned()))
                .expect("valid");
        assert_eq!(config.listen.api.port(), 9999);
        let GithubCredential::Token(file) = config.github.credential else { panic!("a token") };
        assert!(file.is_absolute() && file.ends_with("token"));
    }
}
