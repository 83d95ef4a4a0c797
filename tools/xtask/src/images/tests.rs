//! Each image against the text of its Dockerfile, read here by other means than the builder's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

use super::*;

/// An image, read back from its archive.
struct Found {
    config: Value,
    /// Mode, owner and kind of everything, by path.
    entries: BTreeMap<String, (u32, (u64, u64), EntryType)>,
    /// Times of the entries.
    times: BTreeSet<u64>,
    texts: BTreeMap<&'static str, String>,
}

const TEXTS: [&str; 4] =
    ["var/lib/dpkg/status", "etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt"];

#[test]
fn images_are_what_their_dockerfiles_say() {
    let Some(packages) = std::env::var_os("CALLBOARD_TEST_DEBIAN").map(PathBuf::from) else {
        eprintln!("not run: CALLBOARD_TEST_DEBIAN is not set; `cargo xtask test` sets it");
        return;
    };
    let debian = Debian::open(&packages).expect("apt works");
    let root = root();
    let out = tempfile::tempdir().expect("a folder");
    // What cargo and npm make is theirs; where it is put is ours.
    let program = fs::canonicalize("/bin/true").expect("there");
    let make = |image: Image, file: &str| {
        let recipe = Recipe::of(image, &root).expect("a recipe");
        let packages = debian.fetch(&recipe.packages).expect("fetched");
        let programs = vec![program.clone(); recipe.programs.len()];
        let name = format!("{}:test", image.repository());
        assemble(&name, &recipe, &packages, &programs, &out.path().join(file)).expect("made")
    };
    for image in Image::ALL {
        let made = make(image, "image.tar");
        compare(image, &read(&made));
        if image == Image::Callboard {
            let again = make(image, "again.tar");
            assert_eq!(made.digest, again.digest);
            assert_eq!(sha256_of(&made.file), sha256_of(&again.file), "twice the same bytes");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn compare(image: Image, found: &Found) {
    let name = image.name();
    let text = dockerfile_text(image);
    let last = text.rsplit("\nFROM ").next().expect("a stage");
    // An image on another of ours: what it does not say is the other's.
    let base = last.starts_with("${AGENT}").then(|| dockerfile_text(Image::Agent));
    let base = base.as_deref().and_then(|text| text.rsplit("\nFROM ").next()).unwrap_or_default();
    let both = format!("{base}\n{last}");
    let said = |keyword: &str| both.lines().filter_map(|line| line.strip_prefix(keyword)).next_back();

    let config = &found.config["config"];
    assert_eq!(config["User"].as_str(), said("USER "), "{name}");
    assert_eq!(config["User"], "65532:65532", "{name}");
    assert_eq!(config["WorkingDir"].as_str(), said("WORKDIR "), "{name}");
    let entrypoint: Value = serde_json::from_str(said("ENTRYPOINT ").expect("said")).expect("a list");
    assert_eq!(config["Entrypoint"], entrypoint, "{name}");
    assert_eq!(config["Cmd"], Value::Null, "{name}: an entry point of its own drops the base's command");
    let env: BTreeSet<_> = both.lines().filter_map(|line| line.strip_prefix("ENV ")).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env: Vec<_> = env.into_iter().chain([path]).collect();
    assert_eq!(config["Env"], Value::from(env), "{name}");
    let ports: BTreeSet<_> = said("EXPOSE ").unwrap_or_default().split_whitespace().collect();
    let exposed: BTreeSet<_> =
        config["ExposedPorts"].as_object().into_iter().flatten().map(|p| p.0).collect();
    assert_eq!(exposed, ports.iter().map(|port| format!("{port}/tcp")).collect::<Vec<_>>().iter().collect());

    let labels: BTreeMap<_, _> = both
        .split("org.opencontainers.image.")
        .skip(1)
        .map(|rest| rest.split_once("=\"").expect("a value"))
        .map(|(key, rest)| (format!("org.opencontainers.image.{key}"), rest.split('"').next().unwrap_or("")))
        .collect();
    assert_eq!(labels.len(), 5, "{name}: title, description, source, licenses, version");
    assert_eq!(config["Labels"], serde_json::json!(labels), "{name}");

    compare_packages(name, &both, &found.texts["var/lib/dpkg/status"]);
    compare_files(name, &both, found);
}

/// Debian says of each package what it needs: with the packages of the `apt-get install` line
/// there, nothing that one of those needs may be missing.
fn compare_packages(name: &str, stages: &str, status: &str) {
    let field = |field: &'static str| {
        status.lines().filter_map(move |line| line.strip_prefix(field)?.strip_prefix(": "))
    };
    let there: BTreeSet<_> = field("Package").collect();
    let rest = stages.split("apt-get install --yes --no-install-recommends ").nth(1).expect("a line");
    let asked = rest.split('\\').next().expect("its end");
    for package in asked.split_whitespace().chain(["apt", "bash", "coreutils", "dpkg", "libc6"]) {
        assert!(there.contains(package), "{name} has no {package}: {there:?}");
    }
    let provided: BTreeSet<_> = field("Provides").flat_map(alternatives).flatten().collect();
    for needs in field("Depends").chain(field("Pre-Depends")).flat_map(alternatives) {
        let met = needs.iter().any(|need| there.contains(need) || provided.contains(need));
        assert!(met, "{name}: nothing there is one of {needs:?}");
    }
    assert!(!there.contains("git") || asked.contains("git"), "{name}: nobody asked for git");
    assert_eq!(there.len(), status.matches("Status: install ok installed").count(), "{name}");
}

/// `a (>= 1) | b, c` as names.
fn alternatives(line: &str) -> Vec<Vec<&str>> {
    line.split(", ").map(|all| all.split('|').map(|one| name(one.trim())).collect()).collect()
}

fn name(relation: &str) -> &str {
    relation.split([' ', ':']).next().unwrap_or_default()
}

fn compare_files(name: &str, stages: &str, found: &Found) {
    for copy in stages.lines().filter_map(|line| line.strip_prefix("COPY --from=")) {
        let [_, mode, _, target] = copy.split(' ').collect::<Vec<_>>()[..] else { panic!("{copy}") };
        let mode = u32::from_str_radix(mode.strip_prefix("--chmod=").expect("a mode"), 8).expect("octal");
        let at = found.entries.get(target.trim_start_matches('/'));
        assert_eq!(at, Some(&(mode, (0, 0), EntryType::Regular)), "{name}: {target}");
    }
    let user = (65532, 65532);
    let owned: Vec<_> = found.entries.iter().filter(|(_, entry)| entry.1 == user).collect();
    let [(folder, entry)] = owned[..] else { panic!("{name}: one folder is the user's: {owned:?}") };
    assert!(stages.contains(&format!("--mode=0700 /{folder} ")), "{name}: {folder}");
    assert_eq!((entry.0, entry.2), (0o700, EntryType::Directory), "{name}: {folder}");
    let line = format!(":x:65532:65532::/{folder}:");
    assert!(found.texts["etc/passwd"].lines().last().is_some_and(|last| last.contains(&line)), "{name}");
    assert!(found.texts["etc/group"].contains(":x:65532:"), "{name}");

    let programs = found.entries.iter().filter(|(_, (mode, _, kind))| kind.is_file() && mode & 0o6000 != 0);
    assert_eq!(programs.count(), 0, "{name}: no program runs with another's rights");
    assert_eq!(found.times.len(), 1, "{name}: one time for all");
    for link in ["bin", "sbin", "lib", "lib64", "usr/bin/sh", "usr/bin/awk"] {
        assert!(found.entries[link].2.is_symlink(), "{name}: {link}");
    }
    assert!(found.texts["etc/ssl/certs/ca-certificates.crt"].matches("BEGIN CERTIFICATE").count() > 100);
    let left_out = ["usr/share/man/", "usr/share/locale/", "var/lib/apt/lists/", "var/cache/", "var/log/"];
    let left = found.entries.keys().find(|path| left_out.iter().any(|folder| path.starts_with(folder)));
    assert_eq!(left, None, "{name}");
    // Every file is in a folder that came before; a tar without it would be unpacked with any rights.
    for path in found.entries.keys() {
        let parent = Path::new(path).parent().and_then(Path::to_str).unwrap_or_default();
        assert!(parent.is_empty() || found.entries.contains_key(parent), "{name}: {parent} of {path}");
    }
}

#[test]
fn dockerfiles_name_the_versions_that_are_tested() {
    for image in Image::ALL {
        let text = dockerfile_text(image);
        for from in text.lines().filter_map(|line| line.strip_prefix("FROM ")) {
            assert!(from.contains("@sha256:") || from == "${AGENT}", "{}: {from}", image.name());
        }
        let version = format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&version) || text.contains("FROM ${AGENT}"), "{}", image.name());
    }
    assert!(dockerfile_text(Image::AgentCodex).contains(&tools::codex_package()));
}

