//! `cargo xtask docs`: the pages that are made of the code. Tests keep them true; this writes
//! them.

use anyhow::Result;

use crate::environment::{cargo, run as run_to_end, workspace_root};

/// Packages with pages; each page is a test whose name begins with `generated_docs`.
const PACKAGES: [&str; 1] = ["domain"];

/// Writes every generated page.
///
/// # Errors
/// What the compiler or a test said.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root()?;
    let mut tests = cargo(&root);
    tests.env("CALLBOARD_DOCS", "write").env("SQLX_OFFLINE", "true").args(["test", "--quiet"]);
    for package in PACKAGES {
        tests.args(["--package", package]);
    }
    run_to_end(tests.arg("generated_docs"))?;
    eprintln!("the generated pages are in docs/product");
    Ok(())
}
