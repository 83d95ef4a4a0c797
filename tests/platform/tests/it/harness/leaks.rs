//! Looks for secrets in everything a platform leaves behind, in every form they may take.

use std::{io::Read, path::Path};

use aho_corasick::AhoCorasick;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use sqlx::PgPool;

/// Secrets by what they are called.
#[derive(Debug, Default)]
pub(crate) struct Canaries {
    /// What it is called, and a form of it.
    forms: Vec<(String, Vec<u8>)>,
}

/// A place where no secret may be.
#[derive(Debug)]
pub(crate) struct Place {
    /// What kind of place, such as `database`.
    pub(crate) kind: &'static str,
    /// Which one.
    pub(crate) name: String,
    /// What is there.
    pub(crate) content: Vec<u8>,
}

impl Place {
    pub(crate) fn new(kind: &'static str, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { kind, name: name.into(), content: content.into() }
    }
}

impl Canaries {
    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        let secret = secret.trim_ascii();
        assert!(secret.len() >= 12, "{name} is too short to be told from anything else");
        let mut add = |form: Vec<u8>| self.forms.push((name.to_owned(), form));
        add(secret.to_vec());
        add(hex::encode(secret).into());
        add(hex::encode_upper(secret).into());
        // Whatever stands before it in what was encoded: the digits that are its own.
        for before in 0..3 {
            let text = [&[0_u8, 0, 0][..before], secret].concat();
            let own = [0, 2, 3][before]..text.len() * 8 / 6;
            add(STANDARD_NO_PAD.encode(&text)[own.clone()].into());
            add(URL_SAFE_NO_PAD.encode(&text)[own].into());
        }
        let escaped = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => vec![*byte],
            _ => format!("%{byte:02X}").into_bytes(),
        };
        let in_address: Vec<u8> = secret.iter().flat_map(escaped).collect();
        add(in_address.to_ascii_lowercase());
        add(in_address);
        let json = serde_json::Value::from(String::from_utf8_lossy(secret)).to_string();
        add(json.trim_matches('"').into());
        // One line of a private key is enough.
        for line in secret.split(|byte| *byte == b'\n').filter(|line| line.len() >= 40) {
            self.forms.push((name.to_owned(), line.to_vec()));
        }
    }

    /// Where each is, as sentences that do not say what it is.
    pub(crate) fn found_in(&self, places: &[Place]) -> Vec<String> {
        let search = AhoCorasick::new(self.forms.iter().map(|(_, form)| form)).expect("small");
        let mut found: Vec<_> = places
            .iter()
            .flat_map(|place| {
                search.find_overlapping_iter(&place.content).map(|found| {
                    let (name, form) = &self.forms[found.pattern().as_usize()];
                    let before = &place.content[found.start().saturating_sub(160)..found.start()];
                    let (kind, at, bytes) = (place.kind, &place.name, form.len());
                    let before = String::from_utf8_lossy(before);
                    format!("{name}, {bytes} bytes of it, is in {kind} {at}, after: {before}")
                })
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Bytes as they are, and what they are when they were compressed.
fn unpacked(kind: &'static str, name: &str, bytes: Vec<u8>) -> Vec<Place> {
    let mut places = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).expect("whole");
        places.push(Place::new(kind, format!("{name}, unpacked"), plain));
    }
    places.push(Place::new(kind, name, bytes));
    places
}

/// Every row of every table; bytes also as what they are.
pub(crate) async fn database(db: &PgPool) -> Vec<Place> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', table_schema, table_name) from information_schema.tables
         where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'",
    )
    .fetch_all(db)
    .await
    .expect("the tables");
    let mut places = Vec::new();
    for table in tables {
        let rows = format!("select coalesce(to_jsonb(t), 'null')::text from {table} t");
        let rows: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_all(db).await.expect("its rows");
        for row in rows {
            for value in row.split("\"\\\\x").skip(1) {
                let digits = value.split('"').next().unwrap_or_default();
                let bytes = hex::decode(digits).unwrap_or_default();
                places.extend(unpacked("database", &format!("{table}, bytes"), bytes));
            }
            places.push(Place::new("database", &table, row));
        }
    }
    places
}

/// Every file below a folder but those for which `holds_secrets` says yes.
pub(crate) fn files(folder: &Path, holds_secrets: &dyn Fn(&Path) -> bool) -> Vec<Place> {
    let mut places = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("one")) {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !holds_secrets(&path) {
                // What is put in the place of something else is moved there.
                match std::fs::read(&path) {
                    Ok(bytes) => places.extend(unpacked("file", &path.display().to_string(), bytes)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_place() {
        let secret = "ghp/canary+of the:tests";
        let mut canaries = Canaries::default();
        canaries.add("a token", secret.as_bytes());
        let gzipped = {
            use std::io::Write;
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(format!("x{secret}x").as_bytes()).expect("written");
            gzip.finish().expect("whole")
        };
        let mut hidden = unpacked("object", "a transcript", gzipped);
        for around in ["", "a", "ab"] {
            let text = format!("{around}{secret}{around}");
            hidden.push(Place::new("text", "base64", STANDARD_NO_PAD.encode(&text)));
            hidden.push(Place::new("text", "base64 for URLs", URL_SAFE_NO_PAD.encode(&text)));
            hidden.push(Place::new("text", "hex", hex::encode(&text)));
        }
        hidden.push(Place::new("text", "URL", "?t=ghp%2Fcanary%2Bof%20the%3Atests"));
        for place in hidden.into_iter().filter(|place| !place.content.starts_with(&[0x1f, 0x8b])) {
            let found = canaries.found_in(&[place]);
            assert!(found.len() == 1 && found[0].starts_with("a token, "), "{found:?}");
        }
        assert!(canaries.found_in(&[Place::new("text", "other", "ghp/canary")]).is_empty());
    }
}
