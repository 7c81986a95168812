//! What can go wrong with the network, and what a person can do about it.

use std::path::PathBuf;

use super::debian::DebianError;
use super::wheel::WheelError;
use crate::base::digest::Digest;
use crate::model::image::ImageRef;
use crate::store::StoreError;

/// A failure of a source. URLs in it never carry user info or a query.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The peer does not have it (404 or 410).
    #[error("`{url}` is not there{}", and_says(.said))]
    NotFound {
        /// What was asked for.
        url: String,
        /// What the peer said beside the status.
        said: String,
    },
    /// The peer wants other credentials, or none will do (401, 403).
    #[error("`{url}`: not allowed (status {status}){}", and_says(.said))]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the peer said beside the status.
        said: String,
        /// Its `WWW-Authenticate` headers.
        challenges: Vec<String>,
        /// What is known of logging in there.
        login: Box<Login>,
    },
    /// Somebody that a redirect led to wants credentials, and gets none.
    #[error("`{url}` redirects to `{at}`, which does not let us in (status {status}){}", and_says(.said))]
    Elsewhere {
        /// What was asked for.
        url: String,
        /// Who answered.
        at: String,
        /// HTTP status.
        status: u16,
        /// What it said beside the status.
        said: String,
    },
    /// Other bytes than they must be.
    #[error("`{url}` has digest {found}, not {expected}")]
    Mismatch {
        /// Where the bytes came from.
        url: String,
        /// The digest they must have.
        expected: Digest,
        /// The digest they have.
        found: Digest,
    },
    /// Another size than it must have, so the bytes are other ones too.
    #[error("`{url}` has {found} bytes, not {expected}")]
    Size {
        /// Where the bytes came from.
        url: String,
        /// The size it must have.
        expected: u64,
        /// The size the peer claims.
        found: u64,
    },
    /// More bytes than it must have, or than we take.
    #[error("`{url}` sends more than {limit} bytes")]
    TooLarge {
        /// Where the bytes come from.
        url: String,
        /// The size it must have, or the most we take.
        limit: u64,
    },
    /// No answer, or never a whole one.
    #[error("can not get `{url}`: {why} (tried {tries} time{})", if *.tries == 1 { "" } else { "s" })]
    Unreachable {
        /// What was asked for.
        url: String,
        /// How often.
        tries: u32,
        /// What happened the last time.
        why: String,
        /// What it is the mirror of, where it is one: a registry, or a URL.
        mirror_of: Option<String>,
    },
    /// Any other status.
    #[error("`{url}`: status {status}{}{}", and_says(.said), how_often(*.tries))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// How often.
        tries: u32,
        /// What the peer said beside the status.
        said: String,
    },
    /// A redirect that leads nowhere or where we do not go.
    #[error("`{url}` redirects {why}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// What is wrong with where it leads.
        why: String,
    },
    /// A network is needed and not to be used.
    #[error("`{url}` is not in the store, and labimg works offline")]
    Offline {
        /// What would have been asked for.
        url: String,
    },
    /// Something labimg does not handle, with the reason.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What it is.
        what: String,
        /// Why not.
        why: String,
    },
    /// An archive, chart or index that is not as it must be.
    #[error("`{what}`: {why}")]
    Archive {
        /// The archive.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// There, but not for the platform asked for.
    #[error("{what} is not for {wanted}: {there}")]
    Platform {
        /// The image or program.
        what: String,
        /// The platforms asked for that are missing.
        wanted: String,
        /// What is there instead.
        there: String,
    },
    /// An answer that makes no sense.
    #[error("`{url}` gives no {what}: {why}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What it should have been.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// None of an image's registries has it.
    #[error("can not get {what} of {image}: {}", joined(.asked))]
    Image {
        /// The image.
        image: Box<ImageRef>,
        /// What of it.
        what: String,
        /// Whether it was asked for by a digest, which nobody can move.
        by_digest: bool,
        /// Each registry or mirror asked, and what became of it.
        asked: Vec<(String, SourceError)>,
    },
    /// A setting that makes no sense (a mirror, a proxy, a CA file), or a credential that can not be read.
    #[error("{what}: {why}")]
    Setting {
        /// The setting or file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of ours that can not be read.
    #[error("can not read `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One input of a lock failed.
    #[error("{input}: {source}")]
    Of {
        /// The input, as a lock calls it.
        input: String,
        /// What happened.
        source: Box<SourceError>,
    },
    /// Wheels that can not be had.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// A Debian archive, or what is asked of it.
    #[error(transparent)]
    Debian(Box<DebianError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of ours died: a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What is known of logging in where somebody was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody logs in there by labimg: a file, a chart repository.
    Nowhere,
    /// The user and password that an index's URL holds were sent and refused.
    Index,
    /// A registry for which no credential is known: its name, as `docker login` takes it.
    Absent(String),
    /// A registry that refused the credential known for it.
    Refused(String),
    /// A registry that asks for a kind of login labimg does not speak: its name, and the kinds.
    Unspoken(String, String),
}

impl Login {
    /// Of a request that is no registry's, with or without user and password.
    pub(super) fn plain(sent: bool) -> Self {
        if sent { Self::Index } else { Self::Nowhere }
    }

    /// What a person could do about it, when `url` was asked for.
    fn hint(&self, url: &str) -> String {
        let command = |registry: &str| match registry {
            "docker.io" => "docker login".to_owned(),
            other => format!("docker login {other}"),
        };
        match self {
            Self::Nowhere => {
                format!("labimg sends no password there: is the URL right, and open to everybody at {}?", host(url))
            }
            Self::Index => format!("{} refuses the user and password of its URL in the settings", host(url)),
            Self::Absent(registry) => {
                format!("log in first: {} (registries also say this of names they do not have)", command(registry))
            }
            Self::Refused(registry) => format!(
                "{registry} refuses the login that is configured for it: is it still good, and may it read this? {}",
                command(registry)
            ),
            Self::Unspoken(registry, kinds) => {
                format!("{registry} wants a login by {kinds}; labimg speaks Basic and Bearer")
            }
        }
    }
}

/// What sort of failure it is: what a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody has it.
    NotFound,
    /// Credentials.
    Unauthorized,
    /// Other bytes than the lock, the profile or the registry says. The CLI's exit code 4.
    Mismatch,
    /// No network, no peer, or a broken one.
    Unreachable,
    /// A network is needed and not to be used.
    Offline,
    /// The thing itself is not what labimg can use.
    Content,
    /// The store, the machine, the settings.
    Local,
    /// A bug.
    Internal,
}

impl From<DebianError> for SourceError {
    fn from(error: DebianError) -> Self {
        Self::Debian(Box::new(error))
    }
}

impl SourceError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Mismatch { .. } | Self::Size { .. } | Self::Store(StoreError::Mismatch { .. }) => ErrorKind::Mismatch,
            Self::TooLarge { .. } | Self::Answer { .. } => ErrorKind::Content,
            Self::Unreachable { .. } | Self::Status { .. } | Self::Redirect { .. } | Self::Elsewhere { .. } => {
                ErrorKind::Unreachable
            }
            Self::Offline { .. } => ErrorKind::Offline,
            Self::Unsupported { .. } | Self::Archive { .. } | Self::Platform { .. } => ErrorKind::Content,
            Self::Debian(error) => error.kind(),
            Self::Image { asked, .. } => telling(asked).map_or(ErrorKind::NotFound, Self::kind),
            Self::Setting { .. } | Self::Io { .. } | Self::Store(_) => ErrorKind::Local,
            Self::Wheel(error) => error.kind(),
            Self::Of { source, .. } => source.kind(),
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Whether another server may well have what this one failed to give. Wrong bytes are never papered over by asking on.
    pub(super) fn ask_another(&self) -> bool {
        matches!(self.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized | ErrorKind::Unreachable)
    }

    /// The same, known to come from a mirror of `whose` (a registry, or a URL).
    pub(super) fn by_mirror_of(mut self, whose: &str) -> Self {
        if let Self::Unreachable { mirror_of, .. } = &mut self {
            *mirror_of = Some(crate::model::url_policy::shown(whose));
        }
        self
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Debian(error) => error.hint(),
            Self::Image { image, by_digest, asked, .. } => image_hint(image, *by_digest, asked),
            Self::Wheel(error) => error.hint(),
            Self::Of { source, .. } => source.hint(),
            Self::NotFound { .. } => Some("is the name right, and was it moved or deleted upstream?".to_owned()),
            Self::Unauthorized { url, login, .. } => Some(login.hint(url)),
            Self::Elsewhere { url, at, .. } => Some(format!(
                "{} sent us to {}, which gets no password of yours; if that stays so, it is for those who run {}",
                host(url),
                host(at),
                host(url)
            )),
            Self::Unreachable { url, why, mirror_of, .. } => Some(unreachable_hint(url, why, mirror_of.as_deref(), None)),
            Self::Offline { .. } => {
                Some("run the same command without --offline (or LABIMG_OFFLINE) once".to_owned())
            }
            Self::Mismatch { .. } | Self::Size { .. } => Some(
                "the file was replaced upstream or altered on the way; if the change is wanted: labimg lock PROFILE --update NAME"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn image_hint(image: &ImageRef, by_digest: bool, asked: &[(String, SourceError)]) -> Option<String> {
    let error = telling(asked)?;
    let server = asked.iter().find(|(_, other)| std::ptr::eq(other, error)).map_or("", |(endpoint, _)| endpoint);
    match error.kind() {
        ErrorKind::Mismatch if by_digest => Some(format!(
            "a digest is the name of one and the same bytes for ever: {server}, or a proxy before it, gives others"
        )),
        ErrorKind::Mismatch => Some(format!(
            "{server} names another digest (Docker-Content-Digest) than its bytes have: it, or a proxy before it, is wrong"
        )),
        ErrorKind::NotFound if by_digest => {
            let who = asked.iter().map(|(endpoint, _)| endpoint.as_str()).collect::<Vec<_>>().join(" and ");
            Some(format!(
                "the lock names bytes that {who} no longer serves; labimg lock PROFILE --update {}",
                image.tagged()
            ))
        }
        _ => match error {
            SourceError::Unreachable { url, why, mirror_of, .. } => {
                Some(unreachable_hint(url, why, mirror_of.as_deref(), Some(&image.registry)))
            }
            other => other.hint(),
        },
    }
}

/// What helps where nobody answers at `url`, be it a mirror of something, or a server of `registry`.
fn unreachable_hint(url: &str, why: &str, mirror_of: Option<&str>, registry: Option<&str>) -> String {
    let (origin, host) = (origin(url), host(url));
    if let Some(whose) = mirror_of {
        let which =
            format!("{origin} is the mirror configured for {whose} (--mirror, LABIMG_MIRROR or a settings file)");
        return match tls_hint(url, why) {
            Some(_) if why.contains("speak TLS") => {
                format!("{which}; if it speaks plain HTTP, write it as http://{host}")
            }
            Some(hint) => format!("{which}; {hint}"),
            None => format!("{which}; is it up?"),
        };
    }
    let mirror = || match registry {
        Some(registry) => {
            format!("is the network up? A mirror can be given: --mirror {registry}=http://127.0.0.1:5000")
        }
        None if is_loopback(&host) => format!("is the server at {origin} up?"),
        None => format!("is the network up? A mirror can be given: --mirror {origin}=http://127.0.0.1:8081/{host}"),
    };
    tls_hint(url, why).unwrap_or_else(mirror)
}

/// Whether `host[:port]` is this machine: a mirror of it helps nobody.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.") || name == "[::1]"
}

/// What helps where TLS itself failed.
fn tls_hint(url: &str, why: &str) -> Option<String> {
    if why.contains("speak TLS") {
        return Some(format!("plain HTTP must be asked for: --plain-http {}", host(url)));
    }
    why.contains("certificate").then(|| "a certificate authority of your own can be given with --ca FILE".to_owned())
}

/// The failure among those of several endpoints that says most: one that had a say before one that did not have it.
fn telling(asked: &[(String, SourceError)]) -> Option<&SourceError> {
    let rank = |e: &SourceError| match e.kind() {
        ErrorKind::Mismatch => 0,
        ErrorKind::Unauthorized => 1,
        ErrorKind::Unreachable => 2,
        ErrorKind::NotFound => 4,
        _ => 3,
    };
    asked.iter().map(|(_, error)| error).min_by_key(|error| rank(error))
}

fn joined(asked: &[(String, SourceError)]) -> String {
    asked.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; ")
}

fn and_says(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", it says: {text}") }
}

