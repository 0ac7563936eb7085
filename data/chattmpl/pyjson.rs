//! The tojson filter of transformers: json.dumps with ensure_ascii off, no HTML escapes,
//! and keys in their own order.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

/// `x | tojson(ensure_ascii=, indent=, separators=, sort_keys=)`.
pub fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent = indentation(options.get("indent")?)?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "separators is not a pair",
            ))
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let dumper = Dumper {
        ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item,
        key,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    dumper.value(&mut out, &value, 0)?;
    Ok(Value::from_safe_string(out))
}

/// The text of one level: Python takes a number of blanks or a string.
fn indentation(indent: Option<Value>) -> Result<Option<String>, Error> {
    let Some(indent) = indent.filter(|v| !v.is_none()) else {
        return Ok(None);
    };
    if let Some(s) = indent.as_str() {
        return Ok(Some(s.to_string()));
    }
    Ok(Some(
        " ".repeat(i64::try_from(indent)?.clamp(0, 64) as usize),
    ))
}

struct Dumper {
    ascii: bool,
    sort: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl Dumper {
    fn value(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write!(out, "{value}").map_err(Error::from)?,
            ValueKind::String => self.string(out, value.as_str().unwrap_or("")),
            ValueKind::Seq | ValueKind::Iterable => self.list(out, value, depth)?,
            ValueKind::Map => self.dict(out, value, depth)?,
            kind => {
                let message = format!("Object of type {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn list(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut empty = true;
        out.push('[');
        for item in value.try_iter()? {
            self.separate(out, &mut empty, depth);
            self.value(out, &item, depth + 1)?;
        }
        self.close(out, empty, depth, ']');
        Ok(())
    }

    fn dict(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        let mut empty = true;
        out.push('{');
        for key in &keys {
            self.separate(out, &mut empty, depth);
            self.string(out, &key_text(key));
            out.push_str(&self.key);
            self.value(out, &value.get_item(key)?, depth + 1)?;
        }
        self.close(out, empty, depth, '}');
        Ok(())
    }

    /// What stands before an item.
    fn separate(&self, out: &mut String, empty: &mut bool, depth: usize) {
        if !*empty {
            out.push_str(&self.item);
        }
        *empty = false;
        self.newline(out, depth + 1);
    }

    fn close(&self, out: &mut String, empty: bool, depth: usize, bracket: char) {
        if !empty {
            self.newline(out, depth);
        }
        out.push(bracket);
    }

    fn newline(&self, out: &mut String, depth: usize) {
        let Some(indent) = &self.indent else { return };
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }

    fn string(&self, out: &mut String, s: &str) {
        out.push('"');
        for c in s.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && c > '~') => escape(out, c),
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// \uXXXX, twice for a character outside the basic plane.
fn escape(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => (if key.is_true() { "true" } else { "false" }).into(),
        _ => key.to_string(),
    }
}
