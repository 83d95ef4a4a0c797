//! Transcripts: what an attempt says while it works, censored and counted, in chunks; one
//! compressed object once the attempt is over. Whoever reads does not notice which it is.

mod chunks;
mod compaction;
mod object;
mod reading;

pub(crate) use self::{
    chunks::{Stored, store},
    compaction::spawn,
    reading::{Cursor, next_lines},
};
