//! Which host keys are trusted: pinned ones, a `known_hosts` file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), or the first
//! that comes, which is then kept in such a file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, EcdsaCurve, PublicKey};

use super::Hop;
use super::error::SshError;
use super::identity::{fingerprint, is_rsa};
use crate::base::{atomic, flock};

/// How long to wait for another process that writes the same file.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest file that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// Which host keys are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// These and no others: lines as in `ssh_host_ed25519_key.pub`.
    Pinned(Vec<String>),
    /// Those a `known_hosts` file has for the host; hashed names, patterns, `[host]:port` and `@revoked` are understood.
    KnownHosts(PathBuf),
    /// The first that comes, kept in this file (format of `known_hosts`, mode 0600); from then on only that one.
    FirstUse(PathBuf),
}

/// What is known of one host.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    name: String,
    address: String,
    key_name: String,
    keys: HostKeys,
    trusted: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

impl Trust {
    /// Reads what is known of `hop`; `name` is for messages.
    ///
    /// # Errors
    /// Files that can not be read, pinned lines that are no keys, hosts of which only RSA keys or no keys are known.
    pub(super) fn load(hop: &Hop, name: &str) -> Result<Self, SshError> {
        let key_name = if hop.port == 22 {
            hop.host.to_lowercase()
        } else {
            format!("[{}]:{}", hop.host.to_lowercase(), hop.port)
        };
        let mut trust = Self {
            name: name.to_owned(),
            address: hop.address(),
            key_name,
            keys: hop.host_keys.clone(),
            trusted: Vec::new(),
            revoked: Vec::new(),
        };
        let rsa = trust.read()?;
        match &trust.keys {
            HostKeys::FirstUse(_) if !rsa => {}
            _ if trust.trusted.is_empty() => return Err(trust.unknown(rsa)),
            _ => {}
        }
        Ok(trust)
    }

    /// Algorithms to ask for: those of the trusted keys first, so that a server with several shows the one that is known.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let ecdsa = |curve| Algorithm::Ecdsa { curve };
        let all =
            [Algorithm::Ed25519, ecdsa(EcdsaCurve::NistP256), ecdsa(EcdsaCurve::NistP384), ecdsa(EcdsaCurve::NistP521)];
        let known = |a: &Algorithm| self.trusted.iter().any(|k| k.algorithm() == *a);
        let (first, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(known);
        [first, rest].concat()
    }

    /// Whether `key` is trusted; keeps it when it is the first.
    ///
    /// # Errors
    /// [`SshError::HostKey`] for another key, I/O errors where it is to be kept.
    pub(super) fn check(mut self, key: &PublicKey) -> Result<(), SshError> {
        let HostKeys::FirstUse(path) = self.keys.clone() else { return self.judge(key) };
        if !self.trusted.is_empty() {
            return self.judge(key);
        }
        // Another process, or another host of this one, may have been first.
        let _lock = flock::lock(&lock_path(&path), flock::Mode::Exclusive, PATIENCE).map_err(io::Error::other)?;
        self.read()?;
        if self.trusted.is_empty() && self.revoked.is_empty() {
            return keep(&path, &self.key_name, key);
        }
        self.judge(key)
    }

    fn judge(&self, key: &PublicKey) -> Result<(), SshError> {
        let among = |keys: &[PublicKey]| keys.iter().any(|k| k.key_data() == key.key_data());
        if among(&self.trusted) && !among(&self.revoked) {
            return Ok(());
        }
        let revoked = if among(&self.revoked) { " (revoked)" } else { "" };
        Err(SshError::HostKey {
            host: self.name.clone(),
            address: self.address.clone(),
            trusted: self.trusted.iter().map(fingerprint).collect(),
            offered: format!("{}{revoked}", fingerprint(key)),
            source_name: self.source(),
        })
    }

    /// Fills `trusted` and `revoked`; says whether RSA keys were left out.
    fn read(&mut self) -> Result<bool, SshError> {
        let (mut trusted, mut revoked) = (Vec::new(), Vec::new());
        match &self.keys {
            HostKeys::Pinned(lines) => {
                for line in lines.iter().map(|l| l.trim()).filter(|l| !l.is_empty()) {
                    trusted.push(PublicKey::from_openssh(line).map_err(|e| SshError::Key {
                        what: format!("the pinned host key of {}", self.name),
                        why: format!("`{line}` is not a public key: {e}"),
                    })?);
                }
            }
            HostKeys::KnownHosts(path) | HostKeys::FirstUse(path) => {
                for entry in entries(path)?.into_iter().filter(|e| names(e.host_patterns(), &self.key_name)) {
                    match entry.marker() {
                        None => trusted.push(entry.public_key().clone()),
                        Some(Marker::Revoked) => revoked.push(entry.public_key().clone()),
                        // Certificates of hosts are not asked for.
                        Some(Marker::CertAuthority) => {}
                    }
                }
            }
        }
        let before = trusted.len();
        trusted.retain(|key| !is_rsa(key));
        let rsa = trusted.len() < before;
        (self.trusted, self.revoked) = (trusted, revoked);
        Ok(rsa)
    }

