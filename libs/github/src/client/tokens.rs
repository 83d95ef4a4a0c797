//! An App's tokens: one repository and purpose each, minted when they are needed, kept in memory
//! until shortly before they end, and never anywhere else.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock},
};

use ::forge::{ForgeError, Result};
use chrono::{DateTime, TimeDelta, Utc};
use domain::names::RepositoryName;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{Account, Client, Pass, endpoint::Endpoint, jwt::Signer};

/// A token is not used this close to its end: a call with it must arrive.
const BEFORE_THE_END: TimeDelta = TimeDelta::minutes(5);

/// An installation is looked up again this long after, when a token is minted: a delivery that
/// tells of a change may be lost.
const LOOKED_UP_FOR: TimeDelta = TimeDelta::hours(1);

/// What a call is for. An App's token carries the permissions for that and no others; a personal
/// access token cannot be narrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Looking at anything.
    Read,
    /// Comments, labels, reactions, reviews, pull requests.
    Talk,
    /// Commits and branches.
    Publish,
    /// Progress on a commit.
    Progress,
    /// A repository's webhook.
    Hooks,
    /// Cloning.
    Clone,
}

/// A permission by GitHub's names, and how much of it.
pub(crate) type Grant = (&'static str, &'static str);

impl Purpose {
    /// What it takes.
    fn needs(self) -> &'static [Grant] {
        match self {
            Self::Read => {
                &[("metadata", "read"), ("contents", "read"), ("issues", "read"), ("pull_requests", "read")]
            }
            Self::Talk => &[("issues", "write"), ("pull_requests", "write")],
            Self::Publish => &[("contents", "write")],
            Self::Progress => &[("checks", "write")],
            Self::Clone => &[("contents", "read")],
            Self::Hooks => &[],
        }
    }

    /// Which token it goes with.
    fn kind(self) -> Result<Kind> {
        match self {
            Self::Read => Ok(Kind::Read),
            Self::Talk => Ok(Kind::Talk),
            Self::Publish | Self::Progress => Ok(Kind::Publish),
            Self::Clone => Ok(Kind::Clone),
            Self::Hooks => Err(ForgeError::Unsupported {
                message: "an App has a webhook of its own and does not manage those of repositories"
                    .to_owned(),
            }),
        }
    }
}

/// Tokens that differ in what they may do. Publishing shares one with progress: both happen at
/// the end of a run, on the same commit, and each more costs a call in every run. What reads
/// cannot write, what talks cannot touch code, and what clones sees nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Read,
    Talk,
    Publish,
    Clone,
}

