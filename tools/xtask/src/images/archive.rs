//! An image as one file: an OCI archive that older versions of Docker read, too.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use super::{layer::Written, recipe::Config};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image of one layer; `name` is `NAME:TAG`. Returns the digest of its manifest.
///
/// # Errors
/// When `out` cannot be written.
pub(super) fn write(
    out: &Path,
    name: &str,
    config: &Config,
    layer: (&Path, &Written),
    time: u64,
) -> Result<String> {
    let (_, tag) = name.split_once(':').context("an image's name has a tag")?;
    let created = DateTime::from_timestamp(time.try_into()?, 0).context("no such time")?;
    let created = created.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (file, Written { digest, size }) = layer;
    let image = json!({
        "architecture": architecture()?,
        "os": "linux",
        "created": created,
        "config": container(config),
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [{ "created": created, "created_by": "cargo xtask images" }],
    })
    .to_string();
    let layer = json!({ "mediaType": LAYER, "digest": format!("sha256:{digest}"), "size": size });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, &image),
        "layers": [layer],
    })
    .to_string();
    let mut described_manifest = described(MANIFEST, &manifest);
    described_manifest["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{name}"),
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [described_manifest] });
    let docker = json!([{ "Config": blob(&sha256(&image)), "RepoTags": [name], "Layers": [blob(digest)] }]);

    // Whole or not at all.
    let partial = out.with_extension("partial");
    let into = File::create(&partial).with_context(|| format!("{} cannot be made", partial.display()))?;
    let mut tar = Builder::new(BufWriter::new(into));
    let mut add = |path: &str, size: u64, content: &mut dyn Read| {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(time);
        header.set_size(size);
        tar.append_data(&mut header, path, content)
    };
    let texts = [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string()),
        ("index.json", index.to_string()),
        ("manifest.json", docker.to_string()),
    ];
    let blobs = [&image, &manifest].map(|text| (blob(&sha256(text)), text.as_str()));
    for (path, text) in texts.iter().map(|(path, text)| (*path, text.as_str())) {
        add(path, text.len() as u64, &mut text.as_bytes())?;
    }
    for (path, text) in &blobs {
        add(path, text.len() as u64, &mut text.as_bytes())?;
    }
    add(&blob(digest), *size, &mut File::open(file)?)?;
    tar.into_inner()?.flush()?;
    fs::rename(&partial, out).with_context(|| format!("{} cannot be made", out.display()))?;
    Ok(format!("sha256:{}", sha256(&manifest)))
}

fn container(config: &Config) -> Value {
    let env: Vec<_> = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let ports: serde_json::Map<_, _> = config.ports.iter().map(|port| (port.clone(), json!({}))).collect();
    let mut container = json!({
        "User": config.user,
        "Env": env,
        "Entrypoint": config.entrypoint,
        "WorkingDir": config.workdir,
        "Labels": config.labels,
    });
    if !ports.is_empty() {
        container["ExposedPorts"] = Value::Object(ports);
    }
    container
}

fn described(kind: &str, text: &str) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", sha256(text)), "size": text.len() })
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// As images call this machine's, and so that of Debian's packages and of our programs.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images are not made on {other}"),
    }
}
