//! Who is asking, as the `Authorization` header says.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode, header};

use crate::{
    apps::{App, is_json_web_token, tokens::Grant},
    refusal::Refusal,
    world::{UserToken, World},
};

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Anonymous,
    /// A person, by a personal access token.
    User(Arc<UserToken>),
    /// An App itself, by a token it signed. It is nobody who could act.
    App(u64),
    /// An App where it is installed.
    Installation(Arc<Grant>),
    /// A token that is none, or not any more.
    Refused(Refusal),
}

impl Caller {
    /// Who acts.
    pub(crate) fn login(&self) -> Option<&str> {
        match self {
            Self::User(token) => Some(&token.login),
            Self::Installation(grant) => Some(&grant.login),
            Self::Anonymous | Self::App(_) | Self::Refused(_) => None,
        }
    }

    /// Whose limits it counts to; `None` for nobody's.
    pub(crate) fn budget(&self) -> Option<String> {
        match self {
            Self::User(token) => Some(token.login.clone()),
            Self::App(id) => Some(format!("app {id}")),
            Self::Installation(grant) => Some(format!("installation {}", grant.installation)),
            Self::Anonymous | Self::Refused(_) => None,
        }
    }
}

/// The token of a `Bearer` or `token` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Vec<String> {
    let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    value.map(credentials).unwrap_or_default()
}

/// Tokens an `Authorization` header may mean: `Bearer` and `token` have one, `Basic` has it
/// as password or as user.
fn credentials(value: &str) -> Vec<String> {
    let Some((scheme, rest)) = value.split_once(' ') else { return Vec::new() };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
        return vec![rest.to_owned()];
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Vec::new();
    }
    let text = BASE64_STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|t| t.split_once(':'));
    pair.map(|(user, password)| vec![password.to_owned(), user.to_owned()]).unwrap_or_default()
}

impl World {
    /// Who is asking, for the log.
    pub(crate) fn name_of(&self, caller: &Caller) -> Option<String> {
        match caller {
            Caller::App(id) => self.app(*id).ok().map(App::login),
            Caller::User(_) | Caller::Installation(_) | Caller::Anonymous | Caller::Refused(_) => {
                caller.login().map(str::to_owned)
            }
        }
    }

    /// Who the `Authorization` header says is asking.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Caller {
        if !headers.contains_key(header::AUTHORIZATION) {
            return Caller::Anonymous;
        }
        let known = |token: &String| {
            if is_json_web_token(token) {
                return Some(self.app_of(token).map_or_else(Caller::Refused, Caller::App));
            }
            let grant = |grant| Caller::Installation(Arc::new(grant));
            let installed = || self.grant(token).map(|found| found.map_or_else(Caller::Refused, grant));
            self.user_token(token).cloned().map(Caller::User).or_else(installed)
        };
        let bad = || Caller::Refused(Refusal::new(StatusCode::UNAUTHORIZED, "Bad credentials"));
        bearer(headers).iter().find_map(known).unwrap_or_else(bad)
    }
}
