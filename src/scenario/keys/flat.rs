//! Keys of scenarios as a list, read from the JSON Schema. Names of list entries have `N` for the place in the list,
//! tables by name have `NAME`: `cluster.gpus.N.count`, `models.serves.NAME.hits`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::schema::schema;

/// Key of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Dotted name.
    pub name: String,
    /// Type of the value, in words.
    pub kind: String,
    /// Default as TOML; `None` if the key has no value unless it is set.
    pub default: Option<String>,
    /// True if a scenario that has the section must have the key.
    pub required: bool,
    /// Meaning, as the comment of its field has it.
    pub meaning: String,
    /// Values that the key may have, if there are only a few.
    pub choices: Vec<Choice>,
}

/// Value that a key may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Value as it is written.
    pub value: String,
    /// Meaning of the value.
    pub meaning: String,
}

impl Key {
    /// Returns whether a dotted name, with numbers and names in it, is that of the key.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.split('.').count() == name.split('.').count() && self.is_within(name)
    }

    /// Returns whether the key is the named one or lies within it.
    #[must_use]
    pub fn is_within(&self, outer: &str) -> bool {
        let mut own = self.name.split('.');
        outer.split('.').all(|part| own.next().is_some_and(|own| own == part || own == "NAME" || is_place(own, part)))
    }

    /// Returns whether a dotted name lies within the key.
    pub(super) fn holds(&self, inner: &str) -> bool {
        let mut inner = inner.split('.');
        self.name
            .split('.')
            .all(|own| inner.next().is_some_and(|part| own == part || own == "NAME" || is_place(own, part)))
    }

    /// Returns the first part of the name.
    #[must_use]
    pub fn section(&self) -> &str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }
}

fn is_place(own: &str, part: &str) -> bool {
    own == "N" && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the keys of a scenario, sorted by section and name.
#[must_use]
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let root = schema();
        let walk = Walk { root: &root };
        let mut keys = Vec::new();
        walk.properties(&root, "", &mut keys);
        keys
    });
    &KEYS
}

struct Walk<'a> {
    root: &'a Value,
}

/// Name of the list whose entries repeat settings of the section around it.
const REPEATS: &str = "trace.synthetic.parts.N";

impl<'a> Walk<'a> {
    /// Adds the keys of a table's properties.
    fn properties(&self, table: &'a Value, prefix: &str, keys: &mut Vec<Key>) {
        let required: Vec<&str> =
            table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in table["properties"].as_object().into_iter().flatten() {
            let name_in_full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if prefix == REPEATS && (name == "arrivals" || name == "prompts") {
                let meaning = format!("As `trace.synthetic.{name}`, key by key.");
                let kind = "table".to_owned();
                keys.push(Key { name: name_in_full, kind, meaning, ..Key::default() });
                continue;
            }
            self.key(property, &name_in_full, required.contains(&name.as_str()), keys);
        }
    }

    /// Adds a key, or the keys of the section that it names.
    fn key(&self, property: &'a Value, name: &str, required: bool, keys: &mut Vec<Key>) {
        let shape = self.resolved(property);
        let is_section = shape.get("properties").is_some();
        if !is_section {
            let meaning = [property, shape].into_iter().find_map(|found| found["description"].as_str());
            keys.push(Key {
                name: name.to_owned(),
                kind: self.kind(shape),
                default: default_of(property, shape, required),
                required,
                meaning: meaning.unwrap_or_default().to_owned(),
                choices: self.choices(shape),
            });
        }
        self.inner(shape, name, keys);
    }

    /// Adds the keys of what lies below: sections, entries of lists, tables by name, tables with a choice in them.
    fn inner(&self, shape: &'a Value, name: &str, keys: &mut Vec<Key>) {
        if shape.get("properties").is_some() {
            self.properties(shape, name, keys);
        } else if let Some(items) = shape.get("items").filter(|items| items.is_object()) {
            let items = self.resolved(items);
            if items.get("properties").is_some() {
                self.properties(items, &format!("{name}.N"), keys);
            }
        } else if let Some(values) = shape.get("additionalProperties").filter(|values| values.is_object()) {
            let values = self.resolved(values);
            if values.get("properties").is_some() {
                self.properties(values, &format!("{name}.NAME"), keys);
            }
        } else {
            let mut own = Vec::new();
            for variant in alternatives(shape) {
                self.properties(self.resolved(variant), name, &mut own);
            }
            add_alternatives(own, shape, keys);
        }
    }

