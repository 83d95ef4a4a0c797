//! Apps, and where they are installed.

use anyhow::Context;

use super::{Simulator, key};
use crate::{
    apps::{FromManifest, Key, MintedToken, NewApp, Permissions},
    world::World,
};

impl Simulator {
    /// Registers an App. All Apps of a process have the same key, because making one takes time.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create_app(&self, slug: &str, url: &str, secret: &str) -> anyhow::Result<NewApp> {
        let key = Key::shared()?;
        Ok(self.change(|world| world.create_app(slug, url, secret, &key)))
    }

    /// Registers an App with a key of its own.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create_app_with_fresh_key(&self, slug: &str, url: &str, secret: &str) -> anyhow::Result<NewApp> {
        let key = Key::generate()?;
        Ok(self.change(|world| world.create_app(slug, url, secret, &key)))
    }

    /// Creates an App as a person does who submits a manifest, and gives the code that GitHub sends
    /// the browser back with.
    ///
    /// # Errors
    /// When the manifest is not one, or no key can be made.
    pub fn submit_manifest(&self, manifest: &serde_json::Value) -> anyhow::Result<String> {
        let key = Key::shared()?;
        let text = |pointer: &str| {
            let found = manifest.pointer(pointer).and_then(serde_json::Value::as_str);
            found.map(str::to_owned).with_context(|| format!("the manifest has no {pointer}"))
        };
        let (name, hook) = (text("/name")?, text("/hook_attributes/url")?);
        text("/url")?;
        text("/redirect_url")?;
        let permissions = manifest["default_permissions"].as_object().context("no permissions")?;
        let permissions: Vec<(&str, &str)> =
            permissions.iter().filter_map(|(name, level)| Some((name.as_str(), level.as_str()?))).collect();
        Permissions::of(&permissions)?;
        let events = manifest["default_events"].as_array().context("no events")?;
        let events: Vec<String> = events.iter().filter_map(|e| e.as_str().map(str::to_owned)).collect();
        self.change(|world| {
            let random = |world: &World| hex::encode(world.ids.bytes::<20>());
            let (code, client_secret, webhook_secret) = (random(world), random(world), random(world));
            let slug = name.to_lowercase().replace(' ', "-");
            let app = world.create_app(&slug, &hook, &webhook_secret, &key);
            if let Some(made) = world.apps.registered.get_mut(&app.id) {
                made.hook.events = events;
            }
            let private_key = app.private_key;
            let made = FromManifest { id: app.id, client_secret, webhook_secret, private_key };
            world.apps.codes.insert(code.clone(), made);
            Ok(code)
        })
    }

    /// Where an App's deliveries go, and what they are signed with. An empty address: nowhere.
    ///
    /// # Errors
    /// When there is no such App.
    pub fn set_app_hook(&self, app: u64, url: &str, secret: &str) -> anyhow::Result<()> {
        Ok(self.change(|world| world.set_app_hook(app, url, secret))?)
    }

    /// Installs an App on an account, for some of its repositories (`owner/name`) or, when none is
    /// given, for all, with permissions such as `("issues", "write")`. Gives the installation's id.
    ///
    /// # Errors
    /// When App, account or repository are not there, or a permission is none.
    pub fn install_app(
        &self,
        app: u64,
        account: &str,
        repositories: &[&str],
        permissions: &[(&str, &str)],
    ) -> anyhow::Result<u64> {
        let permissions = Permissions::of(permissions)?;
        let keys = repositories.iter().map(|r| key(r)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(self.change(|world| world.install(app, account, &keys, permissions))?)
    }

    /// Takes an installation away, with its tokens.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn uninstall(&self, installation: u64) -> anyhow::Result<()> {
        Ok(self.change(|world| world.uninstall(installation))?)
    }

    /// Suspends an installation: its tokens are refused, and no events are sent.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn suspend(&self, installation: u64) -> anyhow::Result<()> {
        Ok(self.change(|world| world.set_suspended(installation, true))?)
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// When there is no such installation.
    pub fn unsuspend(&self, installation: u64) -> anyhow::Result<()> {
        Ok(self.change(|world| world.set_suspended(installation, false))?)
    }

    /// Adds a repository to those an installation covers.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn add_to_installation(&self, installation: u64, repository: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.select(installation, &key, true))?)
    }

    /// Takes a repository away from those an installation covers.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn remove_from_installation(&self, installation: u64, repository: &str) -> anyhow::Result<()> {
        let key = key(repository)?;
        Ok(self.change(|world| world.select(installation, &key, false))?)
    }

    /// Replaces an installation's permissions, also those of tokens that are out.
    ///
    /// # Errors
    /// When there is no such installation, or a permission is none.
    pub fn set_installation_permissions(
        &self,
        installation: u64,
        permissions: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let permissions = Permissions::of(permissions)?;
        Ok(self.change(|world| world.set_installation_permissions(installation, permissions))?)
    }

    /// Every installation token that is out is dead at once.
    pub fn expire_tokens(&self) {
        self.change(|world| world.apps.tokens.clear());
    }

    /// Installation tokens that were minted, oldest first.
    pub fn tokens_minted(&self) -> Vec<MintedToken> {
        self.read(|world| world.apps.minted.clone())
    }
}
