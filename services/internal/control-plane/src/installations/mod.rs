//! What the code host lets us at: where the App is installed, and which repositories it covers;
//! with a token, which repositories it sees. While a repository is out of reach nothing starts
//! in it, and what is under way waits and goes on by itself.

mod events;
mod learning;
mod reach;
mod store;
mod watch;

pub(crate) use self::{
    events::affected,
    learning::{Learnt, learn, note_standing},
    reach::{Reach, ask, end_all, note},
    store::{Closed, closed},
    watch::spawn,
};
