//! Who is calling, on every call between our services.
//!
//! Each service has its own Ed25519 key and signs short-lived tokens with it; the control
//! plane knows the public halves. The same in one process as across machines.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use domain::{clock::Clock, ids::WorkerId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    address::{Address, AddressError},
    signing::{Claims, SigningKey, TokenError, VerifyingKey, verify},
};

/// Audience of every service token: the control plane is the only one that is called.
const AUDIENCE: &str = "control-plane";
/// Seconds a service token is good for.
const LIFETIME: i64 = 60;

/// What a service is allowed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes webhooks.
    ApiGateway,
    /// Speaks for attempts.
    AgentGateway,
    /// Runs attempts.
    Worker,
}

impl Role {
    /// Every role, for tables in tests.
    pub const ALL: [Self; 3] = [Self::ApiGateway, Self::AgentGateway, Self::Worker];
}

/// One service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The API gateway.
    ApiGateway,
    /// The agent gateway.
    AgentGateway,
    /// An enrolled worker.
    Worker(WorkerId),
}

impl Subject {
    /// Its role.
    pub fn role(self) -> Role {
        match self {
            Self::ApiGateway => Role::ApiGateway,
            Self::AgentGateway => Role::AgentGateway,
            Self::Worker(_) => Role::Worker,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ApiGateway => f.write_str("api-gateway"),
            Self::AgentGateway => f.write_str("agent-gateway"),
            Self::Worker(id) => write!(f, "worker:{id}"),
        }
    }
}

impl std::str::FromStr for Subject {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "api-gateway" => Ok(Self::ApiGateway),
            "agent-gateway" => Ok(Self::AgentGateway),
            other => other
                .strip_prefix("worker:")
                .and_then(|id| id.parse().ok())
                .map(Self::Worker)
                .ok_or_else(|| IdentityError::Malformed("subject".to_owned())),
        }
    }
}

/// Why an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not an identity.
    #[error("not a service identity ({0}); make one with `callboard worker enroll`")]
    Malformed(String),
}

/// A service's own key and name.
#[derive(Debug)]
pub struct Identity {
    subject: Subject,
    key: SigningKey,
    recent: Mutex<Option<(i64, SecretString)>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    subject: String,
    private_key: String,
}

impl Identity {
    /// A new identity.
    pub fn generate(subject: Subject) -> Self {
        Self { subject, key: SigningKey::generate(), recent: Mutex::new(None) }
    }

    /// Who it is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// The public half, for the control plane.
    pub fn public(&self) -> VerifyingKey {
        self.key.public()
    }

    /// The file's content. A secret.
    pub fn to_json(&self) -> SecretString {
        let file = IdentityFile {
            subject: self.subject.to_string(),
            private_key: STANDARD.encode(self.key.pkcs8()),
        };
        serde_json::json!(file).to_string().into()
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`].
    pub fn from_json(text: &str) -> Result<Self, IdentityError> {
        let malformed = |what: &str| IdentityError::Malformed(what.to_owned());
        let file: IdentityFile = serde_json::from_str(text).map_err(|_| malformed("JSON"))?;
        let der = STANDARD.decode(file.private_key).map_err(|_| malformed("private_key"))?;
        let key = SigningKey::from_pkcs8(der).map_err(|_| malformed("private_key"))?;
        Ok(Self { subject: file.subject.parse()?, key, recent: Mutex::new(None) })
    }

    /// Reads an identity file.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let text = fs::read_to_string(path)
            .map_err(|source| IdentityError::File { path: path.display().to_string(), source })?;
        Self::from_json(&text)
    }

    /// Writes an identity file that only its owner can read; an existing one is replaced.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let write = || {
            let next = path.with_extension("new");
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            file.write_all(self.to_json().expose_secret().as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, path)
        };
        write().map_err(|source| IdentityError::File { path: path.display().to_string(), source })
    }

    /// A token for the next call; the same one for half its lifetime.
    pub fn token(&self, now: DateTime<Utc>) -> SecretString {
        let now = now.timestamp();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, token)) = recent.as_ref()
            && (0..LIFETIME / 2).contains(&(now - made))
        {
            return token.clone();
        }
        let subject = self.subject.to_string();
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            sub: subject.clone(),
            run: None,
            iat: now,
            exp: now + LIFETIME,
        };
        let token = self.key.sign(&subject, &claims);
        *recent = Some((now, token.clone()));
        token
    }
}

/// Who a token says is calling, before its signature is checked: tells which key to take.
///
/// # Errors
/// [`TokenError::Invalid`] when it is no token of ours.
pub fn claimed_subject(token: &str) -> Result<Subject, TokenError> {
    crate::signing::key_id(token).and_then(|id| id.parse().ok()).ok_or(TokenError::Invalid)
}

/// Proves that `token` was made by `subject`, whose public key is `key`.
///
/// # Errors
/// [`TokenError`].
pub fn verify_service(
    token: &str,
    subject: Subject,
    key: &VerifyingKey,
    now: DateTime<Utc>,
) -> Result<(), TokenError> {
    let claims = verify(token, key, AUDIENCE, now)?;
    // A service may speak for itself only, and not for long.
    let fits = claims.sub == subject.to_string()
        && claims.exp - claims.iat <= LIFETIME
        && claims.iat <= now.timestamp() + LIFETIME;
    if fits { Ok(()) } else { Err(TokenError::Invalid) }
}

/// A channel to the control plane that proves who is calling on every call.
pub type AuthenticatedChannel = InterceptedService<Channel, AttachIdentity>;

/// Puts the service's token on each request.
#[derive(Clone, Debug)]
pub struct AttachIdentity {
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
}

impl Interceptor for AttachIdentity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.identity.token(self.clock.now());
        let mut value: tonic::metadata::MetadataValue<_> = format!("Bearer {}", token.expose_secret())
            .parse()
            .map_err(|_| Status::internal("a token that is not a header value"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// Connects to the control plane as `identity`; connects when first used and again after a break.
///
/// # Errors
/// [`AddressError`] when tokens would travel in the clear.
pub fn connect(
    address: &Address,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
) -> Result<AuthenticatedChannel, AddressError> {
    Ok(InterceptedService::new(address.channel()?, AttachIdentity { identity, clock }))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn noon() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    #[test]
    fn a_service_speaks_for_itself_only() {
        let (api, agent) =
            (Identity::generate(Subject::ApiGateway), Identity::generate(Subject::AgentGateway));
        let token = api.token(noon());
        let token = token.expose_secret();
        assert_eq!(claimed_subject(token), Ok(Subject::ApiGateway));
        assert_eq!(verify_service(token, Subject::ApiGateway, &api.public(), noon()), Ok(()));
        assert!(verify_service(token, Subject::AgentGateway, &api.public(), noon()).is_err());
        assert!(verify_service(token, Subject::ApiGateway, &agent.public(), noon()).is_err());
        assert!(
            verify_service(token, Subject::ApiGateway, &api.public(), noon() + TimeDelta::seconds(61))
                .is_err()
        );
    }

    #[test]
    fn an_identity_file_reads_back_and_only_its_owner_can() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.json");
        let identity = Identity::generate(Subject::ApiGateway);
        identity.save(&path).expect("saved");
        assert_eq!(Identity::load(&path).expect("loaded").public(), identity.public());
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    }
}
