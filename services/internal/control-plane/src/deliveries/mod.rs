//! Deliveries: stored before the code host gets its 2xx, once per (source, GUID).

pub(crate) mod store;

use std::{borrow::Cow, sync::Arc};

use chrono::DateTime;
use domain::{
    ids::{DeliveryId, Id},
    names::APP_SOURCE,
};
use proto::v1::{
    Source, SourcesRequest, SourcesResponse, StoreDeliveryRequest, StoreDeliveryResponse,
    ingest_service_server::IngestService,
};
use secrecy::{ExposeSecret, SecretString};
use tonic::{Request, Response, Status};

use crate::{App, serving::internal};

/// How the content of a delivery came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// It was sent, and signed.
    Webhook,
    /// It was read at the code host's API.
    Fetched,
    /// It was made of what an issue's history tells.
    Reconciled,
}

impl Provenance {
    const ALL: [Self; 3] = [Self::Webhook, Self::Fetched, Self::Reconciled];

    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Fetched => "fetched",
            Self::Reconciled => "reconciled",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provenance| provenance.name() == name)
    }
}

/// The body as it is stored, however it came: people paste what they should not.
fn without_secrets<'b>(app: &App, body: &'b [u8]) -> Cow<'b, [u8]> {
    if app.censor.found_in(body) {
        Cow::Owned(app.censor.censor(&String::from_utf8_lossy(body)).into_owned().into_bytes())
    } else {
        Cow::Borrowed(body)
    }
}

/// What the API gateway may call.
#[derive(Debug)]
pub(crate) struct Ingest(pub(crate) Arc<App>);

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn sources(&self, _: Request<SourcesRequest>) -> Result<Response<SourcesResponse>, Status> {
        let app = &self.0;
        let rows = store::sources(&app.db).await.map_err(|e| internal("deliveries.sources", &e))?;
        let mut sources = Vec::with_capacity(rows.len() + 1);
        let bytes = |secret: &SecretString| secret.expose_secret().as_bytes().to_vec();
        sources.extend(app.app_hook.as_ref().map(|secrets| Source {
            name: APP_SOURCE.to_owned(),
            current_secret: bytes(&secrets.current),
            previous_secret: secrets.previous.as_ref().map(bytes).unwrap_or_default(),
        }));
        for row in rows {
            let read = async |id| -> Result<Vec<u8>, Status> {
                let secret =
                    app.envelope.read(&app.db, id).await.map_err(|e| internal("deliveries.secret", &e))?;
                // Another process may have made it.
                if !app.censor.found_in(secret.expose_secret())
                    && let Ok(text) = std::str::from_utf8(secret.expose_secret())
                {
                    app.censor.learn_for_good(&text.into());
                }
                Ok(secret.expose_secret().clone())
            };
            sources.push(Source {
                name: row.source,
                current_secret: read(row.current_secret_id).await?,
                previous_secret: match row.previous_secret_id {
                    Some(id) => read(id).await?,
                    None => Vec::new(),
                },
            });
        }
        Ok(Response::new(SourcesResponse { sources }))
    }

    async fn store_delivery(
        &self,
        request: Request<StoreDeliveryRequest>,
    ) -> Result<Response<StoreDeliveryResponse>, Status> {
        let app = &self.0;
        let mut new = request.into_inner();
        // The code host signed it as it was: that is checked.
        if let Cow::Owned(without) = without_secrets(app, &new.body) {
            new.body = without.into();
        }
        let received_at =
            DateTime::from_timestamp_micros(new.received_at_us).unwrap_or_else(|| app.clock.now());
        let (id, duplicate) =
            store::insert(&app.db, app.ids.next::<DeliveryId>(), &new, received_at, app.clock.now())
                .await
                .map_err(|e| internal("deliveries.store", &e))?;
        Ok(Response::new(StoreDeliveryResponse { delivery_id: id.uuid().to_string(), duplicate }))
    }
}
