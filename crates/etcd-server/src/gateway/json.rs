//! Messages to and from JSON, as proto3 says it: etcd's field names, 64-bit numbers as text, bytes in base64, what is
//! zero left out. Both spellings of a name are taken in, and names nobody knows are passed over, an enum's too.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use tonic::Status;

use crate::description::API;

/// What a call takes and gives.
pub fn method(service: &str, name: &str) -> Option<MethodDescriptor> {
    let service = API.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}

/// The names of a service's calls.
#[cfg(test)]
pub fn methods(service: &str) -> Vec<String> {
    let service = API.get_service_by_name(service).into_iter();
    service
        .flat_map(|service| {
            service
                .methods()
                .map(|method| method.name().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// From JSON to a message's bytes.
pub fn decode(message: &MessageDescriptor, text: &[u8]) -> Result<Bytes, Status> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut text = serde_json::Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize_with_options(message.clone(), &mut text, &options);
    match message {
        Ok(message) => Ok(message.encode_to_vec().into()),
        Err(error) => Err(Status::invalid_argument(error.to_string())),
    }
}

/// From a message's bytes to JSON.
pub fn encode(message: &MessageDescriptor, bytes: Bytes) -> Result<Vec<u8>, Status> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let message = DynamicMessage::decode(message.clone(), bytes)
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut text = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use etcd_wire::etcdserverpb as pb;

    use super::*;

    fn input(service: &str, name: &str) -> MessageDescriptor {
        method(service, name).unwrap().input()
    }

    fn range(text: &str) -> Result<pb::RangeRequest, String> {
        let message = input("etcdserverpb.KV", "Range");
        let bytes =
            decode(&message, text.as_bytes()).map_err(|error| error.message().to_owned())?;
        Ok(pb::RangeRequest::decode(bytes).unwrap())
    }

    #[test]
    fn both_spellings_numbers_as_text_and_any_base64_are_taken_in() {
        let expected = pb::RangeRequest {
            key: vec![0xfb, 0xff].into(),
            range_end: "b".into(),
            limit: 7,
            sort_order: 2,
            keys_only: true,
            ..Default::default()
        };
        let snake = r#"{"key":"+/8=","range_end":"Yg==","limit":"7","sort_order":"DESCEND","keys_only":true,"new":[{}]}"#;
        assert_eq!(range(snake), Ok(expected.clone()));
        let camel = r#"{"key":"-_8","rangeEnd":"Yg","limit":7,"sortOrder":2,"keysOnly":true,"revision":null}"#;
        assert_eq!(range(camel), Ok(expected));
        assert_eq!(range("{}"), Ok(pb::RangeRequest::default()));
        // A word that an enum does not know is passed over like a name that nobody knows.
        let unknown = r#"{"sort_order":"UP"}"#;
        assert_eq!(range(unknown), Ok(pb::RangeRequest::default()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "[]",
            "1",
            "null",
            "\"\"",
            "{\"key\":1}",
            "{\"key\":\"*\"}",
            "{\"limit\":\"x\"}",
            "{\"limit\":1.5}",
            "{\"limit\":9223372036854775808}",
            "{\"keys_only\":\"true\"}",
            "{'key':''}",
        ] {
            assert!(range(text).is_err(), "{text}");
        }
        let deep = format!(
            "{{\"success\":[{}",
            "{\"request_txn\":{\"success\":[".repeat(10_000)
        );
        assert!(decode(&input("etcdserverpb.KV", "Txn"), deep.as_bytes()).is_err());
    }

    #[test]
    fn zeros_are_left_out_and_numbers_are_text() {
        let output = method("etcdserverpb.KV", "Range").unwrap().output();
        let response = pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                revision: 5,
                ..Default::default()
            }),
            kvs: vec![etcd_wire::mvccpb::KeyValue {
                key: "foo".into(),
                mod_revision: 5,
                ..Default::default()
            }],
            count: 1,
            ..Default::default()
        };
        let text = encode(&output, response.encode_to_vec().into()).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"5"},"kvs":[{"key":"Zm9v","mod_revision":"5"}],"count":"1"}"#
        );
    }
}
