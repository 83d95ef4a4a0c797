//! Lists the files below `templates/`, so that adding one needs no second place.

use std::{env, fmt::Write as _, fs, io, path::Path};

fn collect(folder: &Path, name: &str, list: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{name}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), list)?;
        } else {
            list.push(name);
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=templates");
    let variable = |name| env::var(name).map_err(io::Error::other);
    let mut list = Vec::new();
    collect(&Path::new(&variable("CARGO_MANIFEST_DIR")?).join("templates"), "", &mut list)?;
    list.sort();
    let mut source = "&[\n".to_owned();
    for name in list {
        // Not the folder's own path: one build folder may serve checkouts at different places.
        let path = format!("/templates/{name}");
        writeln!(source, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),")
            .map_err(io::Error::other)?;
    }
    source.push(']');
    fs::write(Path::new(&variable("OUT_DIR")?).join("templates.rs"), source)
}
