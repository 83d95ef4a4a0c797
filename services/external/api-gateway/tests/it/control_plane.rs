//! An `IngestService` over a Unix socket that does as it is told and remembers everything.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use proto::v1::{
    Source, SourcesRequest, SourcesResponse, StoreDeliveryRequest, StoreDeliveryResponse,
    ingest_service_server::{IngestService, IngestServiceServer},
};
use telemetry::address::Address;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behaviour {
    #[default]
    Works,
    /// Answers every call with an error.
    Fails,
    /// Takes every call and never answers.
    Silent,
    /// Does not know the caller.
    Refuses,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    sources: BTreeMap<String, Source>,
    stored: Vec<StoreDeliveryRequest>,
    known: HashMap<(String, String), String>,
    asked_for_sources: usize,
    tokens: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct ControlPlane {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let service = IngestServiceServer::new(Service(Arc::clone(&state)))
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        let listener = UnixListener::bind(folder.path().join("cp.sock")).unwrap();
        let serving =
            Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(serving);
        Self { folder, state }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.folder.path().join("cp.sock"))
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    pub(crate) fn set_source(&self, name: &str, current: &str, previous: Option<&str>) {
        let source = Source {
            name: name.to_owned(),
            current_secret: current.into(),
            previous_secret: previous.unwrap_or_default().into(),
        };
        self.state.lock().unwrap().sources.insert(name.to_owned(), source);
    }

    pub(crate) fn stored(&self) -> Vec<StoreDeliveryRequest> {
        self.state.lock().unwrap().stored.clone()
    }

    pub(crate) fn asked_for_sources(&self) -> usize {
        self.state.lock().unwrap().asked_for_sources
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state.lock().unwrap().tokens.clone()
    }
}

struct Service(Arc<Mutex<State>>);

impl Service {
    async fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let behaviour = {
            let mut state = self.0.lock().unwrap();
            let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            state.tokens.push(token.unwrap_or_default().to_owned());
            state.behaviour
        };
        match behaviour {
            Behaviour::Works => Ok(()),
            Behaviour::Fails => Err(Status::unavailable("the database password is hunter2")),
            Behaviour::Refuses => Err(Status::unauthenticated("who are you")),
            Behaviour::Silent => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl IngestService for Service {
    async fn sources(&self, request: Request<SourcesRequest>) -> Result<Response<SourcesResponse>, Status> {
        self.admit(&request).await?;
        let mut state = self.0.lock().unwrap();
        state.asked_for_sources += 1;
        Ok(Response::new(SourcesResponse { sources: state.sources.values().cloned().collect() }))
    }

    async fn store_delivery(
        &self,
        request: Request<StoreDeliveryRequest>,
    ) -> Result<Response<StoreDeliveryResponse>, Status> {
        self.admit(&request).await?;
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let key = (request.source.clone(), request.guid.clone());
        let known = state.known.get(&key).cloned();
        let duplicate = known.is_some();
        let delivery_id = known.unwrap_or_else(|| format!("delivery-{}", state.known.len() + 1));
        if !duplicate {
            state.known.insert(key, delivery_id.clone());
            state.stored.push(request);
        }
        Ok(Response::new(StoreDeliveryResponse { delivery_id, duplicate }))
    }
}
