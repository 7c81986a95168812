//! `labimg schema`: the JSON Schemas of profiles and of `image.toml` files, for editors.

use crate::model::image_def::ImageDef;
use crate::model::profile::Profile;

/// The schema of profiles (JSON Schema 2020-12), sorted and indented.
pub fn profile() -> serde_json::Value {
    named(schemars::schema_for!(Profile), "https://labimg.invalid/profile-1.json")
}

/// The schema of `image.toml` files.
pub fn image() -> serde_json::Value {
    named(schemars::schema_for!(ImageDef), "https://labimg.invalid/image-1.json")
}

fn named(schema: schemars::Schema, id: &str) -> serde_json::Value {
    let mut schema = schema.to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), id.into());
    }
    schema
}
