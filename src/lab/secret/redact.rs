//! Takes secrets out of texts for people: answers of an API server may repeat what was sent.

use std::sync::{Mutex, PoisonError};

use super::Values;
use crate::base::base64;
use crate::lab::error::LabError;

/// What stands where a secret stood.
const INSTEAD: &str = "(hidden)";
/// Texts shorter than this are not looked for: every message would be full of holes.
const SHORTEST: usize = 6;

/// Knows secret texts, and replaces them.
#[derive(Default)]
pub struct Redactor {
    texts: Mutex<Vec<String>>,
}

impl Redactor {
    /// From now on the values are replaced, plain, in base64, and line by line.
    pub fn learn(&self, values: &Values) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        for hidden in values.all() {
            let text = hidden.reveal();
            let lines = text.lines().filter(|line| !line.starts_with("-----"));
            for form in lines.map(str::to_owned).chain([text.to_owned(), base64::encode(text.as_bytes())]) {
                if form.len() >= SHORTEST && !texts.contains(&form) {
                    texts.push(form);
                }
            }
        }
        // The whole text before its lines.
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    }

    /// `text` without secrets.
    pub fn scrub(&self, text: &str) -> String {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.iter().fold(text.to_owned(), |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), INSTEAD),
            false => text,
        })
    }

    /// The error without secrets.
    pub fn clean(&self, mut error: LabError) -> LabError {
        let scrub = |text: &mut String| *text = self.scrub(text);
        match &mut error {
            LabError::Command { line, status: _, tail, hint } => {
                scrub(line);
                scrub(tail);
                hint.iter_mut().for_each(scrub);
            }
            LabError::NotReady { what, waited: _, at, reasons, hint } => {
                scrub(what);
                reasons.iter_mut().for_each(scrub);
                at.iter_mut().chain(hint).for_each(scrub);
            }
            LabError::Failed { what, why, hint, kind: _ } => {
                scrub(what);
                scrub(why);
                hint.iter_mut().for_each(scrub);
            }
            LabError::Bundle(_) | LabError::Io(_) | LabError::Preflight(_) | LabError::Lacking { .. } => {}
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hidden;
    use super::*;

    #[test]
    fn secrets_are_taken_out_in_every_form() {
        let redactor = Redactor::default();
        let key = "-----BEGIN PRIVATE KEY-----\nAAAABBBB\nCCCCDDDD\n-----END PRIVATE KEY-----\n";
        let values = Values { text: Some(Hidden::new("hunter22")), key: Some(Hidden::new(key)), ..Values::default() };
        redactor.learn(&values);
        let text = format!("a hunter22 b {} c CCCCDDDD d {key}", base64::encode(b"hunter22"));
        let clean = redactor.scrub(&text);
        assert_eq!(clean, "a (hidden) b (hidden) c (hidden) d (hidden)");
        let error = redactor.clean(LabError::failed("x hunter22", "y hunter22").hint("z hunter22"));
        assert!(!format!("{error} {error:?}").contains("hunter22"));
    }
}
