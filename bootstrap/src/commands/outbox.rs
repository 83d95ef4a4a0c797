//! `callboard outbox …`

use clap::Subcommand;
use proto::admin::{EffectActionRequest, ListEffectsRequest, OutboxEffect, list_effects_request::Wanted};

use super::{
    Result,
    connection::Connection,
    output::{Format, plain, print, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Changes on the code host that were given up and wait for a person.
    List {
        /// Those that were given up; the default.
        #[arg(long, conflicts_with_all = ["pending", "all"])]
        dead: bool,
        /// Those that are still to be made.
        #[arg(long, conflicts_with = "all")]
        pending: bool,
        /// The newest 200, in whatever state.
        #[arg(long)]
        all: bool,
    },
    /// Tries one again that was given up; a run that waits for it goes on.
    Retry {
        /// The effect's id.
        id: String,
    },
    /// Drops one that was given up; a run that waits for it fails.
    Drop {
        /// The effect's id.
        id: String,
    },
}

fn list(effects: &[OutboxEffect], wanted: Wanted) -> String {
    if effects.is_empty() {
        return match wanted {
            Wanted::Dead => "Nothing was given up.",
            Wanted::Pending => "Nothing is waiting to be done.",
            Wanted::All => "Nothing was ever changed on the code host.",
        }
        .to_owned();
    }
    let rows = effects.iter().map(|e| {
        vec![
            e.id.clone(),
            e.at.clone(),
            e.kind.clone(),
            e.state.clone(),
            e.tries.to_string(),
            if e.state == "pending" { e.available_at.clone() } else { e.tried_at.clone() },
            plain(&e.last_error),
        ]
    });
    table(&["effect", "at", "kind", "state", "tries", "tried or due", ""], rows)
}

impl OutboxCommand {
    pub(crate) async fn run(self, connection: &Connection, format: Format) -> Result<()> {
        let mut client = connection.client();
        let explain = |status| connection.explain(&status);
        match self {
            Self::List { dead: _, pending, all } => {
                let wanted = match (pending, all) {
                    (true, _) => Wanted::Pending,
                    (false, true) => Wanted::All,
                    (false, false) => Wanted::Dead,
                };
                let request = ListEffectsRequest { wanted: wanted.into() };
                let effects = client.list_effects(request).await.map_err(explain)?.into_inner().effects;
                print(format, &effects, |effects| list(effects, wanted))
            }
            Self::Retry { id } => {
                let done =
                    client.retry_effect(EffectActionRequest { id }).await.map_err(explain)?.into_inner();
                print(format, &done, |d| plain(&d.message))
            }
            Self::Drop { id } => {
                let done =
                    client.drop_effect(EffectActionRequest { id }).await.map_err(explain)?.into_inner();
                print(format, &done, |d| plain(&d.message))
            }
        }
    }
}
