//! Which URLs may stand in a profile or a lock: plain `http` and `https`, nothing secret in them.

use url::Url;

/// Why a URL is refused. The URL itself is shown without what may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("`{url}` is not a URL: {why}")]
    Syntax {
        /// What was given, without what stands between `//` and `@` and without its query.
        url: String,
        /// What the parser said.
        why: String,
    },
    /// Neither `http` nor `https`.
    #[error("`{url}`: only http and https URLs can be fetched, not `{scheme}`")]
    Scheme {
        /// The URL.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A user name or a password in it.
    #[error("`{url}` carries a user name or password, which would end up in the lock")]
    UserInfo {
        /// The URL without them.
        url: String,
    },
    /// A signature or token in its query: it would leak, and it expires.
    #[error("`{url}` carries `{parameter}` in its query: a signed URL leaks a secret and expires")]
    Signed {
        /// The URL without its query.
        url: String,
        /// The parameter's name.
        parameter: String,
    },
}

/// Query parameters that sign a request or give access by themselves, lower-case: AWS (SigV4, SigV2, CloudFront), Google
/// Cloud Storage, Azure SAS, and what forges and CDNs call their tokens.
const SECRET: &[&str] =
    &["sig", "awsaccesskeyid", "googleaccessid", "key-pair-id", "key", "auth", "jwt", "hdnea", "hdnts"];

/// Parts of names that say the same in any dialect.
const SECRET_PARTS: &[&str] = &["signature", "token", "secret", "passw", "credential", "apikey", "api_key", "api-key"];

fn is_secret(parameter: &str) -> bool {
    let name = parameter.to_ascii_lowercase();
    SECRET.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// Parses `text` and refuses what must not be written down.
///
/// # Errors
/// See [`UrlError`].
pub fn check_url(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|e| UrlError::Syntax { url: shown(text), why: e.to_string() })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme { scheme: url.scheme().to_owned(), url: shown(text) });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo { url: shown(text) });
    }
    let secret = url.query_pairs().find(|(name, _)| is_secret(name));
    match secret {
        Some((parameter, _)) => Err(UrlError::Signed { url: shown(text), parameter: parameter.into_owned() }),
        None => Ok(url),
    }
}

/// `text` without user info, query and fragment: safe to print.
pub fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A line of text as it may be shown: what is secret in the URLs in it becomes `*`, character by character, so that columns stay.
pub fn masked(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || "\"'`".contains(c)).unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        let secret = authority.rfind('@').unwrap_or(0);
        let signed = matches!(
            check_url(&format!("https://{}", &url[secret..].trim_start_matches('@'))),
            Err(UrlError::Signed { .. })
        );
        let query = url.find('?').filter(|_| signed).map_or(url.len(), |at| at + 1);
        out += before;
        out.extend(url[..secret].chars().map(|_| '*'));
        out += &url[secret..query];
        out.extend(url[query..].chars().map(|_| '*'));
        rest = next;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_its_secrets() {
        for (line, shown) in [
            ("url = \"https://example.org/x?a=1\" # fine", "url = \"https://example.org/x?a=1\" # fine"),
            ("a = \"https://u:pä@h.org/x\", b = 'http://t@h/@'", "a = \"https://****@h.org/x\", b = 'http://*@h/@'"),
            ("https://h.org/x?a=1&sig=abc rest", "https://h.org/x?*********** rest"),
            ("https://u@h.org/?token=abc", "https://*@h.org/?*********"),
            ("oci://ghcr.io/x@sha256:00 and ://", "oci://ghcr.io/x@sha256:00 and ://"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    #[test]
    fn plain_urls_pass() {
        for text in
            ["https://example.org/a/b.tgz", "http://127.0.0.1:8081/x", "https://example.org/x?version=1&expires=no"]
        {
            assert!(check_url(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "https://user:hunter2@example.org/x",
            "https://hunter2@example.org/x",
            "https://example.org/x?X-Amz-Signature=hunter2",
            "https://example.org/x?sv=1&sig=hunter2",
            "https://example.org/x?Expires=1&Signature=hunter2",
            "https://example.org/x?token=hunter2",
            "https://example.org/x?AWSAccessKeyId=hunter2",
            "ftp://user:hunter2@example.org/x",
            "https://user:hunter2@[bad/x",
        ] {
            let error = check_url(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for text in ["ftp://example.org/x", "file:///etc/passwd", "oci://example.org/x", "example.org/x", ""] {
            assert!(check_url(text).is_err(), "{text}");
        }
    }
}
