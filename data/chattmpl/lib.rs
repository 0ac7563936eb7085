//! Chat templates behind a C interface. A template is compiled once and may then be
//! rendered by any number of threads at a time. What is rendered equals, byte for byte,
//! what transformers' `apply_chat_template(tokenize=False)` renders; where minijinja
//! and Python differ, the modules below follow Python.

mod environment;
mod generation;
mod pyjson;
mod pyrepr;
mod pystr;

use minijinja::{Environment, Error, ErrorKind, Value};
use std::ffi::c_char;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// A compiled template.
pub struct Template(Environment<'static>);

/// Compiles the `len` bytes at `source`. `now`, in seconds since 1970, is what
/// strftime_now() prints. Returns null after storing a message in `text` and `text_len`,
/// to be freed with chattmpl_free_text.
///
/// # Safety
/// `source` is valid for `len` bytes and not null; `text` and `text_len` can be written.
#[no_mangle]
pub unsafe extern "C" fn chattmpl_new(
    source: *const u8,
    len: usize,
    now: i64,
    text: *mut *mut c_char,
    text_len: *mut usize,
) -> *mut Template {
    let compiled = guard(|| environment::compile(bytes_to_str(source, len)?, now));
    match compiled {
        Ok(env) => Box::into_raw(Box::new(Template(env))),
        Err(message) => {
            give(message, text, text_len);
            std::ptr::null_mut()
        }
    }
}

/// Renders with the JSON object of `len` bytes at `context` as variables. Returns 0 and
/// stores the text, or 1 and stores a message; free either with chattmpl_free_text.
///
/// # Safety
/// `template` came from chattmpl_new and is not freed; the rest as in chattmpl_new.
#[no_mangle]
pub unsafe extern "C" fn chattmpl_render(
    template: *const Template,
    context: *const u8,
    len: usize,
    text: *mut *mut c_char,
    text_len: *mut usize,
) -> i32 {
    let env = &(*template).0;
    let rendered = guard(|| {
        let context: serde_json::Value = serde_json::from_str(bytes_to_str(context, len)?)
            .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
        env.get_template(environment::NAME)?
            .render(Value::from_serialize(context))
    });
    let (status, message) = match rendered {
        Ok(s) => (0, s),
        Err(s) => (1, s),
    };
    give(message, text, text_len);
    status
}

/// Frees a template.
///
/// # Safety
/// `template` came from chattmpl_new, and nobody uses it any more.
#[no_mangle]
pub unsafe extern "C" fn chattmpl_free(template: *mut Template) {
    drop(Box::from_raw(template));
}

/// Frees a text or message.
///
/// # Safety
/// `text` and `len` are what one of the functions above stored.
#[no_mangle]
pub unsafe extern "C" fn chattmpl_free_text(text: *mut c_char, len: usize) {
    drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(
        text as *mut u8,
        len,
    )));
}

/// Runs f; an error becomes its message and a panic stays on this side of the C border.
fn guard<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("the template engine panicked".into()),
    }
}

unsafe fn bytes_to_str<'a>(p: *const u8, len: usize) -> Result<&'a str, Error> {
    std::str::from_utf8(std::slice::from_raw_parts(p, len))
        .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

unsafe fn give(s: String, text: *mut *mut c_char, text_len: *mut usize) {
    let bytes = s.into_bytes().into_boxed_slice();
    *text_len = bytes.len();
    *text = Box::into_raw(bytes) as *mut c_char;
}
