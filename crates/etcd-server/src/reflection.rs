//! gRPC reflection: tells tools what services and messages there are, so that they can call them without files of
//! their own. Answers one question at a time, from the API's own description; knows nothing of what it describes.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_wire::reflection as words;
use prost::Message as _;
use prost_reflect::FileDescriptor;
use tonic::{Code, Request, Response, Status, Streaming};
use words::server_reflection_request::MessageRequest as Question;
use words::server_reflection_response::MessageResponse as Answer;

use crate::api::Api;
use crate::description::API;
use crate::reflection_alpha_rpc::server_reflection_server::ServerReflection as AlphaReflection;
use crate::reflection_rpc::server_reflection_server::ServerReflection;
use crate::stepping::{Stepping, Steps};

#[tonic::async_trait]
impl ServerReflection for Api {
    type ServerReflectionInfoStream = Stepping<Conversation>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<words::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        Ok(Response::new(converse(request.into_inner())))
    }
}

#[tonic::async_trait]
impl AlphaReflection for Api {
    type ServerReflectionInfoStream = Stepping<Conversation>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<words::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        Ok(Response::new(converse(request.into_inner())))
    }
}

fn converse(questions: Streaming<words::ServerReflectionRequest>) -> Stepping<Conversation> {
    Stepping::new(Conversation {
        questions,
        told: BTreeSet::new(),
    })
}

/// One client's questions.
pub struct Conversation {
    questions: Streaming<words::ServerReflectionRequest>,
    /// Files that this client has already, besides those it asks for.
    told: BTreeSet<String>,
}

impl Steps for Conversation {
    type Answer = words::ServerReflectionResponse;

    async fn step(&mut self) -> Option<Result<words::ServerReflectionResponse, Status>> {
        let question = match self.questions.message().await {
            Ok(question) => question?,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(words::ServerReflectionResponse {
            valid_host: question.host.clone(),
            message_response: Some(answer(question.message_request.as_ref(), &mut self.told)),
            original_request: Some(question),
        }))
    }
}

fn answer(question: Option<&Question>, told: &mut BTreeSet<String>) -> Answer {
    match question {
        Some(Question::FileByFilename(name)) => match API.get_file_by_name(name) {
            Some(file) => files(&file, told),
            None => not_found(&format!("file {name:?} not found")),
        },
        Some(Question::FileContainingSymbol(name)) => match declares(name) {
            Some(file) => files(&file, told),
            None => not_found(&format!("symbol {name:?} not found")),
        },
        Some(Question::FileContainingExtension(extension)) => {
            let (message, number) = (&extension.containing_type, extension.extension_number);
            let found = API.get_message_by_name(message).and_then(|message| {
                let mut extensions = message.extensions();
                extensions.find(|known| i64::from(known.number()) == i64::from(number))
            });
            match found {
                Some(extension) => files(&extension.parent_file(), told),
                None => not_found(&format!("extension {number} of {message:?} not found")),
            }
        }
        Some(Question::AllExtensionNumbersOfType(name)) => match API.get_message_by_name(name) {
            Some(message) => {
                let numbers = message
                    .extensions()
                    .map(|known| known.number().cast_signed());
                Answer::AllExtensionNumbersResponse(words::ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: numbers.collect(),
                })
            }
            None => not_found(&format!("message {name:?} not found")),
        },
        Some(Question::ListServices(_)) => {
            let names = API.services().map(|service| words::ServiceResponse {
                name: service.full_name().to_owned(),
            });
            Answer::ListServicesResponse(words::ListServiceResponse {
                service: names.collect(),
            })
        }
        None => Answer::ErrorResponse(words::ErrorResponse {
            error_code: Code::InvalidArgument as i32,
            error_message: "the question is empty".into(),
        }),
    }
}

fn not_found(text: &str) -> Answer {
    Answer::ErrorResponse(words::ErrorResponse {
        error_code: Code::NotFound as i32,
        error_message: text.into(),
    })
}

/// A file, and of those it needs the ones that were not told yet.
fn files(file: &FileDescriptor, told: &mut BTreeSet<String>) -> Answer {
    let mut found: Vec<Bytes> = vec![encoded(file)];
    told.insert(file.name().to_owned());
    let mut waiting: Vec<FileDescriptor> = file.dependencies().collect();
    while let Some(file) = waiting.pop() {
        if told.insert(file.name().to_owned()) {
            found.push(encoded(&file));
            waiting.extend(file.dependencies());
        }
    }
    Answer::FileDescriptorResponse(words::FileDescriptorResponse {
        file_descriptor_proto: found,
    })
}

