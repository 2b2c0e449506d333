//! Content negotiation: which bytes a client wants back, and which bytes it sent.
//!
//! Reads the `Accept`, `Content-Type` and `User-Agent` headers only. Deliberately knows neither the objects nor
//! their encodings: it answers with a choice that somebody else carries out.

use meta::ApiError;

/// Most clauses of one `Accept` header that are looked at; later ones are ignored.
pub const ACCEPT_CLAUSES_MAX: usize = 64;

/// Content type of JSON.
pub const JSON: &str = "application/json";
/// Content type of YAML.
pub const YAML: &str = "application/yaml";
/// Content type of the Kubernetes protobuf envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What clients of client-go accept that prefer protobuf.
const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf,application/json";
/// Content type of a protobuf watch stream.
pub const PROTOBUF_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// The encodings of API objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl MediaType {
    /// The content type of a whole body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Json => JSON,
            MediaType::Yaml => YAML,
            MediaType::Protobuf => PROTOBUF,
        }
    }

    /// The content type of a watch stream.
    #[must_use]
    pub fn stream_content_type(self) -> &'static str {
        match self {
            MediaType::Protobuf => PROTOBUF_WATCH,
            MediaType::Json | MediaType::Yaml => self.as_str(),
        }
    }
}

/// What an endpoint can produce and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Protobuf, which custom resources lack.
    pub protobuf: bool,
    /// `as=Table` and `as=PartialObjectMetadata[List]`.
    pub transforms: bool,
}

impl Served {
    /// Built-in kinds.
    pub const BUILT_IN: Served = Served {
        protobuf: true,
        transforms: true,
    };
    /// Custom resources: no protobuf of their own.
    pub const CUSTOM: Served = Served {
        protobuf: false,
        transforms: true,
    };
    /// Replies that are a `Status` or another helper kind, never a table.
    pub const PLAIN: Served = Served {
        protobuf: true,
        transforms: false,
    };

    fn media_types(self) -> &'static [MediaType] {
        if self.protobuf {
            &[MediaType::Json, MediaType::Yaml, MediaType::Protobuf]
        } else {
            &[MediaType::Json, MediaType::Yaml]
        }
    }

    fn names(self) -> String {
        join(self.media_types().iter().map(|media| media.as_str()))
    }

    fn stream_names(self) -> String {
        let streams: &[&str] = if self.protobuf {
            &["application/json;stream=watch", PROTOBUF_WATCH]
        } else {
            &["application/json;stream=watch"]
        };
        join(streams.iter().copied())
    }
}

/// Which shape of the object is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    /// The object itself.
    None,
    /// `meta.k8s.io` Table.
    Table,
    /// `meta.k8s.io` PartialObjectMetadata, for single objects and watch events.
    PartialObjectMetadata,
    /// `meta.k8s.io` PartialObjectMetadataList.
    PartialObjectMetadataList,
}

/// Version of the `meta.k8s.io` group that a transform is asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaVersion {
    /// `v1`
    V1,
    /// `v1beta1`: the same shapes under the older name
    V1beta1,
}

impl MetaVersion {
    /// The `apiVersion` of a transformed object.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The outcome of output negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output {
    /// Encoding of the reply.
    pub media: MediaType,
    /// Shape of the reply.
    pub transform: Transform,
    /// Version of the transform; [`MetaVersion::V1`] if there is none.
    pub meta_version: MetaVersion,
    /// Indent JSON for a human.
    pub pretty: bool,
}

impl Output {
    /// Compact JSON of the object itself: what a client that asks for nothing gets.
    pub const DEFAULT: Output = Output {
        media: MediaType::Json,
        transform: Transform::None,
        meta_version: MetaVersion::V1,
        pretty: false,
    };

    /// The content type of a whole body.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        self.media.as_str()
    }

    /// The content type of a watch stream.
    #[must_use]
    pub fn stream_content_type(&self) -> &'static str {
        self.media.stream_content_type()
    }
}

/// The parts of a request that say how the client wants its reply.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// `Accept`, empty if not sent.
    pub accept: &'a str,
    /// `User-Agent`, empty if not sent.
    pub user_agent: &'a str,
    /// `pretty` of the query, if sent and not empty.
    pub pretty: Option<bool>,
}

