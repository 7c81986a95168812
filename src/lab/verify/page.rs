//! The `http` check: a page that must answer, and what its answer must hold.

use serde_json::Value;
use serde_json_path::JsonPath;

use super::ask::{ASK_TIMEOUT, Asker, Service, glimpse, status_line};
use super::look::{Look, Seen};
use super::report::Open;
use crate::base::bounded;
use crate::lab::error::LabError;
use crate::lab::http::{self, Answer};
use crate::lab::kube::Api;
use crate::model::profile::HttpCheck;

/// A page as a check names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A URL, asked from this machine.
    Url(String),
    /// A service, asked through the cluster.
    Service {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Port: a number or a name.
        port: String,
        /// Path with its query.
        path: String,
    },
}

/// Reads `http://…`, `https://…` or `SERVICE.NAMESPACE:PORT/PATH` (`.svc` and what follows may stand there, too); the namespace
/// is `namespace` and the port 80 where not given.
pub fn place(text: &str, namespace: &str) -> Option<Place> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Some(Place::Url(text.to_owned()));
    }
    let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let (host, port) = host.split_once(':').unwrap_or((host, "80"));
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or_default();
    let namespace = labels.next().unwrap_or(namespace);
    let plain = |t: &str| !t.is_empty() && t.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let path = if path.is_empty() { "/" } else { path };
    let whole = plain(name) && plain(namespace) && plain(port) && labels.next().is_none_or(|l| l == "svc");
    whole.then(|| Place::Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: port.to_owned(),
        path: path.to_owned(),
    })
}

/// Asks for the page once, with further headers.
///
/// # Errors
/// A URL that can not be asked, or no answer.
pub async fn ask(
    check: &HttpCheck,
    api: Option<&Api>,
    namespace: &str,
    headers: &[(String, String)],
) -> Result<Answer, LabError> {
    let method = check.method.as_deref().unwrap_or("GET");
    match (place(&check.url, namespace), api) {
        (Some(Place::Url(url)), _) => {
            let follow = !check.status.is_some_and(|s| (300..400).contains(&s));
            http::fetch(&http::Request { method, url: &url, headers, follow, timeout: ASK_TIMEOUT }).await
        }
        (Some(Place::Service { namespace, name, port, path }), Some(api)) => {
            Service { api: api.clone(), namespace, name, port }.ask(method, &path, headers).await
        }
        (Some(Place::Service { .. }), None) => Err(LabError::failed(&check.url, "there is no cluster to ask it in")),
        (None, _) => Err(LabError::failed(&check.url, "neither a URL nor `SERVICE.NAMESPACE:PORT/PATH`")),
    }
}

/// One look at the page.
pub async fn look(check: &HttpCheck, api: Option<&Api>, namespace: &str) -> Look {
    if let Some(path) = check.json.keys().find(|p| JsonPath::parse(p).is_err()) {
        return Look::Never(vec![format!("`{path}` is no JSONPath (RFC 9535)")]);
    }
    if place(&check.url, namespace).is_none() {
        return Look::Never(vec![format!("`{}` is neither a URL nor `SERVICE.NAMESPACE:PORT/PATH`", check.url)]);
    }
    let answer = match ask(check, api, namespace, &[]).await {
        Ok(answer) => answer,
        Err(error) => return Look::not_yet(error),
    };
    let against = judge(check, &answer);
    if !against.is_empty() {
        return Look::NotYet(against);
    }
    let open = check.url.starts_with("http").then(|| Open {
        what: "the page".to_owned(),
        url: check.url.clone(),
        after: None,
    });
    Look::Seen(Seen { detail: detail(check, &answer), open: open.into_iter().collect() })
}

/// What speaks against the answer, a line each.
pub fn judge(check: &HttpCheck, answer: &Answer) -> Vec<String> {
    let mut against = Vec::new();
    let wanted = check.status.unwrap_or(200);
    if answer.status != wanted {
        against.push(format!("{} answered {}, not {wanted}", check.url, status_line(answer)));
    }
    for (name, text) in &check.header {
        against.extend(header(answer, name, text));
    }
    if !check.json.is_empty() {
        match bounded::from_json(&answer.body) {
            Ok(body) => against.extend(check.json.iter().filter_map(|(path, text)| field(&body, path, text))),
            Err(error) => against.push(format!("the body is no JSON ({error}): {}", glimpse(&answer.body))),
        }
    }
    if let Some(text) = &check.contains
        && memchr::memmem::find(&answer.body, text.as_bytes()).is_none()
    {
        against.push(format!("the body does not hold `{text}`: {}", glimpse(&answer.body)));
    }
    against
}

