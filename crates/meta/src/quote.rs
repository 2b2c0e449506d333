//! Quoting text the way Go's `%q` does, because upstream's messages quote names and bad values with it.
//! Knows nothing of what is being quoted.

use std::fmt::Write;

/// `text` in double quotes, with Go's escapes for quotes, backslashes and characters that do not print.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        _ => {
            let code = u32::from(c);
            // Writing to a String cannot fail.
            let _ = match code {
                0x20..=0x7e => out.write_char(c),
                0..=0x1f | 0x7f => write!(out, "\\x{code:02x}"),
                _ if !needs_escape(c) => out.write_char(c),
                0x80..=0xffff => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push_str(short);
}

/// Whether the character does not print. The standard library's debug form knows; combining marks print.
fn needs_escape(c: char) -> bool {
    c.is_control() || c.is_whitespace() || (!c.is_alphanumeric() && c.escape_debug().len() > 1)
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("web-1"), "\"web-1\"");
        assert_eq!(quote("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(quote("line\nbreak\t\u{1}"), r#""line\nbreak\t\x01""#);
        assert_eq!(quote("grün 日本"), "\"grün 日本\"");
        assert_eq!(quote("\u{200b}\u{a0}"), r#""\u200b\u00a0""#);
    }
}