impl Wish<'_> {
    /// The query decides; without it, tools that people look at get indented JSON.
    fn is_pretty(&self) -> bool {
        self.pretty.unwrap_or_else(|| {
            ["curl", "Wget", "Mozilla/5.0"]
                .iter()
                .any(|human| self.user_agent.starts_with(human))
        })
    }
}

/// Chooses the encoding and shape of a whole reply. 406 lists what there is.
///
/// # Errors
/// Not acceptable, in upstream's words, if nothing the client accepts is served.
pub fn output(wish: &Wish<'_>, served: Served) -> Result<Output, ApiError> {
    choose(wish, served, served.media_types()).ok_or_else(|| not_acceptable(&served.names()))
}

/// Chooses the encoding and shape of a watch stream: there is no YAML stream.
///
/// # Errors
/// Not acceptable, in upstream's words, if nothing the client accepts is served.
pub fn watch_output(wish: &Wish<'_>, served: Served) -> Result<Output, ApiError> {
    let streams: &[MediaType] = if served.protobuf {
        &[MediaType::Json, MediaType::Protobuf]
    } else {
        &[MediaType::Json]
    };
    choose(wish, served, streams).ok_or_else(|| not_acceptable(&served.stream_names()))
}

/// Checks that a client takes JSON where JSON is all there is (`/version`, OpenAPI).
///
/// # Errors
/// Not acceptable if the client insists on something else.
pub fn json_only(wish: &Wish<'_>) -> Result<Output, ApiError> {
    let plain = Served {
        protobuf: false,
        transforms: false,
    };
    choose(wish, plain, &[MediaType::Json]).ok_or_else(|| not_acceptable(JSON))
}

/// The forms of `/api` and `/apis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscoveryForm {
    /// `APIVersions` or `APIGroupList`.
    Legacy,
    /// `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`.
    V2,
    /// `apidiscovery.k8s.io/v2beta1` `APIGroupDiscoveryList`.
    V2beta1,
}

impl DiscoveryForm {
    /// The content type; clients look for the echoed parameters to know which form they got.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            DiscoveryForm::Legacy => JSON,
            DiscoveryForm::V2 => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            DiscoveryForm::V2beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

/// Chooses the form of a discovery document. Only JSON is served.
///
/// # Errors
/// Not acceptable if the client takes no JSON.
pub fn discovery(accept: &str) -> Result<DiscoveryForm, ApiError> {
    if accept.trim().is_empty() {
        return Ok(DiscoveryForm::Legacy);
    }
    clauses(accept)
        .iter()
        .filter(|clause| clause.matches(JSON))
        .find_map(|clause| {
            if clause.parameter("stream").is_some() {
                return None;
            }
            match (
                clause.parameter("as"),
                clause.parameter("g"),
                clause.parameter("v"),
            ) {
                (None, None, None) => Some(DiscoveryForm::Legacy),
                (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
                    Some(DiscoveryForm::V2)
                }
                (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
                    Some(DiscoveryForm::V2beta1)
                }
                _ => None,
            }
        })
        .ok_or_else(|| not_acceptable(JSON))
}

/// The encoding of a request body.
///
/// # Errors
/// Unsupported media type, in upstream's words.
pub fn body(content_type: &str, served: Served) -> Result<MediaType, ApiError> {
    if content_type.is_empty() {
        return Ok(MediaType::Json);
    }
    let essence = essence(content_type);
    served
        .media_types()
        .iter()
        .copied()
        .find(|media| media.as_str().eq_ignore_ascii_case(essence))
        .ok_or_else(|| unsupported_media_type(&served.names()))
}

/// The languages of PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatchType {
    /// RFC 6902
    Json,
    /// RFC 7386
    Merge,
    /// Merge with list keys and directives, built-in kinds only
    Strategic,
    /// Server-side apply, a YAML (or JSON) document
    Apply,
}

impl PatchType {
    /// The content type of the patch.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Apply => "application/apply-patch+yaml",
        }
    }
}

