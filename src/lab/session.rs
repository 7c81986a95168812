//! A bundle that is to be, or is, a running lab.

use std::path::Path;
use std::sync::Arc;

use super::docker::Docker;
use super::docker::image::Loaded;
use super::error::LabError;
use super::machine::Machine;
use super::state::{LabFile, State};
use crate::base::bounds::{LOCK_BYTES, PROFILE_BYTES};
use crate::base::report::Reporter;
use crate::model::image::ImageRef;
use crate::model::lock::{Lock, is_labimg, wire};
use crate::model::profile::{Cluster, Profile, is_name, parse};
use crate::store::bundle::{Bundle, LOCK_PATH, PROFILE_PATH};

/// What every part of bring-up works with.
pub struct Session {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Its profile, imports merged.
    pub profile: Profile,
    /// Its lock.
    pub lock: Lock,
    /// The lab's state folder.
    pub state: State,
    /// The machine.
    pub machine: Machine,
    /// Who is told of progress.
    pub reporter: Arc<dyn Reporter>,
}

fn no_bundle(path: &Path, error: std::io::Error) -> LabError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            LabError::failed(format!("there is no bundle `{}`", path.display()), "no such file")
                .hint("`labimg build PROFILE -o DIR` writes one")
        }
        _ => LabError::io(path, "open", error),
    }
}

impl Session {
    /// Opens a bundle; nothing is made or started.
    ///
    /// # Errors
    /// A bundle, profile or lock that can not be read.
    pub fn open(path: &Path, machine: Machine, reporter: Arc<dyn Reporter>) -> Result<Self, LabError> {
        let path = fs_err::canonicalize(path).map_err(|e| no_bundle(path, e))?;
        let bundle = Bundle::open_checked(&path)?;
        let what = |text: &str| format!("`{}`, {text}", path.display());
        let text = bundle.text(PROFILE_PATH, PROFILE_BYTES)?;
        let mut none = |_: &str| Err("a bundle's profile has no imports".to_owned());
        let loaded =
            parse("labimg/profile.toml", &text, &mut none).map_err(|e| LabError::mismatch(what("its profile"), e))?;
        let lock =
            wire::parse(&bundle.text(LOCK_PATH, LOCK_BYTES)?).map_err(|e| LabError::mismatch(what("its lock"), e))?;
        // The name is that of the state folder, which `down` removes.
        let named = &bundle.index().name;
        if !is_name(&lock.name) || *named != lock.name || *loaded.profile.name != lock.name {
            let why = format!(
                "its index calls the lab `{named}`, its lock `{}`, its profile `{}`",
                lock.name, *loaded.profile.name
            );
            return Err(LabError::mismatch(format!("`{}`", path.display()), why)
                .hint("labimg did not write it so: build it again"));
        }
        let state = State::new(&machine.state_root, &lock.name);
        Ok(Self { bundle: Arc::new(bundle), profile: loaded.profile, lock, state, machine, reporter })
    }

    /// Opens the lab called `name` that is up, or half up: its bundle is where it was.
    ///
    /// # Errors
    /// No such lab; a bundle that is gone or not the one the lab was made from.
    pub fn of_lab(name: &str, machine: Machine, reporter: Arc<dyn Reporter>) -> Result<Self, LabError> {
        let state = State::new(&machine.state_root, name);
        let Some(file) = state.read()? else {
            return Err(LabError::failed(format!("there is no lab `{name}`"), "it was never up, or is down")
                .hint("`labimg status` lists labs; `labimg up BUNDLE` brings one up"));
        };
        let session = Self::open(&file.bundle, machine, reporter).map_err(|error| match error {
            LabError::Io(_) | LabError::Bundle(_) => LabError::failed(format!("the bundle of lab `{name}`"), error)
                .hint(format!(
                    "put the bundle back to `{}`; `labimg down {name}` works without it",
                    file.bundle.display()
                )),
            other => other,
        })?;
        Ok(session)
    }

    /// A cluster of the profile; the only one where `name` is not given.
    ///
    /// # Errors
    /// No such cluster, or several to choose from.
    pub fn cluster(&self, name: Option<&str>) -> Result<&Cluster, LabError> {
        let names = || self.profile.cluster.iter().map(|c| c.name.to_string()).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.profile.cluster.iter().find(|c| *c.name == name).ok_or_else(|| {
                LabError::failed(format!("there is no cluster `{name}`"), format!("the lab has: {}", names()))
            }),
            None => match self.profile.cluster.as_slice() {
                [one] => Ok(one),
                [] => Err(LabError::failed(format!("lab `{}`", self.lock.name), "it has no cluster")),
                _ => Err(LabError::failed("several clusters", names()).hint("say which with `--cluster NAME`")),
            },
        }
    }

    /// Changes `lab.json`, which names this session's bundle from then on. Changes of one process never cross.
    ///
    /// # Errors
    /// A file that can not be read or written.
    pub fn remember(&self, change: impl FnOnce(&mut LabFile)) -> Result<LabFile, LabError> {
        self.state.change(|file| {
            file.name = self.name().to_owned();
            file.bundle = self.bundle.path().to_owned();
            file.identity = Some(self.bundle.identity());
            change(file);
        })
    }

    /// Refuses to go on with a lab that was made from another bundle.
    ///
    /// # Errors
    /// Such a lab; a state folder that can not be read.
    pub fn same_bundle(&self) -> Result<(), LabError> {
        let name = self.name();
        match self.state.read()?.and_then(|file| file.identity) {
            Some(identity) if identity != self.bundle.identity() => {
                let why = format!("it is {}, this bundle is {}", identity.short(), self.bundle.identity().short());
                Err(LabError::failed(format!("lab `{name}` was brought up from another bundle"), why)
                    .hint(format!("`labimg down {name}` takes that lab away; then bring this one up")))
            }
            _ => Ok(()),
        }
    }

    /// Sees to it that the engine has an image of the bundle, and remembers it where it had to be loaded: `down` takes it away.
    ///
    /// # Errors
    /// An image that the bundle does not hold, or an engine that refuses it.
    pub async fn load_image(&self, docker: &Docker, name: &ImageRef) -> Result<(), LabError> {
        let platform = docker.platform().await?;
        if docker.ensure_image(self, name, platform).await? == Loaded::New {
            self.remember(|file| file.loaded_images.extend([name.tagged()]))?;
        }
        Ok(())
    }

    /// Whether the bundle holds images of the lab's: labimg's own is none.
    pub fn has_images(&self) -> bool {
        self.bundle.index().contents.images.iter().any(|i| !is_labimg(&i.reference))
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.lock.name
    }
}
