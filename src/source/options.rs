//! What a person can say about the network. Nothing here is read from the environment: `cli` fills it in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How the network is to be used.
#[derive(Debug, Clone)]
pub struct NetOptions {
    /// Mirrors by registry host (`docker.io`, `127.0.0.1:5000`; `*` for all others): URLs, asked in order. A registry
    /// that has mirrors is not asked itself.
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// URL prefix and what takes its place in requests for files and chart repositories. The longest prefix wins; several
    /// of one length are asked in order. A URL that has mirrors is not asked itself.
    pub url_mirrors: Vec<(String, String)>,
    /// Where a Debian archive (`debian`, `debian-security`) is: URLs, asked in order. `<archive>-snapshot` stands for the
    /// folder that holds its snapshots, each named by its time. An archive named here is not looked for elsewhere.
    pub archive_mirrors: BTreeMap<String, Vec<String>>,
    /// apt's configuration, which knows where archives are if nobody says so: `/etc/apt`.
    pub apt_dir: PathBuf,
    /// Registries (`host` or `host:port`) to be spoken to in plain HTTP.
    pub plain_http: Vec<String>,
    /// Proxies.
    pub proxy: ProxyOptions,
    /// PEM files with more certificate authorities to trust, beside those of the system.
    pub ca_files: Vec<PathBuf>,
    /// Requests under way at once.
    pub jobs: usize,
    /// Requests under way at once to one host.
    pub per_host: usize,
    /// How often one thing is tried in all (1: no second try).
    pub tries: u32,
    /// Pause before the second try; it doubles each time, and up to as much again is added at random.
    pub pause: Duration,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Longest time without a byte.
    pub stall_timeout: Duration,
    /// Files with registry credentials: Docker's `config.json`, containers' `auth.json`. Somebody named them: a missing
    /// one is an error.
    pub credential_files: Vec<PathBuf>,
    /// More of them, read after those, in the usual places: missing ones are no error.
    pub usual_credential_files: Vec<PathBuf>,
    /// No request at all: whatever needs one fails.
    pub offline: bool,
}

/// Proxies by scheme of the URL asked for. Loopback addresses never go through one.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// Proxy for `http` URLs.
    pub http: Option<String>,
    /// Proxy for `https` URLs.
    pub https: Option<String>,
    /// Hosts to be asked directly: names, suffixes, addresses, CIDR blocks, by commas.
    pub no_proxy: Option<String>,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            registry_mirrors: BTreeMap::new(),
            url_mirrors: Vec::new(),
            archive_mirrors: BTreeMap::new(),
            apt_dir: PathBuf::from("/etc/apt"),
            plain_http: Vec::new(),
            proxy: ProxyOptions::default(),
            ca_files: Vec::new(),
            jobs: 8,
            per_host: 8,
            tries: 5,
            pause: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            credential_files: Vec::new(),
            usual_credential_files: Vec::new(),
            offline: false,
        }
    }
}

impl NetOptions {
    /// What to ask for `url` (a file, a chart repository): itself, or its mirrors in order.
    pub fn mirrored(&self, url: &str) -> Vec<String> {
        let fits = self.url_mirrors.iter().filter_map(|(prefix, instead)| {
            let rest = url.strip_prefix(prefix.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((prefix.trim_end_matches('/'), instead, rest))
        });
        let longest = fits.clone().map(|(prefix, ..)| prefix.len()).max();
        let all: Vec<String> = fits
            .filter(|(prefix, ..)| Some(prefix.len()) == longest)
            .map(|(_, instead, rest)| format!("{}{rest}", instead.trim_end_matches('/')))
            .collect();
        if all.is_empty() { vec![url.to_owned()] } else { all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_at_a_boundary() {
        let pairs = [
            ("https://github.com", "http://127.0.0.1:1/github.com"),
            ("https://github.com/traefik/", "http://127.0.0.1:2/t/"),
        ];
        let url_mirrors = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        let options = NetOptions { url_mirrors, ..NetOptions::default() };
        for (url, asked) in [
            ("https://github.com/kind/kind", "http://127.0.0.1:1/github.com/kind/kind"),
            ("https://github.com/traefik/x.tgz", "http://127.0.0.1:2/t/x.tgz"),
            ("https://github.com.example.org/x", "https://github.com.example.org/x"),
            ("https://github.community/x", "https://github.community/x"),
        ] {
            assert_eq!(options.mirrored(url), [asked]);
        }
    }
}