fn header(answer: &Answer, name: &str, text: &str) -> Option<String> {
    let same = |(k, _): &&(String, String)| k.eq_ignore_ascii_case(name);
    let values: Vec<&str> = answer.headers.iter().filter(same).map(|(_, v)| v.as_str()).collect();
    match values.as_slice() {
        [] => Some(format!("the answer has no header `{name}`")),
        some if some.iter().any(|v| v.contains(text)) => None,
        some => Some(format!("header `{name}` is `{}`, without `{text}`", some.join(", "))),
    }
}

fn field(body: &Value, path: &str, text: &str) -> Option<String> {
    let Ok(parsed) = JsonPath::parse(path) else { return Some(format!("`{path}` is no JSONPath")) };
    let values: Vec<String> = parsed.query(body).all().into_iter().map(as_text).collect();
    match values.as_slice() {
        [] => Some(format!("the body has nothing at `{path}`")),
        some if some.iter().any(|v| v == text) => None,
        [first, ..] => Some(format!("`{path}` is `{}`, not `{text}`", glimpse(first.as_bytes()))),
    }
}

/// A JSON value as a person would write it: texts without quotes.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn detail(check: &HttpCheck, answer: &Answer) -> String {
    let fields = check.json.iter().map(|(path, text)| format!(", {path} = {text}"));
    format!("{}{}", answer.status, fields.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_owned().into(),
        }
    }

    fn check(text: &str) -> HttpCheck {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn places_are_urls_or_services() {
        let service = |namespace: &str, name: &str, port: &str, path: &str| {
            let own = str::to_owned;
            Some(Place::Service { namespace: own(namespace), name: own(name), port: own(port), path: own(path) })
        };
        assert_eq!(place("web.shop:8080/a?b=c", "x"), service("shop", "web", "8080", "/a?b=c"));
        assert_eq!(place("web:http", "x"), service("x", "web", "http", "/"));
        assert_eq!(place("web.shop.svc.cluster.local", "x"), service("shop", "web", "80", "/"));
        for bad in ["", "/path", "a.b.c:80", "we b:80", "web:80:90", "a@b:80", "..:80"] {
            assert_eq!(place(bad, "x"), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_judged_by_all_that_is_asked() {
        let all = check(
            "url = 'http://x/'\nstatus = 201\ncontains = 'ready'\n[header]\nContent-Type = 'json'\n[json]\n'$.a[0].b' = '7'",
        );
        assert_eq!(judge(&all, &answer(201, r#"{"a":[{"b":7}],"c":"ready"}"#)), Vec::<String>::new());
        let against = judge(&all, &answer(200, r#"{"a":[{"b":8}]}"#));
        assert_eq!(against.len(), 3, "{against:?}");
        assert!(against[1].contains("`$.a[0].b` is `8`, not `7`"), "{against:?}");
        let against = judge(&all, &answer(201, "<html>ready"));
        assert!(against[0].contains("no JSON"), "{against:?}");
        let header = check("url = 'http://x/'\nheader = { Server = 'envoy', content-type = 'xml' }");
        let against = judge(&header, &answer(200, ""));
        assert!(against[0].contains("no header `Server`") && against[1].contains("without `xml`"), "{against:?}");
    }

    #[tokio::test]
    async fn a_path_that_is_none_is_not_tried_again() {
        let bad = check("url = 'http://127.0.0.1:1/'\njson = { '$[' = 'x' }");
        assert!(matches!(look(&bad, None, "default").await, Look::Never(_)));
        let bad = check("url = 'web'");
        assert!(matches!(look(&bad, None, "default").await, Look::NotYet(_)));
        assert!(matches!(look(&check("url = '::'"), None, "default").await, Look::Never(_)));
    }
}
