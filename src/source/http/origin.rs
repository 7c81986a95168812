//! Who may see a credential, and whose word counts: the one rule, for every source.
//!
//! A credential (user and password, identity token, registry token, bearer token, index password) belongs to one **origin**:
//! scheme, host and port of the URL that a person configured it for, or that a reference names.
//!
//! 1. It goes to that origin only; redirects within the origin keep it.
//! 2. A redirect to another origin ends that for the rest of the request. What follows is asked for by a stranger, also
//!    where it leads back to the own origin: it carries nothing.
//! 3. A challenge (`WWW-Authenticate`) counts only where nothing but the own origin was on the way. A refusal by
//!    anybody else is an error, and never a question to be answered.
//! 4. A token service (the `realm` of a challenge) on another origin gets the credential, because the protocol is so, but only
//!    if the registry itself named it (3), and never from https to plain http ([`realm`]). The service's redirects follow
//!    1 and 2.
//! 5. A form carries its credential in the body, so it follows no redirect at all.
//! 6. User info in a `Location` is a stranger's choice and is dropped. From https no redirect leads to plain http.
//!
//! Origins are compared as RFC 6454 says: a default port is the same as one that is written, and nothing else is equal.

use url::Url;

use super::send::shown;

/// How many redirects in a row are followed.
const MOST_REDIRECTS: usize = 10;

/// The way of one request: where it went so far, and whether it ever left the origin it started at.
#[derive(Debug, Clone)]
pub struct Trail {
    /// Every URL asked, the last one being the current.
    seen: Vec<Url>,
    own: bool,
}

impl Trail {
    /// A request that starts at `url`.
    pub fn new(url: &Url) -> Self {
        Self { seen: vec![url.clone()], own: true }
    }

    /// Whether only the origin it started at had a say so far: then credentials go along, and challenges count.
    pub fn own(&self) -> bool {
        self.own
    }

    /// Follows a `Location`, which may be relative.
    ///
    /// # Errors
    /// Why it is not followed, as the end of a sentence that starts with `it redirects`.
    pub fn follow(&mut self, location: &str) -> Result<Url, String> {
        let next = match self.seen.last() {
            Some(from) => target(from, location)?,
            None => return Err("from nowhere".to_owned()),
        };
        if self.seen.contains(&next) {
            return Err("in a circle".to_owned());
        }
        if self.seen.len() > MOST_REDIRECTS {
            return Err(format!("more than {MOST_REDIRECTS} times"));
        }
        self.own &= self.seen.last().is_some_and(|from| same_origin(from, &next));
        self.seen.push(next.clone());
        Ok(next)
    }
}

fn target(from: &Url, location: &str) -> Result<Url, String> {
    let mut next = from.join(location).map_err(|e| format!("to something that is no URL: {e}"))?;
    match (from.scheme(), next.scheme()) {
        ("https", "http") => return Err(format!("from https to plain http ({})", shown(&next))),
        (_, "http" | "https") => {}
        (_, other) => return Err(format!("to a URL of scheme `{other}`")),
    }
    let _ = (next.set_username(""), next.set_password(None));
    next.set_fragment(None);
    Ok(next)
}

/// Whether two URLs are of one origin.
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// The token service that the registry at `registry` (the start of its URLs) named itself, as a URL to ask with its credential.
///
/// # Errors
/// A realm that is no plain http or https URL, or that would carry a password of an https registry over plain http.
pub fn realm(registry: &str, realm: &str) -> Result<Url, String> {
    let url = crate::model::url_policy::check_url(realm).map_err(|e| e.to_string())?;
    if registry.starts_with("https:") && url.scheme() != "https" {
        return Err("a registry on https sends us to a token service on plain http".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows `locations` from `start`; tells whether the end is still the registry's own word.
    fn own(start: &str, locations: &[&str]) -> Result<bool, String> {
        let mut trail = Trail::new(&start.parse().unwrap());
        for location in locations {
            trail.follow(location)?;
        }
        Ok(trail.own())
    }

    #[test]
    fn only_the_own_origin_keeps_the_credential() {
        let start = "https://reg.example/v2/a/blobs/x";
        for (locations, kept) in [
            (&[][..], true),
            (&["/other"], true),
            (&["https://reg.example/y"], true),
            (&["https://REG.example:443/y"], true),
            (&["//reg.example/y"], true),
            (&["https://reg.example:8443/y"], false),
            (&["https://cdn.example/y"], false),
            (&["https://sub.reg.example/y"], false),
            (&["https://reg.example.evil.example/y"], false),
            (&["https://reg.example./y"], false),
            (&["https://reg.example@evil.example/y"], false),
            (&["//evil.example/y"], false),
            (&["/z", "https://cdn.example/y", "https://reg.example/back"], false),
        ] {
            assert_eq!(own(start, locations), Ok(kept), "{locations:?}");
        }
        assert_eq!(own("http://127.0.0.1:5000/x", &["http://127.0.0.1:5001/x"]), Ok(false));
        assert_eq!(own("http://127.0.0.1:5000/x", &["http://localhost:5000/x"]), Ok(false));
        assert_eq!(
            own("http://reg.example/x", &["https://reg.example/x"]),
            Ok(false),
            "another scheme is another origin"
        );
    }

    #[test]
    fn a_location_brings_no_password_and_leads_nowhere_else() {
        let mut trail = Trail::new(&"https://reg.example/x".parse().unwrap());
        let next = trail.follow("https://me:hunter2@reg.example/y#z").unwrap();
        assert_eq!(next.as_str(), "https://reg.example/y");
        assert!(trail.follow("http://reg.example/y").unwrap_err().contains("from https to plain http"));
        assert!(trail.follow("ftp://reg.example/y").unwrap_err().contains("scheme `ftp`"));
        assert!(trail.follow("https://").unwrap_err().contains("no URL"));
        assert!(trail.follow("/x").unwrap_err().contains("circle"));
        assert!(trail.own(), "what was not followed was not asked");
    }

    #[test]
    fn a_realm_may_be_elsewhere_but_not_in_the_clear() {
        for (registry, asked) in [
            ("https://reg.example", "https://reg.example/token"),
            ("https://reg.example", "https://auth.example/token"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
            ("http://127.0.0.1:5000", "https://auth.example/token"),
        ] {
            assert_eq!(realm(registry, asked).unwrap().as_str(), asked);
        }
        for (registry, asked) in [
            ("https://reg.example", "http://auth.example/token"),
            ("https://reg.example", "http://reg.example/token"),
            ("https://reg.example", "ftp://reg.example/token"),
            ("http://127.0.0.1:5000", "https://me:hunter2@auth.example/token"),
            ("http://127.0.0.1:5000", "/token"),
            ("http://127.0.0.1:5000", ""),
        ] {
            assert!(!realm(registry, asked).unwrap_err().contains("hunter2"), "{asked}");
        }
    }
}
