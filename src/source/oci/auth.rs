//! Authentication to registries: basic (RFC 7617), and bearer tokens as distribution describes them
//! ("Token Authentication Specification", "OAuth 2.0 Authentication").

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::endpoint::Endpoint;
use crate::base::base64;
use crate::base::bounded;
use crate::source::credentials::{Credential, Secret};
use crate::source::error::Login;
use crate::source::http::{get_small, post_form, realm};
use crate::source::{Net, SourceError};

/// Token answers are small; some registries' JWTs are not that small.
const TOKEN_LIMIT: u64 = 1 << 20;

/// How often one request may be told to come with another token.
const ROUNDS: usize = 3;

type Slot = Arc<Mutex<Option<HeaderValue>>>;

/// `Authorization` headers that worked, per server and repository.
#[derive(Default)]
pub struct Tokens(SyncMutex<HashMap<(String, String), Slot>>);

impl Tokens {
    fn slot(&self, endpoint: &Endpoint, repository: &str) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry((endpoint.base.clone(), repository.to_owned())).or_default().clone()
    }
}

/// Runs `work` with the `Authorization` known for this server and repository; gets one when the server asks for it, also
/// when a token expires while the work goes on.
///
/// # Errors
/// Those of `work`; [`SourceError::Unauthorized`] when no credential will do.
pub async fn with_auth<T, F: Future<Output = Result<T, SourceError>>>(
    net: &Net,
    endpoint: &Endpoint,
    repository: &str,
    work: impl Fn(Option<HeaderValue>) -> F,
) -> Result<T, SourceError> {
    let slot = net.tokens().slot(endpoint, repository);
    let mut used = slot.lock().await.clone();
    let mut round = 0;
    let mut known = None;
    loop {
        let refused = match work(used.clone()).await {
            Err(error @ SourceError::Unauthorized { status: 401, .. }) if round < ROUNDS => error,
            Err(error) => return Err(explained(net, endpoint, repository, known, error).await),
            done => return done,
        };
        round += 1;
        used = match renewed(net, endpoint, repository, &slot, used, refused, &mut known).await {
            Ok(header) => Some(header),
            Err(error) => return Err(explained(net, endpoint, repository, known, error).await),
        };
    }
}

/// A refusal, with what is known of logging in to that registry (whoever of its servers said no).
/// `known` says whether there is a credential, where that was looked up.
async fn explained(
    net: &Net,
    endpoint: &Endpoint,
    repository: &str,
    known: Option<bool>,
    mut error: SourceError,
) -> SourceError {
    if let SourceError::Unauthorized { login, challenges, .. } = &mut error {
        let registry = endpoint.credentials.clone();
        let known = match known {
            Some(known) => known,
            None => matches!(net.credentials().find(&registry, repository).await, Ok(Some(_))),
        };
        let asked: Vec<String> =
            challenges.iter().flat_map(|text| parse_challenges(text)).map(|challenge| challenge.scheme).collect();
        let spoken = asked.is_empty() || asked.iter().any(|scheme| ["basic", "bearer"].contains(&scheme.as_str()));
        **login = match known {
            _ if !spoken => Login::Unspoken(registry, asked.join(", ")),
            true => Login::Refused(registry),
            false => Login::Absent(registry),
        };
    }
    error
}

/// A header other than the one just refused: what somebody else got meanwhile, or a new one.
async fn renewed(
    net: &Net,
    endpoint: &Endpoint,
    repository: &str,
    slot: &Slot,
    used: Option<HeaderValue>,
    refused: SourceError,
    known: &mut Option<bool>,
) -> Result<HeaderValue, SourceError> {
    let mut held = slot.lock().await;
    if let Some(other) = held.clone().filter(|other| Some(other) != used.as_ref()) {
        return Ok(other);
    }
    let credential = net.credentials().find(&endpoint.credentials, repository).await?;
    *known = Some(credential.is_some());
    let header = answer(net, endpoint, repository, credential, &refused).await?;
    match header.filter(|header| Some(header) != used.as_ref()) {
        Some(header) => {
            *held = Some(header.clone());
            Ok(header)
        }
        None => Err(refused),
    }
}

