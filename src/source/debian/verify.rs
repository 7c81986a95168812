//! Signatures of Release files, checked by `gpgv` or `sqv`; only the text that was signed comes back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::DebianError;
use crate::base::base64;
use crate::source::SourceError;

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// The parts of a clear-signed text (RFC 9580, section 7).
struct Clear<'a> {
    /// The text, its lines still escaped.
    text: &'a str,
    /// The signature with its armour.
    signature: &'a str,
}

/// Checks `signed`, which came from `url`, against the keys of `keyring`, and gives the text. `at` is the time of the
/// snapshot it is of: then a key may be over by now. Blocks.
///
/// # Errors
/// When it is not one clear-signed text, not signed by one of the keys, or cannot be checked here.
pub fn verify(signed: &[u8], url: &str, keyring: &Path, at: Option<u64>) -> Result<String, SourceError> {
    let unsigned = |why| DebianError::Unsigned { url: url.to_owned(), why };
    let text = std::str::from_utf8(signed).map_err(|_| unsigned("it is no UTF-8 text"))?;
    let clear = split(text).map_err(unsigned)?;
    if !keyring.is_file() {
        return Err(DebianError::NoKeyring { path: keyring.to_owned(), url: url.to_owned() }.into());
    }
    let dir = tempfile::Builder::new().prefix("labimg-verify-").tempdir();
    let dir =
        dir.map_err(|e| SourceError::Setting { what: "folder for temporary files".to_owned(), why: e.to_string() })?;
    let keyring = plain_keyring(keyring, dir.path())?;
    match gpgv(signed, url, &keyring, dir.path(), at)? {
        Some(text) => Ok(text),
        None => sqv(&clear, url, &keyring, dir.path()),
    }
}

/// Splits what must be one clear-signed text and nothing else: what stands around it is not signed.
fn split(text: &str) -> Result<Clear<'_>, &'static str> {
    let text = text.trim_end();
    let lines_that = |line: &str| text.lines().filter(|l| l.trim_end() == line).count();
    if !text.starts_with(BEGIN) {
        return Err("it is plain text");
    }
    if lines_that(BEGIN) != 1 || lines_that(SIGNATURE) != 1 || !text.ends_with(END) {
        return Err("it must be one clear-signed text and nothing else");
    }
    let (head, signature) = text.split_at(text.find(&format!("\n{SIGNATURE}")).ok_or("it has no signature")? + 1);
    let body = head.split_once("\n\n").or_else(|| head.split_once("\r\n\r\n")).ok_or("it has no text")?.1;
    Ok(Clear { text: body.strip_suffix('\n').unwrap_or(body), signature })
}

/// The keyring as programs read it: one in ASCII armour is decoded (RFC 9580, section 6.2).
fn plain_keyring(path: &Path, dir: &Path) -> Result<PathBuf, SourceError> {
    let failed = |source| SourceError::Io { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let bytes = fs_err::read(&absolute).map_err(failed)?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") => text.replace("\r\n", "\n"),
        _ => return Ok(absolute),
    };
    let mut keys = Vec::new();
    for block in text.split("-----BEGIN PGP PUBLIC KEY BLOCK-----").skip(1) {
        let inside = block.split("-----END").next().unwrap_or_default();
        let body = inside.split_once("\n\n").map_or(inside, |(_, body)| body);
        let data: String = body.lines().map(str::trim).filter(|l| !l.starts_with('=')).collect();
        let bad = || SourceError::Setting {
            what: format!("keyring `{}`", path.display()),
            why: "its ASCII armour can not be decoded".to_owned(),
        };
        keys.extend(base64::decode(&data).ok_or_else(bad)?);
    }
    let plain = dir.join("keyring.gpg");
    fs_err::write(&plain, keys).map_err(failed)?;
    Ok(plain)
}

