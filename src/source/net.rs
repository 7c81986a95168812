//! The handle every source works through: one client, its limits, and what was learnt about credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::{Client, NoProxy, Proxy};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::credentials::{Credentials, absent};
use super::oci::auth::Tokens;
use super::wheel::Indexes;
use super::{NetOptions, SourceError};
use crate::base::report::Reporter;

/// The network. Cheap to make and to clone; opens no socket and reads no file before the first request.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    options: NetOptions,
    reporter: Arc<dyn Reporter>,
    client: OnceLock<Result<Client, String>>,
    all: Arc<Semaphore>,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    credentials: Credentials,
    tokens: Tokens,
    indexes: OnceCell<Indexes>,
}

/// The right to have one request under way.
pub(super) struct Permit {
    _host: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Net {
    /// A network to be used as `options` say, telling `reporter` how it goes.
    pub fn new(options: NetOptions, reporter: Arc<dyn Reporter>) -> Self {
        let credentials = Credentials::new(options.credential_files.clone(), options.usual_credential_files.clone());
        Self(Arc::new(Inner {
            all: Arc::new(Semaphore::new(options.jobs.max(1))),
            hosts: Mutex::default(),
            client: OnceLock::new(),
            tokens: Tokens::default(),
            indexes: OnceCell::new(),
            credentials,
            options,
            reporter,
        }))
    }

    /// What a person said about the network.
    pub fn options(&self) -> &NetOptions {
        &self.0.options
    }

    /// Who hears how it goes.
    pub fn reporter(&self) -> &dyn Reporter {
        &*self.0.reporter
    }

    /// The indexes of wheels, learnt at the first call.
    pub(super) async fn wheel_indexes(&self) -> Result<&Indexes, SourceError> {
        self.0.indexes.get_or_try_init(|| Indexes::learn(self)).await
    }

    /// A network like this one that also trusts the authorities in `ca_file`.
    pub(super) fn trusting(&self, ca_file: std::path::PathBuf) -> Self {
        let mut options = self.0.options.clone();
        options.ca_files.push(ca_file);
        Self::new(options, self.0.reporter.clone())
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The client, made at the first call: it can not be made without CA files, which a machine without network may lack.
    /// What else a person named and got wrong is told before any request, too.
    pub(super) fn client(&self) -> Result<&Client, SourceError> {
        if self.0.client.get().is_none() {
            check(&self.0.options)?;
        }
        let made = self.0.client.get_or_init(|| build(&self.0.options));
        made.as_ref().map_err(|why| SourceError::Setting { what: "HTTP client".to_owned(), why: why.clone() })
    }

    /// Waits until one more request to the URL's host may be under way.
    pub(super) async fn permit(&self, url: &Url) -> Result<Permit, SourceError> {
        let closed = |_| SourceError::Internal("a semaphore was closed".to_owned());
        let host = self.host_limit(url);
        // The host first: who waits for a busy host must not keep others from an idle one.
        let host = host.acquire_owned().await.map_err(closed)?;
        let all = self.0.all.clone().acquire_owned().await.map_err(closed)?;
        Ok(Permit { _host: host, _all: all })
    }

    fn host_limit(&self, url: &Url) -> Arc<Semaphore> {
        let key = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.0.options.per_host.max(1)))).clone()
    }
}

/// Credential files that are not there, and proxies that do not speak HTTP: without this, they would be passed by.
fn check(options: &NetOptions) -> Result<(), SourceError> {
    if let Some(path) = options.credential_files.iter().find(|path| !path.exists()) {
        return Err(absent(path));
    }
    for (scheme, proxy) in [("http", &options.proxy.http), ("https", &options.proxy.https)] {
        // The address itself may hold a password.
        let Some((other, _)) = proxy.as_deref().and_then(|url| url.split_once("://")) else { continue };
        if !["http", "https"].iter().any(|known| other.eq_ignore_ascii_case(known)) {
            let upper = scheme.to_ascii_uppercase();
            return Err(SourceError::Setting {
                what: format!(
                    "proxy for {scheme} ({upper}_PROXY, ALL_PROXY, or `{scheme}` of [proxy] in a settings file)"
                ),
                why: format!("labimg speaks to http and https proxies, not to {other} ones"),
            });
        }
    }
    Ok(())
}

fn build(options: &NetOptions) -> Result<Client, String> {
    let told = |e: reqwest::Error| chain(&e);
    if !options.ca_files.is_empty() {
        let tls = super::tls::trusting(&options.ca_files)?;
        return configured(options)?.tls_backend_preconfigured(tls).build().map_err(told);
    }
    // A machine without CA files: plain HTTP works all the same.
    let usual = configured(options)?.build();
    usual.or_else(|_| configured(options)?.tls_certs_only([]).build().map_err(told))
}

fn configured(options: &NetOptions) -> Result<reqwest::ClientBuilder, String> {
    let mut builder = Client::builder()
        .user_agent(concat!("labimg/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(options.connect_timeout)
        .http2_initial_stream_window_size(1 << 20)
        .http2_initial_connection_window_size(8 << 20)
        .no_proxy();
    let direct = ["localhost,127.0.0.0/8,::1", options.proxy.no_proxy.as_deref().unwrap_or_default()].join(",");
    let through = |proxy: reqwest::Result<Proxy>| {
        let bad = |e: reqwest::Error| format!("proxy: {}", chain(&e.without_url()));
        Ok::<_, String>(proxy.map_err(bad)?.no_proxy(NoProxy::from_string(&direct)))
    };
    if let Some(url) = &options.proxy.http {
        builder = builder.proxy(through(Proxy::http(url))?);
    }
    if let Some(url) = &options.proxy.https {
        builder = builder.proxy(through(Proxy::https(url))?);
    }
    Ok(builder)
}

/// What an error and its causes say, each once; words that only name a layer of the client are left out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    const LAYERS: &[&str] =
        &["error sending request", "request or response body error", "error decoding response body"];
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let layer = LAYERS.contains(&text.as_str()) || text.starts_with("client error (");
        if !layer && !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_nobody_can_follow_are_told_before_the_first_request() {
        let mut options = NetOptions::default();
        options.proxy.https = Some("socks5://user:hunter2@127.0.0.1:1080".to_owned());
        let error = check(&options).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && error.contains("socks5") && !error.contains("hunter2"), "{error}");
        options.proxy.https = Some("HTTP://127.0.0.1:3128".to_owned());
        options.proxy.http = Some("127.0.0.1:3128".to_owned());
        assert!(check(&options).is_ok());
        options.credential_files.push("/nonexistent/auth.json".into());
        assert!(check(&options).unwrap_err().to_string().contains("/nonexistent/auth.json"));
    }
}
