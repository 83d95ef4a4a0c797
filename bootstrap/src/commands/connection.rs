//! The way to a running platform: its admin socket.

use proto::admin::admin_service_client::AdminServiceClient;
use telemetry::address::Address;
use tonic::{Status, transport::Channel};

use super::{CommandError, Result};
use crate::{config::Config, data_dir::DataDir};

/// A connection that is made with the first call.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: AdminServiceClient<Channel>,
    socket: String,
}

impl Connection {
    /// To the platform the configuration names, or the one in the usual place.
    pub(crate) fn open(config: Option<&Config>) -> Result<Self> {
        let folder = config.map_or_else(crate::config::default_data_dir, |c| c.data_dir.clone());
        let socket = DataDir::at(&folder).admin_socket();
        let address = Address::Unix(socket.clone());
        Ok(Self { client: AdminServiceClient::new(address.channel()?), socket: socket.display().to_string() })
    }

    /// The calls.
    pub(crate) fn client(&self) -> AdminServiceClient<Channel> {
        self.client.clone()
    }

    /// An answer in words, with what to do next.
    pub(crate) fn explain(&self, status: &Status) -> CommandError {
        match status.code() {
            tonic::Code::Unavailable if status.message().contains("database") => CommandError::Failed(
                anyhow::anyhow!("{}; `callboard check` looks for the cause", status.message()),
            ),
            tonic::Code::Unavailable | tonic::Code::Unknown => CommandError::Failed(anyhow::anyhow!(
                "no platform answers at {}\n\nhint: start it with `callboard up`, or name its file with --config",
                self.socket
            )),
            tonic::Code::InvalidArgument => CommandError::Usage(status.message().to_owned()),
            tonic::Code::Internal => CommandError::Failed(anyhow::anyhow!(
                "{}; the platform's log has the details",
                status.message()
            )),
            tonic::Code::Ok
            | tonic::Code::Cancelled
            | tonic::Code::DeadlineExceeded
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::ResourceExhausted
            | tonic::Code::FailedPrecondition
            | tonic::Code::Aborted
            | tonic::Code::OutOfRange
            | tonic::Code::Unimplemented
            | tonic::Code::DataLoss
            | tonic::Code::Unauthenticated => CommandError::Failed(anyhow::anyhow!("{}", status.message())),
        }
    }
}
