//! The `metric` check: a PromQL query whose first value must lie within bounds (Prometheus HTTP API, `/api/v1/query`).

use serde::Deserialize;
use serde_json::Value;

use super::ask::{Asker, escaped, glimpse, json};
use super::look::Look;
use crate::base::bounded;
use crate::base::null;
use crate::model::profile::MetricCheck;

#[derive(Deserialize)]
struct Answered {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// One look: asks `asker`, a Prometheus.
pub async fn look(check: &MetricCheck, asker: &dyn Asker) -> Look {
    let path = format!("/api/v1/query?query={}", escaped(&check.query));
    let answer = match asker.ask("GET", &path, &[]).await {
        Ok(answer) => answer,
        Err(error) => return Look::not_yet(error),
    };
    if answer.status == 400 {
        // bad_data: what was asked is no PromQL.
        return Look::Never(vec![format!("`{}`: {}", check.query, super::ask::status_line(&answer))]);
    }
    if answer.status != 200 {
        return Look::not_yet(format!("{} answered {}", asker.label(), super::ask::status_line(&answer)));
    }
    match bounded::from_json::<Answered>(&answer.body) {
        Ok(answered) => judge(check, &answered.data),
        Err(error) => Look::not_yet(format!("Prometheus answered no result ({error}): {}", glimpse(&answer.body))),
    }
}

fn judge(check: &MetricCheck, data: &Data) -> Look {
    let (labels, value) = match first(data) {
        Ok(Some(found)) => found,
        Ok(None) => return Look::not_yet(format!("`{}` has no value: no such series", check.query)),
        // What a query gives is never of another type the next time; garbage may be.
        Err(why) if matches!(data.result_type.as_str(), "string" | "matrix") => return Look::Never(vec![why]),
        Err(why) => return Look::not_yet(why),
    };
    let shown = format!("{}{value}", labels.map(|l| format!("{l} ")).unwrap_or_default());
    let too_small = check.min.filter(|min| value < *min || value.is_nan());
    let too_large = check.max.filter(|max| value > *max || value.is_nan());
    match (too_small, too_large) {
        (Some(min), _) => Look::not_yet(format!("`{}` is {value}, less than {min}", check.query)),
        (_, Some(max)) => Look::not_yet(format!("`{}` is {value}, more than {max}", check.query)),
        (None, None) => Look::seen(shown),
    }
}

/// The first value of a result with its labels; `None` where it is empty.
fn first(data: &Data) -> Result<Option<(Option<String>, f64)>, String> {
    let no = || format!("a result of type `{}` has no value that can be compared", data.result_type);
    let number = |pair: &Value| pair.get(1)?.as_str()?.parse::<f64>().ok();
    match data.result_type.as_str() {
        "scalar" => number(&data.result).map(|v| Some((None, v))).ok_or_else(no),
        "vector" => {
            let Some(sample) = data.result.get(0) else { return Ok(None) };
            let value = sample.get("value").and_then(number).ok_or_else(no)?;
            let labels = sample.get("metric").filter(|m| m.as_object().is_some_and(|m| !m.is_empty()));
            Ok(Some((labels.map(|m| glimpse(m.to_string().as_bytes())), value)))
        }
        _ => Err(no()),
    }
}

#[derive(Deserialize)]
struct Targets {
    data: ActiveTargets,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTargets {
    #[serde(default, deserialize_with = "null::in_list")]
    active_targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default, deserialize_with = "null::absent")]
    scrape_pool: String,
    #[serde(default, deserialize_with = "null::absent")]
    scrape_url: String,
    #[serde(default, deserialize_with = "null::absent")]
    last_error: String,
    #[serde(default, deserialize_with = "null::absent")]
    health: String,
}

/// What Prometheus scrapes, in words: how many targets, and those that do not answer with why.
///
/// # Errors
/// No answer, or none that Prometheus gives.
pub async fn targets(asker: &dyn Asker) -> Result<Vec<String>, String> {
    let found = json::<Targets>(asker, "/api/v1/targets?state=active").await?.data.active_targets;
    let down: Vec<&Target> = found.iter().filter(|t| t.health != "up").collect();
    let mut lines = vec![match found.len() {
        0 => "Prometheus scrapes nothing: it found no target".to_owned(),
        all => format!("Prometheus scrapes {all} targets, {} of them up", all - down.len()),
    }];
    let line = |t: &&Target| {
        let why = if t.last_error.is_empty() { "not scraped yet" } else { &t.last_error };
        format!("{} ({}): {}", t.scrape_url, t.scrape_pool, glimpse(why.as_bytes()))
    };
    lines.extend(down.iter().take(10).map(line));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(check: &str, data: &str) -> Look {
        judge(
            &toml::from_str(&format!("via = 'p'\nquery = 'q'\n{check}")).unwrap(),
            &serde_json::from_str(data).unwrap(),
        )
    }

    #[test]
    fn the_first_value_counts() {
        let two = r#"{"resultType":"vector","result":[{"metric":{"job":"a"},"value":[1.5,"3"]},{"metric":{},"value":[1.5,"9"]}]}"#;
        assert_eq!(judged("", two), Look::seen(r#"{"job":"a"} 3"#));
        assert_eq!(judged("min = 3\nmax = 3", two), Look::seen(r#"{"job":"a"} 3"#));
        assert!(matches!(judged("min = 4", two), Look::NotYet(why) if why[0].contains("less than 4")));
        assert!(matches!(judged("max = 2", two), Look::NotYet(why) if why[0].contains("more than 2")));
        assert_eq!(judged("", r#"{"resultType":"scalar","result":[1.5,"7"]}"#), Look::seen("7"));
    }

    #[test]
    fn no_value_is_not_yet_and_no_number_is_never() {
        assert!(matches!(judged("", r#"{"resultType":"vector","result":[]}"#), Look::NotYet(_)));
        assert!(matches!(judged("", r#"{"resultType":"string","result":[1,"x"]}"#), Look::Never(_)));
        assert!(matches!(judged("", r#"{"resultType":"vector","result":[{"value":7}]}"#), Look::NotYet(_)));
        let nan = r#"{"resultType":"scalar","result":[1.5,"NaN"]}"#;
        assert!(matches!(judged("min = 0", nan), Look::NotYet(_)));
    }
}
