//! Keys to log in with: files, text, an agent (draft-miller-ssh-agent).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::ssh_key;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

use super::command::Secret;
use super::error::SshError;

/// Longest key file that is read, in bytes.
const KEY_LIMIT: u64 = 64 * 1024;

/// A key to offer, or an agent that holds some.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A private key in OpenSSH's format (openssh, PROTOCOL.key).
    File {
        /// The file.
        path: PathBuf,
        /// What opens it, when it is encrypted.
        passphrase: Option<Secret>,
    },
    /// The text of an unencrypted private key in the same format.
    Text(Secret),
    /// The socket of an agent; all its keys are offered.
    Agent(PathBuf),
}

impl Identity {
    /// A new ed25519 key that is in memory alone, and its public half as a line of `authorized_keys`.
    ///
    /// # Errors
    /// A system without random numbers.
    pub fn fresh() -> Result<(Self, String), SshError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let key = PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&seed));
        let text = key.to_openssh(ssh_key::LineEnding::LF).map_err(io::Error::other)?;
        let line = key.public_key().to_openssh().map_err(io::Error::other)?;
        Ok((Self::Text(Secret::new(text.as_str())), line))
    }
}

/// Loads a key; the name is for messages.
///
/// # Errors
/// Files that can not be read, are no keys, are RSA keys, or open with another passphrase.
pub(super) fn load(identity: &Identity) -> Result<Option<(Arc<PrivateKey>, String)>, SshError> {
    let (text, passphrase, what) = match identity {
        Identity::File { path, passphrase } => {
            (read(path)?, passphrase.as_ref(), format!("the key file `{}`", path.display()))
        }
        Identity::Text(text) => (text.clone(), None, "the given key".to_owned()),
        Identity::Agent(_) => return Ok(None),
    };
    let bad = |why: String| SshError::Key { what: what.clone(), why };
    let text = text.expose().trim_start();
    if text.contains("-----BEGIN RSA PRIVATE KEY-----") {
        return Err(bad(no_rsa()));
    }
    let key = PrivateKey::from_openssh(text).map_err(|e| bad(not_a_key(text, &e)))?;
    // The public half stands outside the encrypted part: no passphrase is asked for a key that is of no use.
    if is_rsa(key.public_key()) {
        return Err(bad(no_rsa()));
    }
    let key = match (key.is_encrypted(), passphrase) {
        (false, _) => key,
        (true, None) => return Err(bad("it is encrypted and no passphrase was given".to_owned())),
        (true, Some(secret)) => {
            key.decrypt(secret.expose()).map_err(|_| bad("the passphrase does not open it".to_owned()))?
        }
    };
    Ok(Some((Arc::new(key), what)))
}

/// `ssh-ed25519 SHA256:…`
pub(super) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// Whether it is an RSA key.
pub(super) fn is_rsa(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::Rsa { .. })
}

/// Why RSA keys are refused.
pub(super) fn no_rsa() -> String {
    "RSA keys are not taken (RUSTSEC-2023-0071): use an ed25519 or ECDSA key".to_owned()
}

fn not_a_key(text: &str, error: &ssh_key::Error) -> String {
    match text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
        true => format!("not a usable private key: {error}"),
        false => "not a private key in OpenSSH's format (`ssh-keygen -p -f FILE` converts older ones)".to_owned(),
    }
}

fn read(path: &std::path::Path) -> Result<Secret, SshError> {
    use std::io::Read;
    let mut text = String::new();
    fs_err::File::open(path)?.take(KEY_LIMIT).read_to_string(&mut text)?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        load(&Identity::Text(Secret::new(text))).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(why("").contains("OpenSSH's format"));
        assert!(why("-----BEGIN RSA PRIVATE KEY-----\nMII=\n").contains("ed25519 or ECDSA"));
        assert!(
            why("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
                .contains("not a usable")
        );
        let missing = load(&Identity::File { path: "/does/not/exist".into(), passphrase: None }).unwrap_err();
        assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
    }
}
