//! JSON Schema of scenarios, generated from the types. Editors read it by a `#:schema` line at the top of a scenario.

use schemars::transform::{Transform, transform_subschemas};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use crate::scenario::Scenario;

/// Returns the JSON Schema of a scenario, draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(Plain);
    let mut schema: Value = SchemaGenerator::new(settings).into_root_schema_for::<Scenario>().into();
    schema["title"] = "Scenario of modm".into();
    schema
}

/// Makes descriptions plain text, and drops formats that say how wide a number is in memory.
#[derive(Clone)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get("description") {
            let plain = plain(text);
            schema.insert("description".into(), plain.into());
        }
        if let Some("double" | "float" | "uint8" | "uint16" | "uint32" | "uint64") =
            schema.get("format").and_then(Value::as_str)
        {
            schema.remove("format");
        }
        transform_subschemas(self, schema);
    }
}

/// Returns the text of a comment without the marks of rustdoc's links, its lines joined.
fn plain(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.replace("[`", "`").replace("`]", "`")
}
