//! A model that plays a script: the part of OpenAI's Responses API that coding agents use,
//! for tests and the demo. Never part of a release image.

mod script;
mod server;

pub use script::{InvalidScript, Script, Step};
pub use server::{Recorded, ScriptedModel};
