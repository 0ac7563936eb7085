//! `{% generation %}`, a tag of transformers' own. It marks the assistant's text for
//! loss masks and prints its body unchanged, so here it becomes `{% if true %}`.

/// Replaces the tag and its end by a block that minijinja knows.
pub fn as_plain_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let end = start + length + "%}".len();
        out.push_str(&rest[..start]);
        match replacement(&rest[start + 2..end - 2]) {
            Some(tag) => out.push_str(&tag),
            None => out.push_str(&rest[start..end]),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The tag to use for one whose inside, between `{%` and `%}`, is `tag`.
fn replacement(tag: &str) -> Option<String> {
    let word = match tag.trim_matches(['-', '+']).trim() {
        "generation" => "if true",
        "endgeneration" => "endif",
        _ => return None,
    };
    let sign = |c: Option<char>| match c {
        Some('-') => "-",
        Some('+') => "+",
        _ => "",
    };
    let (before, after) = (sign(tag.chars().next()), sign(tag.chars().last()));
    Some(format!("{{%{before} {word} {after}%}}"))
}