fn how_often(tries: u32) -> String {
    if tries > 1 { format!(" (tried {tries} times)") } else { String::new() }
}

fn origin(url: &str) -> String {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find('/').map_or(url.len(), |at| after + at);
    url[..end].to_owned()
}

fn host(url: &str) -> String {
    let origin = origin(url);
    origin.split_once("://").map_or(origin.clone(), |(_, host)| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(url: &str) -> SourceError {
        SourceError::NotFound { url: url.to_owned(), said: "MANIFEST_UNKNOWN".to_owned() }
    }

    fn image(by_digest: bool, error: SourceError) -> SourceError {
        SourceError::Image {
            image: Box::new("x/y:1".parse().unwrap()),
            what: "the manifest".to_owned(),
            by_digest,
            asked: vec![("http://127.0.0.1:5000".to_owned(), error)],
        }
    }

    #[test]
    fn a_vanished_digest_says_which_mirror_lacks_it() {
        let error = image(true, gone("http://127.0.0.1:5000/v2/x/y/manifests/sha256:00"));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let hint = error.hint().unwrap();
        assert!(hint.contains("http://127.0.0.1:5000 no longer serves"), "{hint}");
        assert!(hint.ends_with("labimg lock PROFILE --update docker.io/x/y:1"), "{hint}");
    }

    #[test]
    fn other_bytes_are_the_server_s_doing_and_no_update_s() {
        let (expected, found) = (Digest::of(b"a"), Digest::of(b"b"));
        let mismatch = || SourceError::Mismatch { url: "http://127.0.0.1:5000/v2/x".to_owned(), expected, found };
        for by_digest in [true, false] {
            let error = image(by_digest, mismatch());
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            let hint = error.hint().unwrap();
            assert!(hint.contains("http://127.0.0.1:5000") && !hint.contains("--update"), "{hint}");
        }
    }

    #[test]
    fn nobody_is_told_to_log_in_where_that_helps_nothing() {
        let refused = |login: Login| {
            let (url, said) = ("https://files.example/x".to_owned(), String::new());
            SourceError::Unauthorized { url, status: 403, said, challenges: Vec::new(), login: Box::new(login) }
                .hint()
                .unwrap()
        };
        assert!(refused(Login::plain(false)).contains("open to everybody at files.example"));
        assert!(refused(Login::plain(true)).starts_with("files.example refuses the user and password"));
        assert!(refused(Login::Absent("docker.io".to_owned())).starts_with("log in first: docker login ("));
        for login in [Login::Nowhere, Login::Index] {
            assert!(!refused(login).contains("docker login"));
        }
    }

    #[test]
    fn an_unreachable_registry_gets_a_mirror_hint() {
        let why = "connection refused".to_owned();
        let error = image(false, unreachable("https://registry-1.docker.io/v2", &why));
        assert!(error.hint().unwrap().contains("--mirror docker.io="), "{:?}", error.hint());
        assert!(error.to_string().contains("(tried 5 times)"), "{error}");
    }

    fn unreachable(url: &str, why: &str) -> SourceError {
        SourceError::Unreachable { url: url.to_owned(), tries: 5, why: why.to_owned(), mirror_of: None }
    }

    #[test]
    fn a_mirror_gets_no_mirror_hint() {
        let mirror = unreachable("http://127.0.0.1:5000/v2/x/y", "connection refused").by_mirror_of("docker.io");
        for error in [mirror, image(false, unreachable("http://m:1/v2", "refused").by_mirror_of("docker.io"))] {
            let hint = error.hint().unwrap();
            assert!(hint.contains("is the mirror configured for docker.io (--mirror, LABIMG_MIRROR or"), "{hint}");
            assert!(!hint.contains("can be given"), "{hint}");
        }
        let file = |url: &str| unreachable(url, "refused").hint().unwrap();
        assert_eq!(file("http://127.0.0.1:1/x"), "is the server at http://127.0.0.1:1 up?");
        assert!(file("https://h.org/x").ends_with("--mirror https://h.org=http://127.0.0.1:8081/h.org"));
    }
}
