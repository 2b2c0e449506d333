//! A living server is sent frames and messages that are spoilt, thousands of them: it never panics, never holds on to
//! whoever went away, and serves the others meanwhile. `FUZZ_CASES` and `FUZZ_SEED` make more.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Client, Ours, PATIENCE};
use etcd_server::Options;
use http2::{Encoder, PREFACE};
use spoil::http2::{conversation, frame};
use spoil::{Chance, cases, wire};

const METHODS: [&str; 17] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Auth/AuthStatus",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/v3/kv/range",
    "/nothing",
    "*",
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Calls on one connection, each with a message that is good or spoilt, in the frame that gRPC puts it in.
fn calls(chance: &mut Chance) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = [&PREFACE[..], &frame(4, 0, 0, &[])].concat();
    for number in 0..1 + chance.below(12) {
        let stream = 1 + 2 * u32::try_from(number).unwrap();
        let method = METHODS[chance.below(METHODS.len())];
        let kind = match chance.below(12) {
            0 => "application/json",
            1 => "application/grpc+proto",
            _ => "application/grpc",
        };
        let mut fields: Vec<(&[u8], &[u8])> = vec![
            (b":method", if chance.one_in(20) { b"GET" } else { b"POST" }),
            (b":scheme", b"http"),
            (b":path", method.as_bytes()),
            (b":authority", b"a"),
            (b"content-type", kind.as_bytes()),
            (b"te", b"trailers"),
        ];
        let timeout = chance.bytes(6);
        if chance.one_in(8) {
            let text: &[u8] = if chance.one_in(2) {
                b"1n"
            } else {
                b"99999999H"
            };
            fields.push((b"grpc-timeout", text));
        }
        if chance.one_in(8) {
            fields.push((b"grpc-encoding", b"gzip"));
        }
        if chance.one_in(30) {
            fields.push((b"x", &timeout));
        }
        let mut block = Vec::new();
        encoder.encode(fields, &mut block);
        bytes.extend(frame(1, 4, stream, &block));
        for _ in 0..chance.below(3) {
            let mut message = wire::message(chance).split_off(1);
            if chance.one_in(2) {
                chance.spoil(&mut message);
            }
            let len = match chance.below(12) {
                0 => chance.edge() as u32,
                _ => u32::try_from(message.len()).unwrap(),
            };
            let mut framed = vec![u8::from(chance.one_in(20))];
            framed.extend_from_slice(&len.to_be_bytes());
            framed.extend(message);
            bytes.extend(frame(0, 0, stream, &framed));
        }
        match chance.below(6) {
            0 => {}
            1 => bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes())),
            _ => bytes.extend(frame(0, 1, stream, &[])),
        }
    }
    bytes
}

fn send(address: SocketAddr, chance: &mut Chance) {
    let mut bytes = match chance.below(8) {
        0 => chance.bytes(300),
        1 | 2 => conversation(chance, true).concat(),
        _ => calls(chance),
    };
    if chance.one_in(2) {
        for _ in 0..1 + chance.below(3) {
            chance.spoil(&mut bytes);
        }
    }
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let piece = [1 << 20, 1 << 20, 100, 13][chance.below(4)];
    for piece in bytes.chunks(piece) {
        // It may have had enough.
        if socket.write_all(piece).is_err() {
            break;
        }
    }
    if chance.one_in(3) {
        return;
    }
    let _ = socket.shutdown(Shutdown::Write);
    let mut said = [0; 16 << 10];
    let mut total = 0;
    loop {
        match socket.read(&mut said) {
            Ok(0) => break,
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}: the server holds on to a client that went away"),
        }
        assert!(total < 64 << 20, "the server does not stop talking");
    }
}

#[tokio::test]
async fn spoilt_frames_and_messages_harm_nobody_else() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let ours = Ours::start(Options {
        runtimes: 2,
        ..Options::default()
    });
    let address = ours.address;
    let spoilers = std::thread::spawn(move || cases(2_500, |chance| send(address, chance)));
    let mut client = Client::connect(&ours.url()).await;
    let mut number = 0;
    // Keys that no spoilt message knows: they may delete everything else.
    while !spoilers.is_finished() || number < 50 {
        number += 1;
        let value = format!("{number}");
        let written = tokio::time::timeout(PATIENCE, client.put("\u{1}mine", &value));
        written.await.expect("another client is served");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    spoilers.join().expect("no case fails");
    drop(client);
    ours.stop();
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "somebody panicked");
}