/// The language of a PATCH body. Custom resources have no strategic merge.
///
/// # Errors
/// Unsupported media type, in upstream's words.
pub fn patch(content_type: &str, strategic: bool) -> Result<PatchType, ApiError> {
    let known: &[PatchType] = if strategic {
        &[
            PatchType::Json,
            PatchType::Merge,
            PatchType::Strategic,
            PatchType::Apply,
        ]
    } else {
        &[PatchType::Json, PatchType::Merge, PatchType::Apply]
    };
    let essence = essence(content_type);
    known
        .iter()
        .copied()
        .find(|kind| kind.as_str() == essence)
        .ok_or_else(|| unsupported_media_type(&join(known.iter().map(|kind| kind.as_str()))))
}

fn not_acceptable(supported: &str) -> ApiError {
    ApiError::not_acceptable(format!(
        "only the following media types are accepted: {supported}"
    ))
}

fn unsupported_media_type(supported: &str) -> ApiError {
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {supported}"
    ))
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The first clause in order of preference that some media type of `offered` satisfies.
fn choose(wish: &Wish<'_>, served: Served, offered: &[MediaType]) -> Option<Output> {
    let default = Output {
        pretty: wish.is_pretty(),
        ..Output::DEFAULT
    };
    if wish.accept.trim().is_empty() {
        return Some(default);
    }
    // What nearly everybody sends is understood without taking it apart.
    let plain = match wish.accept {
        JSON => Some(MediaType::Json),
        PROTOBUF | PROTOBUF_OR_JSON => Some(MediaType::Protobuf),
        _ => None,
    };
    if let Some(media) = plain.filter(|media| offered.contains(media)) {
        return Some(Output { media, ..default });
    }
    clauses(wish.accept).iter().find_map(|clause| {
        offered
            .iter()
            .filter(|media| clause.matches(media.as_str()))
            .find_map(|&media| clause.output(media, served, default.pretty))
    })
}

/// One alternative of an `Accept` header.
struct Clause<'a> {
    range: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// Quality in thousandths.
    quality: u16,
}

impl<'a> Clause<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|&(_, value)| value)
    }

    /// Whether the range covers a media type, wildcards included.
    fn matches(&self, media: &str) -> bool {
        match self.range.split_once('/') {
            Some(("*", "*")) => true,
            Some((kind, "*")) => media
                .split_once('/')
                .is_some_and(|(have, _)| have.eq_ignore_ascii_case(kind)),
            Some(_) => media.eq_ignore_ascii_case(self.range),
            // A lone star is what some old HTTP libraries send for "anything".
            None => self.range == "*",
        }
    }

    /// How exactly the range names a type: 2 a type, 1 a family, 0 anything.
    fn precision(&self) -> u8 {
        match self.range.split_once('/') {
            Some(("*", _)) | None => 0,
            Some((_, "*")) => 1,
            Some(_) => 2,
        }
    }

    /// The output if `media` can be served with this clause's parameters.
    fn output(&self, media: MediaType, served: Served, pretty: bool) -> Option<Output> {
        if let Some(stream) = self.parameter("stream")
            && !stream.is_empty()
            && (stream != "watch" || media == MediaType::Yaml)
        {
            return None;
        }
        if self
            .parameter("sv")
            .is_some_and(|version| !version.is_empty())
        {
            return None;
        }
        let (transform, meta_version) = self.transform(media, served)?;
        let pretty = pretty || self.parameter("pretty") == Some("1");
        Some(Output {
            media,
            transform,
            meta_version,
            pretty,
        })
    }

    /// `None` if the clause asks for a shape that is not served.
    fn transform(&self, media: MediaType, served: Served) -> Option<(Transform, MetaVersion)> {
        let (kind, group, version) = match (
            self.parameter("as"),
            self.parameter("g"),
            self.parameter("v"),
        ) {
            (None, None, None) => return Some((Transform::None, MetaVersion::V1)),
            (kind, group, version) => (kind?, group?, version?),
        };
        if !served.transforms || group != "meta.k8s.io" {
            return None;
        }
        let version = match version {
            "v1" => MetaVersion::V1,
            "v1beta1" => MetaVersion::V1beta1,
            _ => return None,
        };
        let transform = match kind {
            // Cells hold values of any type, which protobuf tables cannot carry.
            "Table" if media != MediaType::Protobuf => Transform::Table,
            "PartialObjectMetadata" => Transform::PartialObjectMetadata,
            "PartialObjectMetadataList" => Transform::PartialObjectMetadataList,
            _ => return None,
        };
        Some((transform, version))
    }
}

