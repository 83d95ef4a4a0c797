//! `callboard repo …`

use clap::Subcommand;
use proto::admin::{SyncLabelsRequest, SyncedLabel};

use super::{
    Result,
    connection::Connection,
    output::{Format, plain, print, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Makes the labels of the project's rules, and mends colour and description of those that
    /// differ; deletes none.
    SyncLabels {
        /// owner/name; absent: every repository of the configuration.
        repository: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

fn list(labels: &[SyncedLabel]) -> String {
    let rows = labels.iter().map(|label| {
        vec![
            label.repository.clone(),
            plain(&label.name),
            label.outcome.clone(),
            label.color.clone(),
            plain(&label.description),
        ]
    });
    table(&["repository", "label", "", "colour", "description"], rows)
}

impl RepoCommand {
    pub(crate) async fn run(self, connection: &Connection, format: Format) -> Result<()> {
        match self {
            Self::SyncLabels { repository, dry_run } => {
                let request = SyncLabelsRequest { repository: repository.unwrap_or_default(), dry_run };
                let done = connection.client().sync_labels(request).await;
                let labels = done.map_err(|s| connection.explain(&s))?.into_inner().labels;
                print(format, &labels, |labels| list(labels))
            }
        }
    }
}
