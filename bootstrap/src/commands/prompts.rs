//! `callboard prompts …`

use clap::Subcommand;
use proto::admin::RenderPromptRequest;

use super::{
    Result,
    connection::Connection,
    output::{Format, print},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PromptsCommand {
    /// The prompt a run would get now; nothing is started.
    Render {
        /// The issue.
        #[arg(long)]
        issue: u64,
        /// The stage.
        #[arg(long)]
        stage: String,
        /// owner/name; absent: the only one of the configuration.
        #[arg(long)]
        repository: Option<String>,
    },
}

impl PromptsCommand {
    pub(crate) async fn run(self, connection: &Connection, format: Format) -> Result<()> {
        match self {
            Self::Render { issue, stage, repository } => {
                let request =
                    RenderPromptRequest { repository: repository.unwrap_or_default(), issue, stage };
                let done = connection.client().render_prompt(request).await;
                let rendered = done.map_err(|s| connection.explain(&s))?.into_inner();
                // As it is: it is for reading, and for comparing byte by byte.
                print(format, &rendered, |rendered| rendered.prompt.clone())
            }
        }
    }
}
