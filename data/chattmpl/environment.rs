//! The environment in which transformers compiles a chat template: trim_blocks,
//! lstrip_blocks, no escaping, and its few functions, filters and tags.

use crate::{generation, pyjson, pyrepr, pystr};
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

/// The name under which the one template is stored.
pub const NAME: &str = "chat_template";

/// How many instructions a rendering may take before it counts as an endless loop.
const FUEL: u64 = 10_000_000;

/// Compiles `source` in an environment of its own.
pub fn compile(source: &str, now: i64) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(pystr::method);
    env.set_formatter(|out, _state, value| pyrepr::print(out, value));
    env.add_filter("trim", |s: String, set: Option<String>| {
        pystr::strip(&s, set.as_deref(), true, true)
    });
    env.add_filter("tojson", pyjson::tojson);
    env.add_test("callable", |v: Value| v.kind() == ValueKind::Plain);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", move |format: String| strftime(now, &format));
    env.set_fuel(Some(FUEL));
    env.add_template_owned(NAME, generation::as_plain_blocks(&unix_newlines(source)))?;
    Ok(env)
}

fn raise_exception(message: String, _rest: Rest<Value>) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime(now: i64, format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let date = chrono::DateTime::from_timestamp(now, 0)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the time is out of range"))?;
    let mut out = String::new();
    write!(out, "{}", date.format(format)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("bad date format {format:?}"),
        )
    })?;
    Ok(out)
}

/// Jinja reads a template with "\n" as its only line end.
fn unix_newlines(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}
