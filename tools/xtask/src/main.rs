//! Chores of this repository, one command each: the demo, every test, the stored queries, the
//! generated pages, the images.

mod closing_lines;
mod cluster;
mod demo;
mod docs;
mod environment;
mod images;
mod install;
mod sqlx;
mod steps;
mod test;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// Chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    /// The main job on this machine: a labelled issue becomes a pull request with a comment
    Demo(demo::Options),
    /// Every check and every test
    Test(test::Options),
    /// Refreshes the stored descriptions of the control plane's queries (.sqlx)
    Sqlx(sqlx::Options),
    /// Writes the pages that are made of the code (docs/product)
    Docs,
    /// Container images as OCI archives, without a container engine (deploy/images)
    Images(images::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Sqlx(options) => sqlx::run(&options),
        Task::Docs => docs::run(),
        Task::Images(options) => images::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            // 2: the caller has to say something else; 1: something did not work.
            ExitCode::from(if error.is::<install::NoConsent>() { 2 } else { 1 })
        }
    }
}