fn dockerfile_text(image: Image) -> String {
    fs::read_to_string(image.dockerfile(&root())).expect("readable")
}

/// Reads an archive as a container engine does: from the index to the layer, by digest.
fn read(made: &Made) -> Found {
    let mut blobs = BTreeMap::new();
    let mut file = File::open(&made.file).expect("there");
    let mut layers = BTreeMap::new();
    for entry in Archive::new(&file).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        layers.insert(path.clone(), (entry.raw_file_position(), entry.size()));
        if entry.size() < 1 << 20 {
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            blobs.insert(path, text);
        }
    }
    let json = |path: &str| serde_json::from_str::<Value>(&blobs[path]).expect("JSON");
    let blob = |digest: &Value| digest.as_str().expect("a digest").replace("sha256:", "blobs/sha256/");
    let described = &json("index.json")["manifests"][0];
    assert_eq!(described["digest"], made.digest);
    assert_eq!(
        described["annotations"]["io.containerd.image.name"],
        format!("docker.io/library/{}", made.name)
    );
    let manifest = json(&blob(&described["digest"]));
    let config = json(&blob(&manifest["config"]["digest"]));
    let layer = &manifest["layers"][0];
    assert_eq!(layer["digest"], config["rootfs"]["diff_ids"][0]);
    let docker = &json("manifest.json")[0];
    assert_eq!(docker["RepoTags"][0], made.name);
    assert_eq!(docker["Layers"][0], blob(&layer["digest"]));

    let (position, size) = layers[&blob(&layer["digest"])];
    assert_eq!(layer["size"], size);
    file.seek(SeekFrom::Start(position)).expect("there");
    let mut found =
        Found { config, entries: BTreeMap::new(), times: BTreeSet::new(), texts: BTreeMap::new() };
    for entry in Archive::new(file.take(size)).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string().trim_end_matches('/').to_owned();
        let header = entry.header();
        let owner = (header.uid().expect("a number"), header.gid().expect("a number"));
        let access = (header.mode().expect("a mode"), owner, header.entry_type());
        found.times.insert(header.mtime().expect("a time"));
        assert!(found.entries.insert(path.clone(), access).is_none(), "{path} twice");
        if let Some(name) = TEXTS.into_iter().find(|name| *name == path) {
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            found.texts.insert(name, text);
        }
    }
    found
}

fn sha256_of(file: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(file).expect("readable")))
}
