//! `labimg schema`: the JSON Schema of profiles, for editors.

use crate::model::profile::Profile;

/// The schema (JSON Schema 2020-12), sorted and indented.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Profile).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), "https://labimg.invalid/profile-1.json".into());
    }
    schema
}