fn encoded(file: &FileDescriptor) -> Bytes {
    file.file_descriptor_proto().encode_to_vec().into()
}

/// The file that declares something by this full name.
fn declares(name: &str) -> Option<FileDescriptor> {
    if let Some(message) = API.get_message_by_name(name) {
        return Some(message.parent_file());
    }
    if let Some(service) = API.get_service_by_name(name) {
        return Some(service.parent_file());
    }
    if let Some(found) = API.get_enum_by_name(name) {
        return Some(found.parent_file());
    }
    let (parent, part) = name.rsplit_once('.')?;
    if let Some(service) = API.get_service_by_name(parent) {
        let mut calls = service.methods();
        return calls
            .any(|call| call.name() == part)
            .then(|| service.parent_file());
    }
    if let Some(message) = API.get_message_by_name(parent) {
        let is_field = message.get_field_by_name(part).is_some();
        if is_field || message.oneofs().any(|oneof| oneof.name() == part) {
            return Some(message.parent_file());
        }
    }
    // A value of an enum is declared beside it, not in it.
    let mut all = API.all_enums();
    let found = all.find(|known| known.values().any(|value| value.full_name() == name))?;
    Some(found.parent_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str) -> Option<String> {
        declares(name).map(|file| file.name().to_owned())
    }

    #[test]
    fn whatever_has_a_name_has_a_file() {
        for (name, file) in [
            ("etcdserverpb.KV", "rpc.proto"),
            ("etcdserverpb.KV.Range", "rpc.proto"),
            ("etcdserverpb.RangeRequest", "rpc.proto"),
            ("etcdserverpb.RangeRequest.key", "rpc.proto"),
            ("etcdserverpb.RangeRequest.SortOrder", "rpc.proto"),
            ("etcdserverpb.RangeRequest.DESCEND", "rpc.proto"),
            ("etcdserverpb.Compare.target_union", "rpc.proto"),
            ("etcdserverpb.NOSPACE", "rpc.proto"),
            ("mvccpb.KeyValue", "kv.proto"),
            ("v3lockpb.Lock", "lock.proto"),
            (
                "grpc.reflection.v1alpha.ServerReflection",
                "reflection_v1alpha.proto",
            ),
        ] {
            assert_eq!(symbol(name).as_deref(), Some(file), "{name}");
        }
        for name in [
            "",
            ".",
            "etcdserverpb",
            "etcdserverpb.KV.Rang",
            "a.b.c",
            "KV",
        ] {
            assert_eq!(symbol(name), None, "{name}");
        }
    }

    #[test]
    fn what_was_told_is_not_told_again_unless_it_is_asked_for() {
        let mut told = BTreeSet::new();
        let mut count = |name: &str| {
            let question = Question::FileByFilename(name.into());
            match answer(Some(&question), &mut told) {
                Answer::FileDescriptorResponse(files) => files.file_descriptor_proto.len(),
                other => panic!("{other:?}"),
            }
        };
        // Itself, rpc.proto, and what that needs: kv.proto and auth.proto.
        assert_eq!(count("lock.proto"), 4);
        assert_eq!(count("election.proto"), 1);
        assert_eq!(count("rpc.proto"), 1);
    }

    #[test]
    fn questions_without_an_answer_say_why() {
        let ask = |question: Option<Question>| match answer(question.as_ref(), &mut BTreeSet::new())
        {
            Answer::ErrorResponse(error) => (error.error_code, error.error_message),
            other => panic!("{other:?}"),
        };
        let unknown = Question::FileByFilename("x".into());
        assert_eq!(ask(Some(unknown)), (5, "file \"x\" not found".into()));
        let extension = words::ExtensionRequest {
            containing_type: "mvccpb.KeyValue".into(),
            extension_number: -1,
        };
        let extension = Question::FileContainingExtension(extension);
        assert_eq!(
            ask(Some(extension)),
            (5, "extension -1 of \"mvccpb.KeyValue\" not found".into())
        );
        let message = Question::AllExtensionNumbersOfType("x".into());
        assert_eq!(ask(Some(message)), (5, "message \"x\" not found".into()));
        assert_eq!(ask(None), (3, "the question is empty".into()));
    }
}
