//! What goes wrong, as a script says: requests, their answers, and deliveries. Nothing here
//! happens by itself.

mod answers;
mod control;
mod deliveries;
mod lag;
mod words;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use serde::{Deserialize, Serialize};

use self::deliveries::Outgoing;
pub(crate) use self::{answers::last_word, control::routes, deliveries::let_out};
pub use self::{deliveries::DeliveryFault, words::UnknownFault};
use crate::{Simulator, exchange::AsScripted};

/// What goes wrong with a request. Written `refuse=502`, `lose-answer`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Fault {
    /// It is done, and the connection is cut before the answer.
    LoseAnswer,
    /// It is not done, and answered with this status and GitHub's usual words for it.
    Refuse(u16),
    /// It is done, and answered with this status all the same.
    AppliedThen(u16),
    /// 403: too much at once; wait for so many seconds.
    SecondaryLimit(u64),
    /// 403: nothing is left of the hour, which ends in so many seconds.
    PrimaryLimit(u64),
    /// The same with 429.
    TooMany(u64),
    /// 422: there is one already.
    AlreadyExists,
    /// 422: a field is not as it must be.
    Invalid,
    /// 422: the branch is not where it was.
    NotFastForward,
    /// 403: the permission for this was taken away.
    PermissionTaken,
    /// 401, to this request and, where Apps are installed, to every token that is out.
    TokenExpires,
    /// It is done, and the answer begins after so many milliseconds.
    Slow(u64),
    /// It is done, and the answer comes in eight pieces with so many milliseconds between them.
    Trickle(u64),
    /// It is done, and the connection is cut in the middle of the answer.
    CutBody,
    /// It is done, and the answer is a page for people.
    NotJson,
    /// A list does not show what was made in the last so many milliseconds.
    ListLag(u64),
}

/// Which requests go wrong, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    fault: Fault,
    /// `POST /repos/{owner}/{repo}/pulls`, with a path instead of the template, or with a `*` at
    /// the end for whatever follows.
    #[serde(default = "any")]
    request: String,
    /// Only requests with this in their path or body.
    #[serde(default)]
    holding: Option<String>,
    /// Only from the so-manieth on.
    #[serde(default = "once")]
    from: u32,
    /// How many go wrong.
    #[serde(default = "once")]
    times: u32,
    /// Requests of this kind so far.
    #[serde(default)]
    seen: u32,
    /// How many went wrong.
    #[serde(default)]
    struck: u32,
}

fn any() -> String {
    "*".to_owned()
}

fn once() -> u32 {
    1
}

impl Script {
    /// The next request of this kind goes wrong. It is named as in
    /// [`Simulator::request_counts`], or with its path, or `POST *`, or `*`.
    pub fn new(fault: Fault, request: &str) -> Self {
        let request = request.to_owned();
        Self { fault, request, holding: None, from: 1, times: 1, seen: 0, struck: 0 }
    }

    /// So many go wrong.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Only those from the so-manieth on, counted from 1.
    #[must_use]
    pub fn from(self, from: u32) -> Self {
        Self { from, ..self }
    }

    /// Only those with this text in their path or body.
    #[must_use]
    pub fn holding(self, text: &str) -> Self {
        Self { holding: Some(text.to_owned()), ..self }
    }

    /// How many requests went wrong.
    pub fn struck(&self) -> u32 {
        self.struck
    }

    /// Did it go wrong as often as it should?
    pub fn is_over(&self) -> bool {
        self.struck >= self.times
    }

    fn names(&self, asked: &Asked<'_>) -> bool {
        let fits = |path: &str| {
            let request = format!("{} {path}", asked.method);
            match self.request.strip_suffix('*') {
                Some(begin) => request.starts_with(begin),
                None => request == self.request,
            }
        };
        !self.is_over() && (fits(asked.template) || fits(asked.path))
    }

    fn holds(&self, asked: &Asked<'_>) -> bool {
        self.holding.as_ref().is_none_or(|text| {
            asked.path.split('/').any(|part| part == text)
                || asked.body.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

impl std::fmt::Display for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} times at {}", self.fault, self.times, self.request)?;
        self.holding.as_ref().map_or(Ok(()), |text| write!(f, " with {text}"))
    }
}

/// A request that may go wrong.
struct Asked<'a> {
    method: &'a str,
    template: &'a str,
    path: &'a str,
    body: &'a [u8],
}

/// Everything that is still to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    scripts: Vec<Script>,
    deliveries: Outgoing,
}

impl Faults {
    /// Has anything to be read out of the body?
    fn wants_body(&self, asked: &Asked<'_>) -> bool {
        self.scripts.iter().any(|script| script.holding.is_some() && script.names(asked))
    }

    /// What goes wrong with this request, which uses it up.
    fn next(&mut self, asked: &Asked<'_>) -> Option<Fault> {
        for script in &mut self.scripts {
            if script.names(asked) && script.holds(asked) {
                script.seen += 1;
                if script.seen >= script.from {
                    script.struck += 1;
                    return Some(script.fault);
                }
            }
        }
        None
    }
}

impl Simulator {
    /// The next requests of this kind go wrong, `times` of them. They are named as in
    /// [`Self::request_counts`]: `POST /repos/{owner}/{repo}/pulls`.
    pub fn fault(&self, fault: Fault, request: &str, times: u32) {
        self.script(Script::new(fault, request).times(times));
    }

    /// Requests go wrong as the script says. Of several scripts for a request the first one that
    /// is not over counts.
    pub fn script(&self, script: Script) {
        self.change(|world| world.faults.scripts.push(script));
    }

    /// Every script so far, and how often it struck.
    pub fn scripts(&self) -> Vec<Script> {
        self.read(|world| world.faults.scripts.clone())
    }

    /// Nothing goes wrong any more, and deliveries that were held back are sent.
    pub fn heal(&self) {
        self.change(|world| world.faults.scripts.clear());
        self.heal_deliveries();
    }
}

/// The handler's answer, unless something goes wrong as a script says.
pub(crate) async fn answer(simulator: &Simulator, template: &str, request: Request, next: Next) -> Response {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/api/v3").unwrap_or(parts.uri.path()).to_owned();
    let method = parts.method.as_str().to_owned();
    let asked = |body| Asked { method: &method, template, path: &path, body };
    let mut read = Bytes::new();
    if simulator.read(|world| world.faults.wants_body(&asked(&[]))) {
        // One that cannot be read is the handler's to refuse.
        read = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        body = Body::from(read.clone());
    }
    let fault = simulator.change(|world| world.faults.next(&asked(&read)));
    let request = Request::from_parts(parts, body);
    match fault {
        None => next.run(request).await,
        Some(fault) => {
            let mut response = answers::wrong(simulator, fault, template, request, next).await;
            response.extensions_mut().insert(AsScripted);
            response
        }
    }
}
