//! The contracts between machines: services and messages generated from
//! `proto/callboard/v1`. The `.proto` files are the documentation.

/// Calls between our services, and what a runner may say.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; documented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("callboard.v1");
}

/// The CLI's calls over the admin socket.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; documented in the .proto files"
)]
pub mod admin {
    tonic::include_proto!("callboard.admin.v1");
}

/// Most bytes of one gRPC message: a webhook body (25 MiB) and its frame.
pub const MAX_MESSAGE_BYTES: usize = 28 * 1024 * 1024;

/// Among a stored delivery's headers: our note that it was signed with [`PREVIOUS_SECRET`] while
/// a secret was rotated. Nothing a sender says gets this name.
pub const SIGNED_WITH: &str = "Callboard-Signed-With";
/// The one that is good until the rotation is over.
pub const PREVIOUS_SECRET: &str = "previous secret";
