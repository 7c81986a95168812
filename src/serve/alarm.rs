//! Damage that is found while serving, told once to whoever runs the server: clients only see that they are refused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::digest::Digest;
use crate::base::report::Reporter;

/// Who is told of damage, and what of was told.
#[derive(Default)]
pub(super) struct Alarm {
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    reporter: Option<Arc<dyn Reporter>>,
    of: HashSet<Digest>,
    /// What was found before there was a reporter.
    kept: Vec<String>,
}

impl Alarm {
    /// From now on this reporter is told; of what was found before at once.
    pub(super) fn report_to(&self, reporter: Arc<dyn Reporter>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for text in told.kept.drain(..) {
            reporter.warn(&text);
        }
        told.reporter = Some(reporter);
    }

    /// Something is wrong with this blob of `from`. Said once for each blob.
    pub(super) fn damaged(&self, digest: &Digest, from: &str, why: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.of.insert(*digest) {
            return;
        }
        let text = format!("{why} (in {from}); clients are refused it");
        match &told.reporter {
            Some(reporter) => reporter.warn(&text),
            None => told.kept.push(text),
        }
    }
}
