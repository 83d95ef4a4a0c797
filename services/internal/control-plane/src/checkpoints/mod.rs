//! Checkpoints: an attempt's files and session while it works, so that what comes after it can
//! go on from there. Stored together or not at all, restored together or not at all; like a
//! result, each is a claim of the pod that sent it.

mod receive;
mod restore;
mod store;

pub(crate) use self::{
    receive::receive,
    restore::{afresh, base_to_go_on_from, decide, point, stream},
    store::{has_session, of_run},
};
