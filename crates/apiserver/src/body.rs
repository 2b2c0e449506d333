//! Request bodies into object trees: content type, kind, field validation.

use meta::{ApiError, Value};
use rest::negotiate::{self, MediaType};
use schema::{Decoded, FieldValidation, TypeId};

/// The kind a URL expects.
pub struct Expected<'a> {
    /// `group/version`.
    pub api_version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Its type.
    pub type_id: TypeId,
}

/// A decoded body, and what is to be said in `Warning` headers.
pub struct Sent {
    /// The object, with kind and apiVersion.
    pub object: Value,
    /// Complaints of the `Warn` level.
    pub warnings: Vec<String>,
}

/// Decodes a body as the kind that the URL expects.
pub fn decode(
    body: &[u8],
    content_type: &str,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Sent, ApiError> {
    let media = negotiate::body(content_type, negotiate::Served::BUILT_IN)?;
    let decoded = match media {
        MediaType::Protobuf => return protobuf(body, expected),
        MediaType::Json => {
            check_type_meta(
                schema::peek_type_meta_json(body).map_err(unreadable)?,
                expected,
            )?;
            schema::decode_json(expected.type_id, body)
        }
        MediaType::Yaml => {
            check_type_meta(
                schema::peek_type_meta_yaml(body).map_err(unreadable)?,
                expected,
            )?;
            schema::decode_yaml(expected.type_id, body)
        }
    };
    validated(
        decoded.map_err(|error| cannot_be_handled(expected, &error))?,
        expected,
        validation,
    )
}

/// Applies field validation to what was decoded.
pub fn validated(
    decoded: Decoded,
    expected: &Expected<'_>,
    validation: FieldValidation,
) -> Result<Sent, ApiError> {
    let mut object = decoded.value;
    object["apiVersion"] = expected.api_version.into();
    object["kind"] = expected.kind.into();
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => decoded.complaints,
        FieldValidation::Strict if decoded.complaints.is_empty() => Vec::new(),
        FieldValidation::Strict => {
            let complaints = format!("strict decoding error: {}", decoded.complaints.join(", "));
            return Err(cannot_be_handled(expected, &complaints));
        }
    };
    Ok(Sent { object, warnings })
}

fn protobuf(body: &[u8], expected: &Expected<'_>) -> Result<Sent, ApiError> {
    let unknown = schema::envelope::unwrap(body).map_err(unreadable)?;
    check_type_meta(
        (unknown.api_version.to_string(), unknown.kind.to_string()),
        expected,
    )?;
    let mut object = schema::decode_protobuf(expected.type_id, unknown.raw)
        .map_err(|error| cannot_be_handled(expected, &error))?;
    object["apiVersion"] = expected.api_version.into();
    object["kind"] = expected.kind.into();
    Ok(Sent {
        object,
        warnings: Vec::new(),
    })
}

/// A body may leave kind and apiVersion out; it may not name others.
fn check_type_meta(
    (api_version, kind): (String, String),
    expected: &Expected<'_>,
) -> Result<(), ApiError> {
    let wrong_kind = !kind.is_empty() && kind != expected.kind;
    if wrong_kind {
        let (group, version) = meta::parse_api_version(&api_version).unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): converting ({group}/{version}.{kind}) to \
             ({}.{}): unknown conversion",
            expected.kind, expected.api_version, expected.kind
        )));
    }
    if !api_version.is_empty() && api_version != expected.api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    Ok(())
}

fn cannot_be_handled(expected: &Expected<'_>, why: &dyn std::fmt::Display) -> ApiError {
    let version = expected.api_version.rsplit('/').next().unwrap_or_default();
    ApiError::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}",
        kind = expected.kind
    ))
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!(
        "couldn't get version/kind; json parse error: {error}"
    ))
}