/// Answers the challenges of a refusal; `None` when there is nothing to answer with.
async fn answer(
    net: &Net,
    endpoint: &Endpoint,
    repository: &str,
    credential: Option<Credential>,
    refused: &SourceError,
) -> Result<Option<HeaderValue>, SourceError> {
    let SourceError::Unauthorized { challenges, .. } = refused else { return Ok(None) };
    let challenges: Vec<Challenge> = challenges.iter().flat_map(|text| parse_challenges(text)).collect();
    if let Some(Credential::Bearer(token)) = &credential {
        return Ok(bearer(token));
    }
    if let Some(challenge) = challenges.iter().find(|c| c.scheme == "bearer") {
        return token(net, endpoint, repository, credential, challenge).await;
    }
    Ok(match credential {
        Some(Credential::Basic { user, password }) if challenges.iter().any(|c| c.scheme == "basic") => {
            basic(&user, &password)
        }
        _ => None,
    })
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

impl TokenAnswer {
    /// The token, under the first of its two names that holds one: services write the other as an empty text, or null.
    fn into_token(self) -> Option<Secret> {
        let texts = [self.token, self.access_token].into_iter().flatten();
        texts.map(|token| Secret::from(token.reveal().trim().to_owned())).find(|token| !token.reveal().is_empty())
    }
}

/// Asks the token service that the registry named.
async fn token(
    net: &Net,
    endpoint: &Endpoint,
    repository: &str,
    credential: Option<Credential>,
    challenge: &Challenge,
) -> Result<Option<HeaderValue>, SourceError> {
    let no_service = |why| SourceError::Answer { url: endpoint.base.clone(), what: "token service", why };
    let mut url = realm(&endpoint.base, challenge.get("realm").unwrap_or_default()).map_err(no_service)?;
    let place = crate::model::url_policy::shown(url.as_str());
    let bad = |why: &str| SourceError::Answer { url: place.clone(), what: "token", why: why.to_owned() };
    let own_scope = format!("repository:{repository}:pull");
    let scope = challenge.get("scope").filter(|s| !s.is_empty()).unwrap_or(&own_scope);
    let service = challenge.get("service").filter(|s| !s.is_empty());
    let small = match credential {
        Some(Credential::Refresh(secret)) => {
            let form = refresh_form(service, scope, &secret);
            post_form(net, &url, &form, TOKEN_LIMIT).await?
        }
        other => {
            append(&mut url, service, scope);
            let auth = match &other {
                Some(Credential::Basic { user, password }) => basic(user, password),
                _ => None,
            };
            get_small(net, &url, None, TOKEN_LIMIT, auth.as_ref()).await?
        }
    };
    // serde's message may quote the token.
    let answer: TokenAnswer =
        bounded::from_json(&small.bytes).map_err(|_| bad("its answer is not as a token service gives it"))?;
    let token = answer.into_token().ok_or_else(|| bad("its answer holds none, or an empty one"))?;
    bearer(&token).map(Some).ok_or_else(|| bad("it has characters that no header can hold"))
}

fn append(url: &mut Url, service: Option<&str>, scope: &str) {
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", scope);
}

fn refresh_form(service: Option<&str>, scope: &str, secret: &Secret) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "labimg")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", scope)
        .append_pair("refresh_token", secret.reveal())
        .finish()
}

fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    secret_header(&format!("Basic {}", base64::encode(format!("{user}:{}", password.reveal()).as_bytes())))
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    secret_header(&format!("Bearer {}", token.reveal()))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// One challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// Lower-case.
    scheme: String,
    /// Names lower-case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parses `Bearer realm="…",service="…", Basic realm="…"`. What makes no sense is left out.
fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    for part in split_outside_quotes(text) {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name.trim(), Some(value)));
        // `Bearer realm` starts a challenge, `service` goes on with it.
        let name = match (name.split_once(char::is_whitespace), value) {
            (Some((scheme, parameter)), _) => {
                all.push(Challenge { scheme: scheme.to_ascii_lowercase(), parameters: Vec::new() });
                parameter.trim()
            }
            (None, None) => {
                all.push(Challenge { scheme: name.to_ascii_lowercase(), parameters: Vec::new() });
                continue;
            }
            (None, Some(_)) => name,
        };
        if let (Some(challenge), Some(value)) = (all.last_mut(), value) {
            challenge.parameters.push((name.to_ascii_lowercase(), unquoted(value.trim())));
        }
    }
    all
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else { return value.to_owned() };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_registries_send_them() {
        let text =
            r#"Bearer realm="https://auth.example.org/token",service="registry",scope="repository:a/b:pull,push""#;
        let found = parse_challenges(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(found[0].get("realm"), Some("https://auth.example.org/token"));
        let two = parse_challenges(r#"BASIC realm="a \"b\"", Bearer realm=x, service=y, Negotiate"#);
        let schemes: Vec<&str> = two.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer", "negotiate"]);
        assert_eq!(two[0].get("realm"), Some("a \"b\""));
        assert_eq!(two[1].get("service"), Some("y"));
        assert!(parse_challenges("").is_empty());
    }
}