    /// Follows references, and leaves out that a value may be absent.
    fn resolved(&self, mut shape: &'a Value) -> &'a Value {
        loop {
            if let Some(reference) = shape["$ref"].as_str() {
                shape = &self.root["$defs"][reference.trim_start_matches("#/$defs/")];
                continue;
            }
            let present: Vec<&Value> = alternatives(shape).filter(|one| one["type"] != "null").collect();
            match present[..] {
                [only] if alternatives(shape).count() == 2 => shape = only,
                _ => return shape,
            }
        }
    }

    /// Returns the type of a value in words.
    fn kind(&self, shape: &'a Value) -> String {
        let shape = self.resolved(shape);
        if !self.choices(shape).is_empty() && shape.get("anyOf").is_none() {
            let of_list = if shape["type"] == "array" { "list of some" } else { "one" };
            return format!("{of_list} of the values below");
        }
        let names: Vec<&str> = match &shape["type"] {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
            _ => {
                let mut kinds: Vec<String> = alternatives(shape).map(|one| self.kind(one)).collect();
                kinds.dedup();
                return kinds.join(", or ");
            }
        };
        match names.first().copied().unwrap_or_default() {
            "integer" => "whole number".to_owned(),
            "boolean" => "true or false".to_owned(),
            "array" => self.kind_of_list(shape),
            "object" => match shape.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => format!("table by name, each a {}", self.kind(values)),
                None => "table".to_owned(),
            },
            other => other.to_owned(),
        }
    }

    fn kind_of_list(&self, shape: &'a Value) -> String {
        if let Some(places) = shape["prefixItems"].as_array() {
            let kinds: Vec<String> = places.iter().map(|place| self.kind(place)).collect();
            return format!("[{}]", kinds.join(", "));
        }
        let items = self.kind(&shape["items"]);
        match shape["maxItems"].as_u64() {
            Some(length) => format!("list of {length}, each a {items}"),
            None => format!("list, each a {items}"),
        }
    }

    /// Returns the values of an enumeration.
    fn choices(&self, shape: &'a Value) -> Vec<Choice> {
        let shape = self.resolved(shape);
        let choice = |value: &Value, meaning: &Value| {
            let value = value.as_str()?.to_owned();
            Some(Choice { value, meaning: meaning.as_str().unwrap_or_default().to_owned() })
        };
        if let Some(found) = shape.get("const") {
            return choice(found, &shape["description"]).into_iter().collect();
        }
        if let Some(values) = shape["enum"].as_array() {
            return values.iter().filter_map(|value| choice(value, &Value::Null)).collect();
        }
        if shape["type"] == "array" {
            return self.choices(&shape["items"]);
        }
        let constant = |one: &Value| one.get("const").is_some() || one.get("enum").is_some();
        alternatives(shape).filter(|one| constant(one)).flat_map(|one| self.choices(one)).collect()
    }
}

/// Adds keys of which each alternative of a table has some. The key that chooses between them becomes one.
fn add_alternatives(found: Vec<Key>, shape: &Value, keys: &mut Vec<Key>) {
    let mut added: Vec<Key> = Vec::new();
    for key in found {
        if let Some(same) = added.iter_mut().find(|same| same.name == key.name) {
            same.choices.extend(key.choices);
            if same.meaning != key.meaning && !same.meaning.contains(&key.meaning) && !key.meaning.is_empty() {
                same.meaning = format!("{} {}", same.meaning, key.meaning);
            }
            continue;
        }
        added.push(key);
    }
    for key in &mut added {
        if key.meaning.is_empty() {
            "Form of the table: the other keys depend on it.".clone_into(&mut key.meaning);
        }
        // The name of an alternative has no comment of its own: the alternative has.
        for choice in &mut key.choices {
            if choice.meaning.is_empty() {
                choice.meaning = meaning_of_alternative(shape, &choice.value);
            }
        }
    }
    keys.append(&mut added);
}

/// Returns the meaning of the alternative with a tag.
fn meaning_of_alternative(shape: &Value, tag: &str) -> String {
    let tagged = |variant: &&Value| {
        let properties = variant["properties"].as_object();
        properties.is_some_and(|all| all.values().any(|value| value["const"].as_str() == Some(tag)))
    };
    let found = alternatives(shape).find(tagged).and_then(|variant| variant["description"].as_str());
    found.unwrap_or_default().to_owned()
}

/// Returns the alternatives of a shape.
fn alternatives(shape: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().flat_map(|name| shape[name].as_array().into_iter().flatten())
}

/// Returns a default as TOML. A key that may be absent, and for which nothing stands then, has none.
fn default_of(property: &Value, shape: &Value, required: bool) -> Option<String> {
    let empty = match &shape["type"] {
        Value::String(name) if name == "boolean" => Some("false".to_owned()),
        _ => None,
    };
    match property.get("default") {
        Some(value) => written(value),
        None => empty.filter(|_| !required),
    }
}

/// Returns a JSON value as TOML writes it in one line; `None` for null and for what is empty.
pub(super) fn written(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Array(items) if items.is_empty() => return None,
        Value::Object(items) if items.is_empty() => return None,
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(written).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(items) => table(items),
        other => other.to_string(),
    })
}

fn table(items: &Map<String, Value>) -> String {
    let items: Vec<String> =
        items.iter().filter_map(|(name, value)| Some(format!("{name} = {}", written(value)?))).collect();
    format!("{{ {} }}", items.join(", "))
}