    fn unknown(&self, rsa: bool) -> SshError {
        let source = self.source();
        let why = match rsa {
            true => format!("{source} has only its RSA key, and RSA keys are not taken (RUSTSEC-2023-0071)"),
            false => format!("{source} has no key for `{}`", self.key_name),
        };
        let (host, port) = self.address.rsplit_once(':').unwrap_or((&self.address, "22"));
        let host = host.trim_matches(['[', ']']);
        let scan = format!("ssh-keyscan -t ed25519,ecdsa -p {port} {host}");
        let hint = match &self.keys {
            HostKeys::Pinned(_) => {
                format!("pin what `{scan}` prints, once it was compared with the machine's own console")
            }
            HostKeys::KnownHosts(path) | HostKeys::FirstUse(path) => {
                format!(
                    "compare what `{scan}` prints with the machine's own console, then add it to `{}`",
                    path.display()
                )
            }
        };
        SshError::UnknownHost { host: self.name.clone(), address: self.address.clone(), why, hint }
    }

    fn source(&self) -> String {
        match &self.keys {
            HostKeys::Pinned(_) => "the pinned keys".to_owned(),
            HostKeys::KnownHosts(path) | HostKeys::FirstUse(path) => format!("`{}`", path.display()),
        }
    }
}

/// The entries of a file; lines that are none are passed over, as ssh(1) does. A file that is not there has none.
fn entries(path: &Path) -> Result<Vec<Entry>, SshError> {
    use std::io::Read;
    let mut text = Vec::new();
    match fs_err::File::open(path) {
        Ok(file) => file.take(FILE_LIMIT).read_to_end(&mut text)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).filter_map(|l| l.parse().ok()).collect())
}

/// Whether an entry speaks of `name`.
fn names(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            aws_lc_rs::hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let hit = |p: &str| glob(p.to_lowercase().as_bytes(), name.as_bytes());
            let not = patterns.iter().filter_map(|p| p.strip_prefix('!')).any(hit);
            !not && patterns.iter().filter(|p| !p.starts_with('!')).any(|p| hit(p))
        }
    }
}

/// `*` and `?` (ssh_config(5), "PATTERNS"), in time of pattern times text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut back) = (0, 0, None);
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if c == byte || *c == b'?' => (p, t) = (p + 1, t + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    path.with_file_name(name)
}

/// Adds a line to the file: the whole file anew, then renamed, mode 0600.
fn keep(path: &Path, name: &str, key: &PublicKey) -> Result<(), SshError> {
    let mut text = match fs_err::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    let mut bare = key.clone();
    bare.set_comment("");
    let line = bare.to_openssh().map_err(io::Error::other)?;
    text.extend_from_slice(format!("{name} {}\n", line.trim_end()).as_bytes());
    let dir = atomic::parent(path);
    // Made with mode 0600.
    let mut temp = tempfile::Builder::new().prefix(".known_hosts.").tempfile_in(dir)?;
    temp.write_all(&text)?;
    temp.as_file().sync_all()?;
    temp.persist(path).map_err(|e| atomic::at(path, "write", e.error))?;
    Ok(atomic::sync_dir(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn hop(port: u16, host_keys: HostKeys) -> Hop {
        Hop { host: "Web.example".into(), port, user: "x".into(), host_keys, identities: Vec::new() }
    }

    fn key(line: &str) -> PublicKey {
        PublicKey::from_openssh(line).unwrap()
    }

    #[test]
    fn another_key_shows_both_fingerprints() {
        let trust = Trust::load(&hop(22, HostKeys::Pinned(vec![ONE.into()])), "web").unwrap();
        trust.clone().check(&key(ONE)).unwrap();
        let error = trust.check(&key(TWO)).unwrap_err();
        assert_eq!(error.kind(), super::super::SshKind::Mismatch);
        for line in [ONE, TWO] {
            assert!(error.to_string().contains(&fingerprint(&key(line))), "{error}");
        }
    }

    #[test]
    fn known_hosts_lines_are_read_as_ssh_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let load = |text: &str, port| {
            fs_err::write(&path, text).unwrap();
            Trust::load(&hop(port, HostKeys::KnownHosts(path.clone())), "web").map(|t| t.judge(&key(ONE)).is_ok())
        };
        assert!(load(&format!("# x\nrubbish\nother,WEB.example\t{ONE} comment\n"), 22).unwrap());
        assert!(load(&format!("[web.example]:2200 {ONE}\n"), 2200).unwrap());
        assert!(load(&format!("*.exam?le {ONE}\n"), 22).unwrap());
        assert!(load(&format!("*.example,!web.* {ONE}\n"), 22).is_err());
        assert!(load(&format!("web.example {ONE}\n"), 2200).is_err());
        assert!(!load(&format!("web.example {TWO}\n"), 22).unwrap());
        assert!(!load(&format!("web.example {ONE}\n@revoked * {ONE}\n"), 22).unwrap());
        // `ssh-keygen -H` of `web.example`.
        let hashed = "|1|AAECAwQFBgcICQoLDA0ODxAREhM=|";
        let salt: Vec<u8> = (0..20).collect();
        let mac = aws_lc_rs::hmac::sign(
            &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt),
            b"web.example",
        );
        let line = format!("{hashed}{} {ONE}\n", crate::base::base64::encode(mac.as_ref()));
        assert!(load(&line, 22).unwrap());
        assert!(load(&line, 23).is_err());
    }

    #[test]
    fn the_first_key_is_kept_and_then_held_to() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let load = || Trust::load(&hop(2200, HostKeys::FirstUse(path.clone())), "web").unwrap();
        let before = load();
        load().check(&key(ONE)).unwrap();
        assert!(before.check(&key(TWO)).is_err(), "somebody else was first");
        assert!(load().check(&key(TWO)).is_err());
        load().check(&key(ONE)).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), format!("[web.example]:2200 {ONE}\n"));
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