/// What `gpgv` says; `None` where there is no `gpgv`.
fn gpgv(signed: &[u8], url: &str, keyring: &Path, dir: &Path, at: Option<u64>) -> Result<Option<String>, SourceError> {
    let (input, output) = (dir.join("InRelease"), dir.join("Release"));
    write(&input, signed)?;
    let mut command = Command::new("gpgv");
    command.args(["--status-fd", "1", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160", "--homedir"]);
    command.arg(dir).arg("--keyring").arg(keyring).arg("--output").arg(&output).arg(&input);
    let Some(done) = run(&mut command)? else { return Ok(None) };
    if let Err(why) = judge(&String::from_utf8_lossy(&done.stdout), at) {
        return Err(bad_signature(url, why, &command, &done));
    }
    match fs_err::read_to_string(&output) {
        Ok(text) => Ok(Some(text)),
        Err(e) => Err(bad_signature(url, format!("its text did not come out: {e}"), &command, &done)),
    }
}

/// What gpgv's status lines (GnuPG's `doc/DETAILS`) mean: one good signature is wanted, unknown keys beside it are no
/// matter, a bad signature always is.
fn judge(status: &str, at: Option<u64>) -> Result<(), String> {
    let (mut good, mut why, mut over) = (false, Vec::new(), false);
    for line in status.lines().filter_map(|line| line.strip_prefix("[GNUPG:] ")) {
        let mut words = line.split(' ');
        let (word, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match word {
            "BADSIG" => return Err(format!("the signature of key {key} is for another text")),
            "NEWSIG" => over = false,
            "EXPKEYSIG" => {
                over = true;
                why.push(format!("key {key} has expired"));
            }
            // A signature is only worth something if gpgv calls it valid, which it also says of a key that is over.
            "VALIDSIG" => {
                let made: Option<u64> = words.nth(1).and_then(|w| w.parse().ok());
                let then = at.zip(made).is_some_and(|(at, made)| made <= at);
                good |= !over || then;
            }
            "NO_PUBKEY" => why.push(format!("key {key} is not in the keyring")),
            "REVKEYSIG" => return Err(format!("key {key} was revoked")),
            "EXPSIG" => {
                over = true;
                why.push(format!("the signature of key {key} has expired"));
            }
            _ => {}
        }
    }
    match (good, why.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err("there is none that can be checked".to_owned()),
        (false, false) => Err(why.join(", ")),
    }
}

/// What `sqv` says of the text, which is taken out of its clothes first, as it only knows signatures beside a file.
fn sqv(clear: &Clear<'_>, url: &str, keyring: &Path, dir: &Path) -> Result<String, SourceError> {
    let lines = clear.text.lines().map(|line| line.strip_prefix("- ").unwrap_or(line).trim_end());
    let text = lines.collect::<Vec<_>>().join("\n");
    let (data, signature) = (dir.join("Release"), dir.join("Release.asc"));
    // Signed are the lines with CR LF between them (RFC 9580, section 7.2), and no end of the last one.
    write(&data, text.replace('\n', "\r\n").as_bytes())?;
    write(&signature, clear.signature.as_bytes())?;
    let mut command = Command::new("sqv");
    command.arg("--keyring").arg(keyring).arg(&signature).arg(&data);
    let Some(done) = run(&mut command)? else {
        return Err(DebianError::NoVerifier { url: url.to_owned() }.into());
    };
    if done.status.success() {
        return Ok(text + "\n");
    }
    Err(bad_signature(url, "no key of the keyring made it for this text".to_owned(), &command, &done))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SourceError> {
    fs_err::write(path, bytes).map_err(|source| SourceError::Io { path: path.to_owned(), source })
}

/// Runs a program in the C locale; `None` where there is none.
fn run(command: &mut Command) -> Result<Option<Output>, SourceError> {
    command.env("LC_ALL", "C").stdin(std::process::Stdio::null());
    match command.output() {
        Ok(done) => Ok(Some(done)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let program = command.get_program().to_string_lossy().into_owned();
            Err(DebianError::Verifier { program, source }.into())
        }
    }
}

fn bad_signature(url: &str, why: String, command: &Command, done: &Output) -> SourceError {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let text = String::from_utf8_lossy(&done.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let said = lines[lines.len().saturating_sub(6)..].join("\n  ");
    DebianError::BadSignature { url: url.to_owned(), why, command: line, said }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_clear_signed_text_is_taken() {
        let good = format!("{BEGIN}\nHash: SHA256\n\nSuite: x\n- -----\n{SIGNATURE}\n\nabc\n{END}\n");
        let clear = split(&good).unwrap();
        assert_eq!(clear.text, "Suite: x\n- -----");
        assert!(clear.signature.starts_with(SIGNATURE));
        for bad in [
            "Suite: x\n".to_owned(),
            format!("Suite: evil\n{good}"),
            format!("{good}Suite: evil\n"),
            format!("{good}{good}"),
            format!("{BEGIN}\n{SIGNATURE}\n{END}"),
            String::new(),
        ] {
            assert!(split(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn status_lines_are_judged() {
        let valid = "[GNUPG:] VALIDSIG F 2026-07-11 1783765031 0 4 0 1 8 01 B\n";
        let status = |lines: &str, at| judge(&format!("[GNUPG:] NEWSIG\n{lines}"), at);
        assert!(status(&format!("[GNUPG:] GOODSIG A x\n{valid}"), None).is_ok());
        assert!(status(&format!("[GNUPG:] NO_PUBKEY B\n[GNUPG:] NEWSIG\n{valid}"), None).is_ok());
        assert!(status(&format!("{valid}[GNUPG:] NEWSIG\n[GNUPG:] BADSIG A x\n"), None).is_err());
        let over = format!("[GNUPG:] EXPKEYSIG A x\n{valid}");
        assert_eq!(status(&over, None).unwrap_err(), "key A has expired");
        assert!(status(&over, Some(1_783_765_031)).is_ok());
        assert!(status(&over, Some(1_783_765_030)).is_err());
        assert_eq!(status("[GNUPG:] NO_PUBKEY B\n", None).unwrap_err(), "key B is not in the keyring");
        assert!(judge("", None).is_err());
    }
}