/// The clauses by falling quality, then by falling precision, then as written. Quality 0 means "not this".
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .take(ACCEPT_CLAUSES_MAX)
        .filter_map(|text| {
            let mut parts = text.split(';').map(str::trim);
            let range = parts.next().filter(|range| !range.is_empty())?;
            let mut quality = 1000;
            let mut parameters = Vec::new();
            for part in parts {
                let Some((key, value)) = part.split_once('=') else {
                    continue;
                };
                let (key, value) = (key.trim(), value.trim().trim_matches('"'));
                if key.eq_ignore_ascii_case("q") {
                    quality = thousandths(value);
                } else {
                    parameters.push((key, value));
                }
            }
            (quality > 0).then_some(Clause {
                range,
                parameters,
                quality,
            })
        })
        .collect();
    clauses.sort_by_key(|clause| {
        (
            std::cmp::Reverse(clause.quality),
            std::cmp::Reverse(clause.precision()),
        )
    });
    clauses
}

/// A quality value as thousandths; what cannot be read counts as fully wanted.
fn thousandths(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0).round() as u16,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(accept: &str) -> Wish<'_> {
        Wish {
            accept,
            ..Wish::default()
        }
    }

    fn media(accept: &str) -> MediaType {
        output(&wish(accept), Served::BUILT_IN).unwrap().media
    }

    #[test]
    fn picks_the_media_type_the_client_prefers() {
        assert_eq!(media(""), MediaType::Json);
        assert_eq!(media("*/*"), MediaType::Json);
        assert_eq!(media("application/*"), MediaType::Json);
        assert_eq!(media("application/yaml"), MediaType::Yaml);
        assert_eq!(
            media("application/vnd.kubernetes.protobuf,application/json"),
            MediaType::Protobuf
        );
        assert_eq!(
            media("application/json;q=0.5, application/yaml;q=0.9"),
            MediaType::Yaml
        );
        assert_eq!(media("*/*, application/yaml"), MediaType::Yaml);
        assert_eq!(
            media("text/html, application/xhtml+xml, image/webp, */*;q=0.8"),
            MediaType::Json
        );
        assert_eq!(
            media("application/json;q=0, application/yaml"),
            MediaType::Yaml
        );
        assert_eq!(media("Application/JSON"), MediaType::Json);
    }

    #[test]
    fn refuses_what_is_not_served_and_names_what_is() {
        let error = output(&wish("text/plain"), Served::BUILT_IN).unwrap_err();
        assert_eq!(error.code, 406);
        assert_eq!(
            error.message,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
        let error = output(&wish(PROTOBUF), Served::CUSTOM).unwrap_err();
        assert_eq!(
            error.message,
            "only the following media types are accepted: application/json, application/yaml"
        );
        let error = watch_output(&wish(YAML), Served::BUILT_IN).unwrap_err();
        assert_eq!(
            error.message,
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
    }

    #[test]
    fn kubectl_gets_a_table_and_falls_back_to_json() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                      application/json";
        let table = output(&wish(accept), Served::BUILT_IN).unwrap();
        assert_eq!(
            (table.transform, table.meta_version),
            (Transform::Table, MetaVersion::V1)
        );
        let plain = output(&wish(accept), Served::PLAIN).unwrap();
        assert_eq!(plain, Output::DEFAULT);
    }

    #[test]
    fn tables_have_no_protobuf_but_metadata_has() {
        let accept = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
        assert_eq!(
            output(&wish(accept), Served::BUILT_IN).unwrap_err().code,
            406
        );
        let accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, */*;q=0.1";
        let chosen = output(&wish(accept), Served::BUILT_IN).unwrap();
        assert_eq!(chosen.media, MediaType::Protobuf);
        assert_eq!(chosen.transform, Transform::PartialObjectMetadataList);
        let accept = "application/json;as=Other;g=meta.k8s.io;v=v1";
        assert_eq!(
            output(&wish(accept), Served::BUILT_IN).unwrap_err().code,
            406
        );
    }

    #[test]
    fn watches_stream_json_or_protobuf() {
        let chosen = watch_output(
            &wish("application/vnd.kubernetes.protobuf;stream=watch"),
            Served::BUILT_IN,
        )
        .unwrap();
        assert_eq!(
            chosen.stream_content_type(),
            "application/vnd.kubernetes.protobuf;stream=watch"
        );
        let chosen = watch_output(
            &wish("application/vnd.kubernetes.protobuf, application/json"),
            Served::CUSTOM,
        )
        .unwrap();
        assert_eq!(chosen.stream_content_type(), "application/json");
        assert_eq!(
            watch_output(&wish("application/json;stream=other"), Served::BUILT_IN)
                .unwrap_err()
                .code,
            406
        );
    }

    #[test]
    fn people_get_indented_json() {
        let curl = Wish {
            user_agent: "curl/8.5",
            ..Wish::default()
        };
        assert!(output(&curl, Served::BUILT_IN).unwrap().pretty);
        assert!(
            !output(
                &Wish {
                    pretty: Some(false),
                    ..curl
                },
                Served::BUILT_IN
            )
            .unwrap()
            .pretty
        );
        let kubectl = Wish {
            user_agent: "kubectl/v1.36",
            ..Wish::default()
        };
        assert!(!output(&kubectl, Served::BUILT_IN).unwrap().pretty);
        assert!(
            output(
                &Wish {
                    pretty: Some(true),
                    ..kubectl
                },
                Served::BUILT_IN
            )
            .unwrap()
            .pretty
        );
        assert!(
            output(&wish("application/json;pretty=1"), Served::BUILT_IN)
                .unwrap()
                .pretty
        );
    }

    #[test]
    fn discovery_takes_the_first_form_it_knows() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let v2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(
            discovery(&format!("{v2},{v2beta1},application/json")).unwrap(),
            DiscoveryForm::V2
        );
        assert_eq!(
            discovery(&format!("{v2};profile=nopeer,{v2beta1},application/json")).unwrap(),
            DiscoveryForm::V2
        );
        assert_eq!(
            discovery(&format!("{v2beta1},application/json")).unwrap(),
            DiscoveryForm::V2beta1
        );
        assert_eq!(
            discovery("application/json").unwrap(),
            DiscoveryForm::Legacy
        );
        assert_eq!(discovery("").unwrap(), DiscoveryForm::Legacy);
        assert_eq!(
            discovery(&format!("{PROTOBUF}, */*;q=0.5")).unwrap(),
            DiscoveryForm::Legacy
        );
        assert_eq!(discovery(PROTOBUF).unwrap_err().code, 406);
        assert_eq!(DiscoveryForm::V2.content_type(), v2);
    }

    #[test]
    fn bodies_and_patches_are_told_apart_by_content_type() {
        assert_eq!(body("", Served::BUILT_IN).unwrap(), MediaType::Json);
        assert_eq!(
            body("application/json; charset=utf-8", Served::BUILT_IN).unwrap(),
            MediaType::Json
        );
        assert_eq!(
            body("application/vnd.kubernetes.protobuf", Served::BUILT_IN).unwrap(),
            MediaType::Protobuf
        );
        let error = body("application/vnd.kubernetes.protobuf", Served::CUSTOM).unwrap_err();
        assert_eq!(error.code, 415);
        assert_eq!(
            error.message,
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml"
        );
        assert_eq!(
            patch("application/merge-patch+json; charset=utf-8", true).unwrap(),
            PatchType::Merge
        );
        assert_eq!(
            patch("application/apply-patch+yaml", false).unwrap(),
            PatchType::Apply
        );
        let error = patch("application/strategic-merge-patch+json", false).unwrap_err();
        assert_eq!(
            error.message,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        );
    }

    #[test]
    fn nonsense_headers_are_survived() {
        for accept in [
            ";;;,,,",
            "/",
            "a/b/c;q",
            "*/*;q=nan",
            "application/json;as",
            "\"",
            "application/json;q=-1",
        ] {
            let _ = output(&wish(accept), Served::BUILT_IN);
            let _ = discovery(accept);
            let _ = body(accept, Served::BUILT_IN);
        }
        let many = "text/plain,".repeat(ACCEPT_CLAUSES_MAX) + "application/json";
        assert_eq!(
            output(&wish(&many), Served::BUILT_IN).unwrap_err().code,
            406
        );
    }
}
