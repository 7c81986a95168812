//! Which URLs may stand in a profile or lock: http(s), without secrets.

use url::Url;

/// Query keys that carry a signature or token; such URLs die and must not be written down.
const SIGNED: [&str; 9] = [
    "x-amz-signature",
    "x-goog-signature",
    "signature",
    "sig",
    "token",
    "access_token",
    "awsaccesskeyid",
    "x-amz-security-token",
    "googleaccessid",
];

/// A URL that may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL.
    #[error("`{0}` is not a URL: {1}")]
    Invalid(String, String),
    /// Another scheme than http and https.
    #[error("`{0}` has scheme `{1}`: want https or http")]
    Scheme(String, String),
    /// User name or password inside. The URL is not repeated: it holds a secret.
    #[error("the URL of `{0}` carries a user name or password; put credentials into the settings' credential files")]
    UserInfo(String),
    /// A signed query. The URL is not repeated: it holds a secret.
    #[error("the URL of `{0}` carries a signed query (`{1}`), which expires and is a secret; use the plain URL")]
    Signed(String, String),
}

/// Parses a URL that may stand in a profile or lock.
///
/// # Errors
/// When it is none, is not http(s), or carries a secret.
pub fn check_url(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|e| UrlError::Invalid(text.to_owned(), e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme(text.to_owned(), url.scheme().to_owned()));
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo(host));
    }
    let signed = url.query_pairs().find(|(key, _)| SIGNED.contains(&key.to_lowercase().as_str()));
    match signed {
        Some((key, _)) => Err(UrlError::Signed(host, key.into_owned())),
        None => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        let error = check_url("https://me:hunter2@example.org/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = check_url("https://example.org/x?X-Amz-Signature=hunter2").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(check_url("https://example.org/x?ref=v1").is_ok());
        assert!(check_url("ftp://example.org/x").is_err());
    }
}
