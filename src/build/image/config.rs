//! An image's configuration (image-spec, "Image Configuration").

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::manifest::PlacedLayer;
use crate::model::image_def::{ImageConfig, ImageDef};
use crate::model::image_def_load::exposed;
use crate::model::platform::Platform;
use crate::model::source_map::Loc;

/// `PATH` where image.toml gives none: Debian's for root.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration's bytes: keys sorted, no blanks.
pub fn config(def: &ImageDef, platform: Platform, epoch: u64, layers: &[PlacedLayer]) -> Vec<u8> {
    let created = rfc3339(epoch);
    let kept = || layers.iter().filter(|l| !l.layer.empty);
    let history: Vec<Value> =
        kept().map(|l| json!({ "created": created, "created_by": format!("labimg: {}", l.what) })).collect();
    let diff_ids: Vec<String> = kept().map(|l| l.layer.diff_id.to_string()).collect();
    let mut all = json!({
        "architecture": platform.arch(),
        "config": run_config(&def.config),
        "created": created,
        "history": history,
        "os": platform.os(),
        "rootfs": { "diff_ids": diff_ids, "type": "layers" },
    });
    if let (Some(variant), Some(map)) = (variant(platform), all.as_object_mut()) {
        map.insert("variant".to_owned(), variant.into());
    }
    all.to_string().into_bytes()
}

/// The variant image-spec has for a platform.
pub fn variant(platform: Platform) -> Option<&'static str> {
    (platform.arch() == "arm64").then_some("v8")
}

/// Environment variables, `PATH` among them.
pub fn environment(config: &ImageConfig) -> BTreeMap<&str, &str> {
    let mut all = BTreeMap::from([("PATH", DEFAULT_PATH)]);
    all.extend(config.env.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    all
}

fn run_config(config: &ImageConfig) -> Value {
    let env: Vec<String> = environment(config).iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut map = Map::from_iter([("Env".to_owned(), json!(env))]);
    let mut say = |key: &str, wanted: bool, value: Value| {
        if wanted {
            map.insert(key.to_owned(), value);
        }
    };
    let texts = |list: &[Loc<String>]| list.iter().map(|t| t.as_str().to_owned()).collect::<Vec<_>>();
    let set = |keys: Vec<String>| Value::Object(keys.into_iter().map(|k| (k, json!({}))).collect());
    say("Entrypoint", !config.entrypoint.is_empty(), json!(texts(&config.entrypoint)));
    say("Cmd", !config.cmd.is_empty(), json!(texts(&config.cmd)));
    let ports = config.exposed_ports.iter().map(|p| exposed(p).unwrap_or_else(|| p.as_str().to_owned())).collect();
    say("ExposedPorts", !config.exposed_ports.is_empty(), set(ports));
    say("Volumes", !config.volumes.is_empty(), set(texts(&config.volumes)));
    say("Labels", !config.labels.is_empty(), json!(config.labels));
    for (key, value) in
        [("User", &config.user), ("WorkingDir", &config.working_dir), ("StopSignal", &config.stop_signal)]
    {
        say(key, value.is_some(), json!(value.as_ref().map(|v| v.as_str())));
    }
    Value::Object(map)
}

/// Seconds since 1970 as RFC 3339 has them in UTC (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
