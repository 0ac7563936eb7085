//! Methods of Python's str that differ from minijinja's.

use minijinja::value::{from_args, Value};
use minijinja::{Error, State};

/// Python counts the four information separators as white space, Unicode does not.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// str.strip, str.lstrip and str.rstrip: `set` are the characters to take off.
pub fn strip(s: &str, set: Option<&str>, left: bool, right: bool) -> String {
    let off = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
    let s = if left { s.trim_start_matches(off) } else { s };
    let s = if right { s.trim_end_matches(off) } else { s };
    s.to_string()
}

/// Calls a method of a value that minijinja itself has no method for.
pub fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(s) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
    };
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(args)?;
            Ok(strip(s, set, name != "rstrip", name != "lstrip").into())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(s.strip_prefix(prefix).unwrap_or(s).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(s.strip_suffix(suffix).unwrap_or(s).into())
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}
