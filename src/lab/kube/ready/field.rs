//! A field of an object, by JSONPath (RFC 9535).

use kube::Error;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::{Scope, Standing, place};

/// Whether what `path` finds first in `kind/name` is `value`.
pub(super) async fn look(
    scope: &Scope<'_>,
    kind: &str,
    name: &str,
    path: &str,
    value: &str,
) -> Result<Standing, Error> {
    let parsed = match JsonPath::parse(path) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Standing::Failed(format!("`{path}`: {error}"))),
    };
    let Some(known) = scope.kinds.named(kind).await? else {
        return Ok(Standing::Waiting(format!("the cluster knows no `{kind}`")));
    };
    let (namespace, name) = place(scope, name);
    let Some(object) = known.objects(&scope.api.client, namespace).get_opt(name).await? else {
        return Ok(Standing::Waiting(format!("{kind}/{name} is not there")));
    };
    let object = serde_json::to_value(&object).map_err(Error::SerdeError)?;
    Ok(compare(parsed.query(&object).first(), value))
}

fn compare(found: Option<&Value>, want: &str) -> Standing {
    let found = match found {
        None => return Standing::Waiting("it has no such field".to_owned()),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match found == want {
        true => Standing::Ready,
        false => Standing::Waiting(format!("it is `{}`", found.chars().take(100).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_compared_as_text() {
        assert_eq!(compare(Some(&json!("True")), "True"), Standing::Ready);
        assert_eq!(compare(Some(&json!(3)), "3"), Standing::Ready);
        assert_eq!(compare(Some(&json!(true)), "true"), Standing::Ready);
        assert_eq!(compare(Some(&json!("a")), "b"), Standing::Waiting("it is `a`".into()));
        assert_eq!(compare(None, "b"), Standing::Waiting("it has no such field".into()));
    }
}
