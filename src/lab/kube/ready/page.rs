//! Pages that must answer 2xx or 3xx: from this machine, or through the cluster's API.

use std::time::Duration;

use super::{Scope, Standing};
use crate::base::bounded;
use crate::lab::http::{self, Request};
use crate::lab::kube::proxy;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks `url` from this machine; redirects are answers, not followed.
pub(super) async fn url(url: &str) -> Standing {
    let request = Request { method: "GET", url, headers: &[], follow: false, timeout: PATIENCE };
    match http::fetch(&request).await {
        Ok(answer) => of_status(answer.status),
        Err(error) => Standing::Waiting(error.to_string()),
    }
}

/// Asks `service` (or `service.namespace`) through the API server.
pub(super) async fn service(scope: &Scope<'_>, service: &str, port: &str, path: &str) -> Standing {
    let (name, namespace) = service.split_once('.').unwrap_or((service, scope.namespace));
    let asked = proxy::ask(scope.api, (namespace, name, port), "GET", path, &[]);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) if answer.status == 503 => {
            let text = String::from_utf8_lossy(&answer.body);
            let message = bounded::from_json::<serde_json::Value>(text.as_bytes()).ok();
            let message = message.and_then(|m| m.get("message")?.as_str().map(str::to_owned));
            Standing::Waiting(message.unwrap_or_else(|| "it answers 503".to_owned()))
        }
        Ok(Ok(answer)) => of_status(answer.status),
        Ok(Err(error)) => Standing::Waiting(error.to_string()),
        Err(_) => Standing::Waiting(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn of_status(status: u16) -> Standing {
    match status {
        200..400 => Standing::Ready,
        other => Standing::Waiting(format!("it answers {other}")),
    }
}
