//! Finds apiVersion and kind of a body without decoding the rest of it.

use crate::error::DecodeError;
use crate::json::Scanner;
use crate::yaml;
use value::Value;

/// `apiVersion` and `kind` of a JSON object; empty where it has none.
pub fn peek_type_meta_json(body: &[u8]) -> Result<(String, String), DecodeError> {
    let mut scanner = Scanner::new(body);
    let mut meta = (None, None);
    if scanner.peek() != Some(b'{') {
        scanner.skip(0)?;
        return Err(DecodeError::Type(
            "json: cannot unmarshal the body into Go value of type struct".to_owned(),
        ));
    }
    if !scanner.open(b'}') {
        loop {
            let key = scanner.key()?;
            let slot = match key.as_str() {
                "apiVersion" => Some(&mut meta.0),
                "kind" => Some(&mut meta.1),
                _ => None,
            };
            match slot {
                Some(slot) if scanner.peek() == Some(b'"') => *slot = Some(scanner.string()?),
                _ => scanner.skip(1)?,
            }
            if meta.0.is_some() && meta.1.is_some()
                || !scanner.another(b'}', "after object key:value pair")?
            {
                break;
            }
        }
    }
    Ok((meta.0.unwrap_or_default(), meta.1.unwrap_or_default()))
}

/// `apiVersion` and `kind` of a YAML document; empty where it has none. Costs a parse.
pub fn peek_type_meta_yaml(body: &[u8]) -> Result<(String, String), DecodeError> {
    let value = yaml::parse(body)?;
    let text = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    Ok((text("apiVersion"), text("kind")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_meta_anywhere_at_the_top() {
        let body =
            br#"{"metadata":{"kind":"no"},"kind":"Pod","spec":[1,{"a":"}"}],"apiVersion":"v1"}"#;
        assert_eq!(
            peek_type_meta_json(body).unwrap(),
            ("v1".to_owned(), "Pod".to_owned())
        );
        assert_eq!(
            peek_type_meta_json(b"{}").unwrap(),
            (String::new(), String::new())
        );
        assert!(peek_type_meta_json(b"[]").is_err());
        assert!(peek_type_meta_json(b"{\"kind\":").is_err());
        assert_eq!(
            peek_type_meta_yaml(b"kind: Pod\napiVersion: v1\n").unwrap(),
            ("v1".to_owned(), "Pod".to_owned())
        );
    }
}