impl Kind {
    fn grants(self) -> Vec<Grant> {
        match self {
            Self::Read => Purpose::Read.needs().to_vec(),
            Self::Talk => Purpose::Talk.needs().to_vec(),
            Self::Publish => [Purpose::Publish.needs(), Purpose::Progress.needs()].concat(),
            Self::Clone => Purpose::Clone.needs().to_vec(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct AccountBody {
    login: Option<String>,
}

/// How an App is installed where a repository is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Installation {
    pub(crate) id: u64,
    app_slug: String,
    html_url: String,
    permissions: BTreeMap<String, String>,
    /// Absent: an enterprise's, which has no login.
    account: Option<AccountBody>,
    suspended_at: Option<DateTime<Utc>>,
    /// When we looked, by GitHub's clock.
    #[serde(skip)]
    seen_at: DateTime<Utc>,
}

impl Installation {
    pub(crate) fn grants(&self, (name, wanted): Grant) -> bool {
        let rank = |level: &str| ["read", "write", "admin"].iter().position(|known| *known == level);
        self.permissions.get(name).is_some_and(|held| rank(held) >= rank(wanted))
    }

    /// What is missing for a purpose, as people read it; `None` when nothing is.
    fn lacks(&self, purpose: Purpose) -> Option<ForgeError> {
        let missing: Vec<String> = purpose
            .needs()
            .iter()
            .filter(|grant| !self.grants(**grant))
            .map(|(name, level)| format!("`{name}: {level}`"))
            .collect();
        (!missing.is_empty()).then(|| ForgeError::Denied {
            message: format!(
                "the App's installation lacks {}: give the App that permission, then accept it at {}",
                missing.join(" and "),
                self.html_url
            ),
        })
    }

    /// What has none of the permissions it takes is not tried.
    fn check_grants(&self, purpose: Purpose) -> Result<()> {
        if purpose.needs().iter().any(|grant| self.grants(*grant)) {
            return Ok(());
        }
        self.lacks(purpose).map_or(Ok(()), Err)
    }

    /// Whether it is the one of the account a repository is in. `known_as`: the repository's name
    /// when the installation was looked up.
    fn is_of(&self, repository: &RepositoryName, known_as: &RepositoryName) -> bool {
        let login = self.account.as_ref().and_then(|account| account.login.as_deref());
        login.unwrap_or_else(|| known_as.owner()).eq_ignore_ascii_case(repository.owner())
    }

    fn check_suspension(&self) -> Result<()> {
        let Some(since) = self.suspended_at else { return Ok(()) };
        Err(ForgeError::Denied {
            message: format!(
                "the App's installation is suspended since {}: unsuspend it at {}",
                since.format("%Y-%m-%d %H:%M UTC"),
                self.html_url
            ),
        })
    }
}

#[derive(Clone)]
struct Token {
    secret: SecretString,
    expires_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct MintedBody {
    token: SecretString,
    expires_at: DateTime<Utc>,
}

/// What is known about us at one repository. Whoever asks GitHub about it holds it meanwhile, so
/// that a token is minted once however many calls wait for it.
#[derive(Default)]
struct Known {
    installation: Option<Installation>,
    tokens: HashMap<Kind, Token>,
}

type Told = Box<dyn Fn(&SecretString) + Send + Sync>;

/// An App and what it learnt about itself.
pub(super) struct App {
    pub(super) signer: Signer,
    /// By the repository's name in lower case.
    known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
    /// The same, for those that cannot wait.
    installations: Mutex<HashMap<String, u64>>,
    slug: OnceLock<String>,
    pub(super) told: Option<Told>,
}

impl App {
    pub(super) fn new(signer: Signer) -> Self {
        Self {
            signer,
            known: Mutex::default(),
            installations: Mutex::default(),
            slug: OnceLock::new(),
            told: None,
        }
    }

    fn known(&self, repository: &RepositoryName) -> Arc<tokio::sync::Mutex<Known>> {
        Arc::clone(held(&self.known).entry(repository.key()).or_default())
    }

    pub(super) fn forget(&self, repository: &RepositoryName) {
        held(&self.known).remove(&repository.key());
    }

    /// The installation a repository was last seen in.
    pub(super) fn installation_of(&self, repository: &RepositoryName) -> Option<u64> {
        held(&self.installations).get(&repository.key()).copied()
    }
}

/// What it guards is whole after every statement.
pub(super) fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Deserialize)]
struct AppBody {
    slug: String,
}

#[derive(Deserialize)]
struct NameBody {
    full_name: RepositoryName,
}

impl Client {
    /// The App's name in addresses.
    pub(crate) async fn app_slug(&self) -> Result<String> {
        let app = self.app()?;
        if let Some(slug) = app.slug.get() {
            return Ok(slug.clone());
        }
        let slug = self.for_app().get(Endpoint::App, &[], &[]).await?.json::<AppBody>()?.slug;
        Ok(app.slug.get_or_init(|| slug).clone())
    }

    /// The installation that covers a repository, asked now.
    pub(crate) async fn installation(&self, repository: &RepositoryName) -> Result<Installation> {
        let app = self.app()?;
        let known = app.known(repository);
        let mut known = known.lock().await;
        *known = Known::default();
        self.look_up(app, repository, &mut known).await
    }

    /// A token for calls about a repository. One that was `refused` is thrown away first.
    pub(super) async fn token(
        &self,
        app: &App,
        repository: &RepositoryName,
        purpose: Purpose,
        refused: Option<&Pass>,
    ) -> Result<Pass> {
        let kind = purpose.kind()?;
        let known = app.known(repository);
        let mut known = known.lock().await;
        if let Some(refused) = refused {
            // Another call may have had a new one minted meanwhile.
            let refused = refused.secret.expose_secret();
            known.tokens.retain(|_, token| token.secret.expose_secret() != refused);
        }
        let there = app.signer.there(self.clock.now());
        if let (Some(installation), Some(token)) = (&known.installation, known.tokens.get(&kind))
            && there + BEFORE_THE_END < token.expires_at
        {
            installation.check_grants(purpose)?;
            return Ok(Pass {
                secret: token.secret.clone(),
                account: Account::Installation(installation.id),
            });
        }
        let fresh = known.installation.take().filter(|known| there < known.seen_at + LOOKED_UP_FOR);
        let minted = match fresh {
            Some(installation) => {
                known.installation = Some(installation.clone());
                // Said at once: asking again each time would cost a call each time.
                installation.check_grants(purpose)?;
                match self.mint(app, repository, &installation, purpose).await {
                    // What we knew of the installation may be old.
                    Err(
                        ForgeError::Denied { .. } | ForgeError::Missing { .. } | ForgeError::Invalid { .. },
                    ) => None,
                    minted => Some((installation.id, minted?)),
                }
            }
            None => None,
        };
        let (id, token) = match minted {
            Some(minted) => minted,
            None => {
                known.tokens.clear();
                let installation = self.look_up(app, repository, &mut known).await?;
                (installation.id, self.mint(app, repository, &installation, purpose).await?)
            }
        };
        let pass = Pass { secret: token.secret.clone(), account: Account::Installation(id) };
        known.tokens.insert(kind, token);
        Ok(pass)
    }

    /// Why a call was refused that our token should have been good for, in words that say what to
    /// do: the installation is suspended, gone or narrowed.
    pub(super) async fn explained(
        &self,
        app: &App,
        repository: &RepositoryName,
        purpose: Purpose,
        refused: ForgeError,
    ) -> ForgeError {
        let known = app.known(repository);
        let mut known = known.lock().await;
        let before = known.installation.take();
        match self.look_up(app, repository, &mut known).await {
            Ok(now) => {
                // Tokens of an installation that is as it was are good for other calls.
                if before.is_none_or(|before| before.id != now.id || before.permissions != now.permissions) {
                    known.tokens.clear();
                }
                now.lacks(purpose).unwrap_or(refused)
            }
            Err(
                why @ (ForgeError::Denied { .. }
                | ForgeError::Missing { .. }
                | ForgeError::BadCredential { .. }),
            ) => {
                known.tokens.clear();
                why
            }
            Err(
                ForgeError::Limited { .. }
                | ForgeError::Conflict { .. }
                | ForgeError::Invalid { .. }
                | ForgeError::Unsupported { .. }
                | ForgeError::Outage { .. },
            ) => refused,
        }
    }

    async fn look_up(
        &self,
        app: &App,
        repository: &RepositoryName,
        known: &mut Known,
    ) -> Result<Installation> {
        let call = self.prepared(Endpoint::AppInstallation, Some(repository), &[])?;
        let mut installation: Installation = match self.call_as_app(app, &call).await {
            Ok(answer) => answer.json()?,
            Err(ForgeError::Missing { .. }) => {
                return Err(ForgeError::Missing {
                    message: format!(
                        "the App is not installed on {repository}, or the repository is gone: install it there, or add the repository to its installation"
                    ),
                });
            }
            Err(error) => return Err(error),
        };
        installation.seen_at = app.signer.there(self.clock.now());
        app.slug.get_or_init(|| installation.app_slug.clone());
        held(&app.installations).insert(repository.key(), installation.id);
        installation.check_suspension()?;
        known.installation = Some(installation.clone());
        Ok(installation)
    }

    /// A token with what the purpose's kind takes, as far as the installation has it: one that
    /// lacks a nicety does not lose the rest.
    async fn mint(
        &self,
        app: &App,
        repository: &RepositoryName,
        installation: &Installation,
        purpose: Purpose,
    ) -> Result<Token> {
        installation.check_grants(purpose)?;
        let grants = purpose.kind()?.grants().into_iter().filter(|grant| installation.grants(*grant));
        let permissions: BTreeMap<_, _> = grants.collect();
        let mint = async |name: Option<&str>, permissions: serde_json::Value| {
            let mut call = self.prepared(Endpoint::MintToken, None, &[&installation.id.to_string()])?;
            let mut body = json!({ "permissions": permissions });
            if let Some(name) = name {
                body["repositories"] = json!([name]);
            }
            call.body = Some(&body);
            let minted: MintedBody = self.call_as_app(app, &call).await?.json()?;
            if let Some(told) = &app.told {
                told(&minted.token);
            }
            Ok(Token { secret: minted.token, expires_at: minted.expires_at })
        };
        let refused = match mint(Some(repository.name()), json!(permissions)).await {
            Err(ForgeError::Invalid { message }) if !message.contains("permissions requested") => message,
            minted => return minted,
        };
        // It may have another name now: a token takes the name of today, while what reads is
        // followed from an old one. What finds it may know that it exists, and nothing else.
        let finder = mint(None, json!({ "metadata": "read" })).await?;
        let pass = Pass { secret: finder.secret, account: Account::Installation(installation.id) };
        let call = self.prepared(Endpoint::Repository, Some(repository), &[])?;
        let found = self.send(&pass, &call).await.map_err(|refusal| refusal.error)?;
        let name = found.json::<NameBody>()?.full_name;
        if name == *repository {
            return Err(ForgeError::Denied {
                message: format!("GitHub gives the App no token for {repository}: {refused}"),
            });
        }
        // The installation may have another repository of that name.
        if !installation.is_of(&name, repository) {
            return Err(ForgeError::Missing {
                message: format!(
                    "{repository} is {name} now, which is not in the App's installation {}",
                    installation.html_url
                ),
            });
        }
        mint(Some(name.name()), json!(permissions)).await
    }
}
