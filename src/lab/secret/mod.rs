//! Secrets: made at the first `up`, kept by later ones in the state folder (0600), wiped with it by `down`.
//!
//! ```text
//! secrets/<name>.json   { "text": … }   or   { "crt": …, "key": …, "ca": … }
//! ```
//!
//! **Guarantees.** A value leaves this module through [`Hidden::reveal`] only: what is derived from `Debug` shows nothing. Texts
//! for people go through a [`Redactor`] first.

mod field;
mod fill;
mod generate;
mod redact;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::LabError;
use super::kube::Api;
use super::machine::Machine;
use super::state::State;
use crate::base::digest::Digest;
use crate::model::profile::{Profile, Secret};

pub use fill::{FillError, Reference, fill, references};
pub use redact::Redactor;

/// A text nobody is to see.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the cluster or a 0600 file only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// One secret's values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Values {
    /// A password, a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Hidden>,
    /// Certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crt: Option<Hidden>,
    /// Its key, PKCS #8 as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Hidden>,
    /// The certificate of the authority that signed it, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Hidden>,
}

impl Values {
    fn all(&self) -> impl Iterator<Item = &Hidden> {
        // Certificates are public.
        self.text.iter().chain(&self.key)
    }
}

/// The secrets of a lab. May be used by several deploys at once.
pub struct Secrets {
    state: State,
    tables: BTreeMap<String, Secret>,
    values: Mutex<BTreeMap<String, Values>>,
    redactor: Arc<Redactor>,
}

impl Secrets {
    /// Reads the secrets that are there and makes those that can be made without a cluster.
    ///
    /// # Errors
    /// A state folder that can not be read or written; a secret that can not be made.
    pub fn open(state: &State, profile: &Profile, machine: &Machine) -> Result<Self, LabError> {
        let mut values: BTreeMap<String, Values> = BTreeMap::new();
        // Authorities before what they sign.
        let signs = |s: &Secret| s.ca.is_none();
        let tables = &profile.secret;
        for (name, secret) in tables.iter().filter(|(_, s)| signs(s)).chain(tables.iter().filter(|(_, s)| !signs(s))) {
            let file = file(name);
            if let Some(kept) = state.read_json(&file)? {
                values.insert(name.clone(), kept);
            } else if secret.field.is_none() {
                let ca = secret.ca.as_ref().and_then(|ca| Some((tables.get(ca.as_str())?, values.get(ca.as_str())?)));
                let made = generate::generate(name, secret, ca, machine.now)?;
                state.write_json(&file, &made)?;
                values.insert(name.clone(), made);
            }
        }
        let redactor = Arc::new(Redactor::default());
        values.values().for_each(|v| redactor.learn(v));
        Ok(Self { state: state.clone(), tables: profile.secret.clone(), values: Mutex::new(values), redactor })
    }

    /// Takes the values known so far out of texts.
    pub fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.redactor)
    }

    /// The values of `name`, where they are known already.
    pub fn get(&self, name: &str) -> Option<Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether the profile has a secret called `name`.
    pub fn is_there(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// Makes sure that every secret of `names` has values: reads fields of objects in clusters, waiting for them until `deadline`.
    ///
    /// # Errors
    /// An object or field that is not there by then.
    pub async fn fetch(
        &self,
        names: impl Iterator<Item = &str>,
        apis: &BTreeMap<String, Api>,
        deadline: tokio::time::Instant,
    ) -> Result<(), LabError> {
        for name in names {
            let Some(field) = self.tables.get(name).and_then(|s| s.field.as_ref()) else { continue };
            if self.get(name).is_some() {
                continue;
            }
            let text = field::read(name, field, apis, deadline).await?;
            let values = Values { text: Some(Hidden::new(text)), ..Values::default() };
            self.state.write_json(&file(name), &values)?;
            self.redactor.learn(&values);
            self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), values);
        }
        Ok(())
    }

    /// A digest over the values of `names`: whether something has to be applied again.
    pub fn digest<'a>(&self, names: impl Iterator<Item = &'a str>) -> Digest {
        let values: Vec<_> = names.map(|name| (name, self.get(name))).collect();
        // A list of strings and options of strings always serialises.
        Digest::of(&serde_json::to_vec(&values).unwrap_or_default())
    }
}

fn file(name: &str) -> String {
    format!("secrets/{name}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_hidden_text() {
        let hidden = Hidden::new("hunter22");
        let values = Values { text: Some(hidden.clone()), ..Values::default() };
        assert!(!format!("{hidden} {hidden:?} {values:?} {values:#?}").contains("hunter"));
    }
}
