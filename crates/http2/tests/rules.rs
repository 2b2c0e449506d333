//! The rules of RFC 9113 as small conversations: what a peer sends, and what must come back. A peer is bytes made by
//! hand here, so that nothing of the codec checks itself.

mod common;

use common::{Server, frame, get, headers, request};
use http2::{Config, Connection, Event, Reason};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITIZED: u8 = 32;

/// After the frames, the connection must end with this code.
fn ends(frames: &[Vec<u8>], reason: Reason) {
    let mut server = Server::met();
    let said = server.hears(frames);
    assert_eq!(said.goaway(), Some(reason), "{said:?}");
    assert_eq!(
        server.connection.failure().map(|error| error.reason),
        Some(reason)
    );
}

/// After the frames, stream 1 must be reset with this code, and the connection must live.
fn resets(frames: &[Vec<u8>], reason: Reason) {
    resets_stream(1, frames, reason);
}

fn resets_stream(stream: u32, frames: &[Vec<u8>], reason: Reason) {
    let mut server = Server::met();
    let said = server.hears(frames);
    assert_eq!(said.reset_of(stream), Some(reason), "{said:?}");
    assert_eq!(said.goaway(), None);
    assert!(server.lives());
}

fn lives(frames: &[Vec<u8>]) -> Server {
    let mut server = Server::met();
    let said = server.hears(frames);
    assert_eq!(said.goaway(), None);
    assert!(server.lives());
    server
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(
        SETTINGS,
        0,
        0,
        &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat(),
    )
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn post(stream: u32) -> Vec<u8> {
    headers(stream, END_HEADERS, &request("POST", &[]))
}

// 3.4: the beginning.

#[test]
fn bytes_that_are_no_preface_end_the_connection() {
    let mut server = Server::new(Config::default());
    let said = server.hears(&[b"GET / HTTP/1.1\r\n\r\n1234567890".to_vec()]);
    assert_eq!(said.goaway(), Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn a_preface_cut_anywhere_is_a_preface() {
    for cut in 0..24 {
        let mut server = Server::new(Config::default());
        let (a, b) = http2::PREFACE.split_at(cut);
        server.hears(&[a.to_vec()]);
        server.hears(&[b.to_vec(), frame(SETTINGS, 0, 0, &[])]);
        assert!(server.lives());
    }
}

#[test]
fn the_first_frame_must_be_settings() {
    let mut server = Server::new(Config::default());
    let said = server.hears(&[http2::PREFACE.to_vec(), frame(PING, 0, 0, &[0; 8])]);
    assert_eq!(said.goaway(), Some(Reason::PROTOCOL_ERROR));
}

// 4: frames.

#[test]
fn frames_of_unknown_types_are_ignored() {
    lives(&[frame(0x16, 0xff, 0, b"x"), frame(0x99, 0, 7, b"")]);
}

#[test]
fn unknown_flags_and_the_reserved_bit_mean_nothing() {
    lives(&[frame(PING, 0xfe & !1, 0x8000_0000, &[1; 8])]);
}

#[test]
fn a_frame_above_the_limit_is_refused_by_its_head_alone() {
    ends(
        &[vec![0, 0x40, 1, DATA, 0, 0, 0, 0, 1]],
        Reason::FRAME_SIZE_ERROR,
    );
}

#[test]
fn a_frame_of_the_limit_is_taken() {
    lives(&[post(1), frame(DATA, 0, 1, &[0; 16_384])]);
}

#[test]
fn a_header_block_that_is_not_hpack_ends_the_connection() {
    ends(
        &[headers(1, END_STREAM | END_HEADERS, &[0xff; 8])],
        Reason::COMPRESSION_ERROR,
    );
}

#[test]
fn nothing_comes_between_the_pieces_of_a_header_block() {
    let begun = headers(1, END_STREAM, &get()[..2]);
    for amid in [
        frame(PRIORITY, 0, 1, &[0; 5]),
        frame(0x99, 0, 0, b""),
        headers(3, END_STREAM | END_HEADERS, &get()),
        frame(CONTINUATION, END_HEADERS, 3, &get()[2..]),
    ] {
        ends(&[begun.clone(), amid], Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn a_header_block_in_pieces_is_one() {
    let block = get();
    let mut server = Server::met();
    let said = server.hears(&[
        headers(1, END_STREAM, &block[..1]),
        frame(CONTINUATION, 0, 1, &block[1..2]),
        frame(CONTINUATION, END_HEADERS, 1, &block[2..]),
    ]);
    assert_eq!(said.requests(), [1]);
}

// 5.1: states.

#[test]
fn frames_for_a_stream_nobody_opened_end_the_connection() {
    for idle in [
        frame(DATA, 0, 1, b"x"),
        frame(RST_STREAM, 0, 1, &[0; 4]),
        window_update(1, 1),
        frame(CONTINUATION, END_HEADERS, 1, b""),
    ] {
        ends(&[idle], Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn what_follows_the_end_of_a_request_resets_its_stream() {
    let whole = headers(1, END_STREAM | END_HEADERS, &get());
    resets(
        &[whole.clone(), frame(DATA, END_STREAM, 1, b"x")],
        Reason::STREAM_CLOSED,
    );
    resets(
        &[whole.clone(), headers(1, END_STREAM | END_HEADERS, &get())],
        Reason::STREAM_CLOSED,
    );
    ends(
        &[whole, frame(CONTINUATION, END_HEADERS, 1, b"")],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn what_follows_the_peers_own_reset_is_a_closed_stream() {
    let over = [post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    resets(
        &[over.clone(), frame(DATA, 0, 1, b"x")],
        Reason::STREAM_CLOSED,
    );
    resets(
        &[over, headers(1, END_STREAM | END_HEADERS, &get())],
        Reason::STREAM_CLOSED,
    );
}

#[test]
fn what_follows_the_end_of_both_sides_is_a_closed_stream() {
    let mut server = Server::met();
    server.hears(&[headers(1, END_STREAM | END_HEADERS, &get())]);
    server.answers(1);
    let said = server.hears(&[frame(DATA, 0, 1, b"x")]);
    assert_eq!(said.reset_of(1), Some(Reason::STREAM_CLOSED));
    let said = server.hears(&[headers(1, END_STREAM | END_HEADERS, &get())]);
    assert_eq!(said.goaway(), Some(Reason::STREAM_CLOSED));
}

#[test]
fn what_was_under_way_when_we_reset_a_stream_is_no_fault() {
    let mut server = Server::met();
    server.hears(&[post(1)]);
    server.connection.reset(http2::StreamId(1), Reason::CANCEL);
    let said = server.hears(&[
        frame(DATA, 0, 1, b"x"),
        window_update(1, 5),
        headers(1, END_STREAM | END_HEADERS, &get()),
    ]);
    assert_eq!(said.resets(), [(1, Reason::CANCEL)]);
    assert!(server.lives());
}

#[test]
fn a_clients_streams_are_odd_and_rise() {
    ends(
        &[headers(2, END_STREAM | END_HEADERS, &get())],
        Reason::PROTOCOL_ERROR,
    );
    ends(
        &[
            headers(5, END_STREAM | END_HEADERS, &get()),
            headers(3, END_STREAM | END_HEADERS, &get()),
        ],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn a_stream_too_many_is_refused_and_may_come_again() {
    let config = Config {
        streams_max: 1,
        ..Config::default()
    };
    let mut server = Server::met_with(config);
    let said = server.hears(&[post(1), headers(3, END_STREAM | END_HEADERS, &get())]);
    assert_eq!(said.requests(), [1]);
    assert_eq!(said.resets(), [(3, Reason::REFUSED_STREAM)]);
    server.hears(&[frame(DATA, END_STREAM, 1, b"")]);
    server.answers(1);
    let said = server.hears(&[headers(5, END_STREAM | END_HEADERS, &get())]);
    assert_eq!(said.requests(), [5]);
}

// 6.1 to 6.10: each frame's own rules.

#[test]
fn frames_of_a_stream_are_not_for_stream_0() {
    for wrong in [
        frame(DATA, 0, 0, b"x"),
        headers(0, END_STREAM | END_HEADERS, &get()),
        frame(PRIORITY, 0, 0, &[0; 5]),
        frame(RST_STREAM, 0, 0, &[0; 4]),
        frame(CONTINUATION, END_HEADERS, 0, b""),
    ] {
        ends(&[wrong], Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn frames_of_the_connection_are_for_stream_0_only() {
    for wrong in [
        frame(SETTINGS, 0, 1, &[]),
        frame(PING, 0, 1, &[0; 8]),
        frame(GOAWAY, 0, 1, &[0; 8]),
    ] {
        ends(&[post(1), wrong], Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn frames_of_a_wrong_length_end_the_connection() {
    for wrong in [
        frame(RST_STREAM, 0, 1, &[0; 3]),
        frame(SETTINGS, 0, 0, &[0; 3]),
        frame(SETTINGS, 1, 0, &[0; 6]),
        frame(PING, 0, 0, &[0; 6]),
        frame(GOAWAY, 0, 0, &[0; 7]),
        frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        frame(WINDOW_UPDATE, 0, 1, &[0; 5]),
        headers(3, END_HEADERS | PRIORITIZED, &[0; 4]),
        frame(DATA, PADDED, 1, &[]),
    ] {
        ends(&[post(1), wrong], Reason::FRAME_SIZE_ERROR);
    }
}

#[test]
fn a_priority_of_a_wrong_length_resets_its_stream_and_a_right_one_means_nothing() {
    resets(
        &[post(1), frame(PRIORITY, 0, 1, &[0; 4])],
        Reason::FRAME_SIZE_ERROR,
    );
    lives(&[frame(PRIORITY, 0, 99, &[0; 5])]);
}

#[test]
fn more_padding_than_payload_ends_the_connection() {
    ends(
        &[post(1), frame(DATA, PADDED, 1, &[2, 0])],
        Reason::PROTOCOL_ERROR,
    );
    ends(
        &[headers(1, END_STREAM | END_HEADERS | PADDED, &[9, 0x82])],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn padding_and_priority_are_taken_off() {
    let block = [&[2, 0, 0, 0, 0, 7][..], &get(), &[0, 0]].concat();
    let mut server = Server::met();
    let said = server.hears(&[
        headers(1, END_STREAM | END_HEADERS | PADDED | PRIORITIZED, &block),
        post(3),
        frame(DATA, END_STREAM | PADDED, 3, b"\x03abc\0\0\0"),
    ]);
    assert_eq!(said.requests(), [1, 3]);
    assert_eq!(said.body(3), b"abc");
}

#[test]
fn settings_outside_their_bounds_end_the_connection() {
    ends(&[setting(2, 2)], Reason::PROTOCOL_ERROR);
    ends(&[setting(4, 1 << 31)], Reason::FLOW_CONTROL_ERROR);
    ends(&[setting(5, 16_383)], Reason::PROTOCOL_ERROR);
    ends(&[setting(5, 1 << 24)], Reason::PROTOCOL_ERROR);
    lives(&[setting(0x99, 7)]);
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let mut server = Server::met();
    let said = server.hears(&[setting(3, 9), frame(PING, 0, 0, b"12345678")]);
    assert_eq!(said.count(SETTINGS, 1), 1);
    assert_eq!(said.payloads(PING, 1), [b"12345678".to_vec()]);
    let said = server.hears(&[frame(PING, 1, 0, b"12345678")]);
    assert_eq!(said.count(PING, 1), 0);
}

#[test]
fn nobody_may_push_to_us() {
    ends(
        &[post(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn a_window_update_of_nothing_is_an_error_of_its_stream_or_of_the_connection() {
    resets(&[post(1), window_update(1, 0)], Reason::PROTOCOL_ERROR);
    ends(&[window_update(0, 0)], Reason::PROTOCOL_ERROR);
}

#[test]
fn a_window_above_2_31_is_an_error_of_its_stream_or_of_the_connection() {
    let most = 0x7fff_ffff;
    resets(
        &[post(1), window_update(1, most)],
        Reason::FLOW_CONTROL_ERROR,
    );
    ends(&[window_update(0, most)], Reason::FLOW_CONTROL_ERROR);
}

// 5.2, 6.9: windows.

#[test]
fn data_waits_for_the_streams_window_however_it_changes() {
    let mut server = Server::met();
    server.hears(&[setting(4, 3), headers(1, END_STREAM | END_HEADERS, &get())]);
    server.sends(1, b"abcdefgh");
    assert_eq!(server.said().body_sent(1), b"abc");
    assert_eq!(server.hears(&[window_update(1, 2)]).body_sent(1), b"de");
    // The window sinks below zero, comes up to it, and above it.
    assert_eq!(server.hears(&[setting(4, 1)]).body_sent(1), b"");
    assert_eq!(server.hears(&[window_update(1, 2)]).body_sent(1), b"");
    assert_eq!(server.hears(&[setting(4, 2)]).body_sent(1), b"f");
    assert_eq!(server.hears(&[setting(4, 9)]).body_sent(1), b"gh");
}

#[test]
fn streams_that_wait_for_the_connections_window_are_served_in_turn() {
    let mut server = Server::met();
    server.hears(&[setting(4, 1 << 20)]);
    for stream in [1, 3, 5] {
        server.hears(&[headers(stream, END_STREAM | END_HEADERS, &get())]);
    }
    server.sends(1, &[b'a'; 65_535]);
    server.sends(3, b"three");
    server.sends(5, b"five");
    let said = server.said();
    assert_eq!((said.body_sent(3).len(), said.body_sent(5).len()), (0, 0));
    let said = server.hears(&[window_update(0, 7)]);
    assert_eq!(
        (&said.body_sent(3)[..], &said.body_sent(5)[..]),
        (&b"three"[..], &b"fi"[..])
    );
    assert_eq!(server.hears(&[window_update(0, 7)]).body_sent(5), b"ve");
}

#[test]
fn data_beyond_a_window_is_refused() {
    let config = Config {
        stream_window_bytes: 10,
        ..Config::default()
    };
    let mut server = Server::met_with(config);
    // Our settings hold once they are acknowledged, and not before.
    server.hears(&[post(1), frame(DATA, 0, 1, &[0; 11])]);
    assert!(server.lives());
    server.hears(&[frame(SETTINGS, 1, 0, &[])]);
    let said = server.hears(&[post(3), frame(DATA, 0, 3, &[0; 11])]);
    assert_eq!(said.reset_of(3), Some(Reason::FLOW_CONTROL_ERROR));
    let config = Config {
        connection_window_bytes: 65_535,
        ..Config::default()
    };
    let mut server = Server::met_with(config);
    server.holds = true;
    server.hears(&[frame(SETTINGS, 1, 0, &[]), post(1)]);
    let said = server.hears(&vec![frame(DATA, 0, 1, &[0; 16_384]); 5]);
    assert_eq!(said.goaway(), Some(Reason::FLOW_CONTROL_ERROR));
}

#[test]
fn a_shell_that_takes_nothing_gives_no_window() {
    let mut server = Server::met();
    server.holds = true;
    server.hears(&[post(1)]);
    let said = server.hears(&vec![frame(DATA, 0, 1, &[0; 10_000]); 6]);
    assert_eq!(said.count(WINDOW_UPDATE, 0), 0);
}

#[test]
fn data_for_streams_that_are_gone_does_not_eat_the_connections_window() {
    let mut server = Server::met();
    server.hears(&[post(1)]);
    server.connection.reset(http2::StreamId(1), Reason::CANCEL);
    let said = server.hears(&vec![frame(DATA, 0, 1, &[0; 16_000]); 200]);
    assert_eq!(said.goaway(), None);
    assert!(said.count(WINDOW_UPDATE, 0) > 0);
}

// 8: messages.

#[test]
fn malformed_requests_reset_their_stream() {
    let good = request("GET", &[]);
    for bad in [
        request("GET", &[("Upper", "x")]),
        request("GET", &[("connection", "close")]),
        request("GET", &[("te", "gzip")]),
        request("GET", &[(":late", "x")]),
        request("GET", &[("a b", "x")]),
        request("GET", &[("a", "x\ny")]),
        request("GET", &[("a", " x")]),
        request("GET", &[("", "x")]),
        request("GET", &[("content-length", "3")]),
        // Without :path; with two :method.
        good[..2].to_vec(),
        [&[0x82], &good[..]].concat(),
    ] {
        resets(
            &[headers(1, END_STREAM | END_HEADERS, &bad)],
            Reason::PROTOCOL_ERROR,
        );
    }
}

#[test]
fn a_bad_field_stays_bad_when_it_comes_again_out_of_the_table() {
    let mut bad = get();
    bad.extend_from_slice(b"\x40\x01a\x03x\ny");
    let again = [&get()[..], &[0xbe]].concat();
    let frames = [
        headers(1, END_STREAM | END_HEADERS, &bad),
        headers(3, END_STREAM | END_HEADERS, &again),
    ];
    resets_stream(3, &frames, Reason::PROTOCOL_ERROR);
}

#[test]
fn a_body_is_as_long_as_it_was_promised() {
    let promised = headers(1, END_HEADERS, &request("POST", &[("content-length", "3")]));
    let data = |flags, bytes| frame(DATA, flags, 1, bytes);
    resets(
        &[promised.clone(), data(0, b"abcd")],
        Reason::PROTOCOL_ERROR,
    );
    resets(
        &[promised.clone(), data(END_STREAM, b"ab")],
        Reason::PROTOCOL_ERROR,
    );
    resets(
        &[
            promised.clone(),
            data(0, b"ab"),
            headers(1, END_STREAM | END_HEADERS, &[]),
        ],
        Reason::PROTOCOL_ERROR,
    );
    let mut server = Server::met();
    let said = server.hears(&[promised, data(0, b"ab"), data(END_STREAM, b"c")]);
    assert_eq!(said.body(1), b"abc");
    assert!(said.resets().is_empty());
}

#[test]
fn trailers_end_a_message_and_hold_no_pseudo_headers() {
    resets(
        &[post(1), headers(1, END_HEADERS, &[])],
        Reason::PROTOCOL_ERROR,
    );
    resets(
        &[post(1), headers(1, END_STREAM | END_HEADERS, &get())],
        Reason::PROTOCOL_ERROR,
    );
    let server = lives(&[
        post(1),
        headers(1, END_STREAM | END_HEADERS, b"\x00\x01a\x01b"),
    ]);
    assert_eq!(server.connection.open_streams(), 1);
}

#[test]
fn a_head_too_large_is_answered_with_431_and_the_tables_stay_in_step() {
    let config = Config {
        header_list_bytes_max: 1_000,
        ..Config::default()
    };
    let mut server = Server::met_with(config);
    // It lists more than 1,000 bytes by naming one kept entry again and again.
    let mut block = get();
    block.extend_from_slice(b"\x40\x01a\x01b");
    block.extend_from_slice(&[0xbe; 100]);
    let said = server.hears(&[headers(1, END_STREAM | END_HEADERS, &block)]);
    assert!(said.requests().is_empty());
    assert_eq!(said.status(1), "431");
    let again = [&get()[..], &[0xbe]].concat();
    let said = server.hears(&[headers(3, END_STREAM | END_HEADERS, &again)]);
    assert_eq!(said.requests(), [3]);
}

// The end.

#[test]
fn shutdown_takes_what_was_under_way_and_refuses_what_comes_later() {
    let mut server = Server::met();
    server.hears(&[post(1)]);
    server.connection.shutdown();
    let said = server.said();
    assert_eq!(said.goaway_last(), Some(0x7fff_ffff));
    let ping = said.payloads(PING, 0);
    // This one crossed the GOAWAY.
    let said = server.hears(&[headers(3, END_STREAM | END_HEADERS, &get())]);
    assert_eq!(said.requests(), [3]);
    let said = server.hears(&[frame(PING, 1, 0, &ping[0])]);
    assert_eq!(
        (said.goaway_last(), said.goaway()),
        (Some(3), Some(Reason::NO_ERROR))
    );
    let said = server.hears(&[headers(5, END_STREAM | END_HEADERS, &get())]);
    assert_eq!(said.resets(), [(5, Reason::REFUSED_STREAM)]);
    assert!(!server.connection.is_drained());
    server.answers(3);
    server.hears(&[frame(DATA, END_STREAM, 1, b"")]);
    server.answers(1);
    assert!(server.connection.is_drained());
}

#[test]
fn a_client_learns_which_of_its_streams_were_not_looked_at() {
    let mut client = Connection::client(Config::default());
    for _ in 0..3 {
        let head: [(&[u8], &[u8]); 3] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"/"),
        ];
        client.open(head, true).unwrap();
    }
    let going = [
        frame(SETTINGS, 0, 0, &[]),
        frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
    ];
    client.recv(going.concat().into(), 0);
    let mut lost = Vec::new();
    while let Some(event) = client.next_event() {
        if let Event::Reset { stream, reason } = event {
            lost.push((stream.0, reason));
        }
    }
    assert_eq!(lost, [(5, Reason::REFUSED_STREAM)]);
    assert!(client.is_peer_going());
}

// Floods: each ends with ENHANCE_YOUR_CALM, and holds little memory until then.

fn drowns(mut next: impl FnMut(u32) -> Vec<u8>) {
    let mut server = Server::met();
    for number in 0..40_000 {
        let said = server.hears(&[next(number)]);
        assert!(
            server.connection.held_bytes() < 256 << 10,
            "after {number} frames"
        );
        if let Some(reason) = said.goaway() {
            assert_eq!(reason, Reason::ENHANCE_YOUR_CALM);
            return;
        }
    }
    panic!("40,000 frames were taken");
}

#[test]
fn frames_that_move_nothing_come_to_an_end() {
    drowns(|_| frame(PING, 0, 0, &[0; 8]));
    drowns(|_| frame(SETTINGS, 0, 0, &[]));
    drowns(|_| frame(SETTINGS, 1, 0, &[]));
    drowns(|_| frame(PRIORITY, 0, 1, &[0; 5]));
    drowns(|_| frame(0x99, 0, 0, b"x"));
    drowns(|number| {
        if number == 0 {
            post(1)
        } else {
            frame(DATA, 0, 1, b"")
        }
    });
    drowns(|number| {
        if number == 0 {
            post(1)
        } else {
            window_update(1, 1)
        }
    });
    drowns(|_| window_update(0, 1));
    drowns(|_| frame(GOAWAY, 0, 0, &[0; 8]));
}

#[test]
fn streams_that_are_reset_as_soon_as_opened_come_to_an_end() {
    let cancel = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    drowns(|number| [post(2 * number + 1), cancel(2 * number + 1)].concat());
}

#[test]
fn streams_that_force_us_to_reset_them_come_to_an_end() {
    drowns(|number| [post(2 * number + 1), window_update(2 * number + 1, 0)].concat());
    drowns(|number| headers(2 * number + 1, END_STREAM | END_HEADERS, &[0x82]));
}

#[test]
fn a_header_block_without_end_comes_to_an_end() {
    drowns(|number| match number {
        0 => headers(1, 0, &get()),
        _ => frame(CONTINUATION, 0, 1, &[0x82; 1_000]),
    });
    drowns(|number| match number {
        0 => headers(1, 0, &get()),
        _ => frame(CONTINUATION, 0, 1, b""),
    });
}

#[test]
fn a_client_that_pings_every_ten_seconds_for_a_week_is_no_flood() {
    let mut server = Server::met();
    for number in 0..60_480 {
        server.now_millis = number * 10_000;
        assert_eq!(server.hears(&[frame(PING, 0, 0, &[0; 8])]).goaway(), None);
    }
}

// Memory.

#[test]
fn an_idle_connection_holds_less_than_4_kib_and_a_stream_less_than_200_bytes() {
    let mut server = Server::met_with(Config {
        streams_max: 100_000,
        ..Config::default()
    });
    for number in 0..1_000 {
        let stream = 2 * number + 1;
        server.hears(&[headers(stream, END_STREAM | END_HEADERS, &get())]);
        server.answers(stream);
    }
    server.connection.release();
    assert!(
        server.connection.held_bytes() < 4 << 10,
        "{}",
        server.connection.held_bytes()
    );
    let before = server.connection.held_bytes();
    for number in 1_000..11_000 {
        server.hears(&[headers(2 * number + 1, END_HEADERS, &request("POST", &[]))]);
    }
    server.connection.release();
    let each = (server.connection.held_bytes() - before) / 10_000;
    assert!(each < 200, "{each}");
}

#[test]
fn headers_go_out_in_pieces_that_the_peer_takes() {
    let mut server = Server::met();
    server.hears(&[headers(1, END_STREAM | END_HEADERS, &get())]);
    let long = vec![b'~'; 40_000];
    let head: [(&[u8], &[u8]); 2] = [(b":status", b"200"), (b"long", &long)];
    assert!(
        server
            .connection
            .send_headers(http2::StreamId(1), head, true)
    );
    let said = server.said();
    assert_eq!(said.count(HEADERS, END_STREAM), 1);
    assert_eq!(
        (
            said.count(CONTINUATION, 0),
            said.count(CONTINUATION, END_HEADERS)
        ),
        (1, 1)
    );
    assert!(said.longest() <= 16_384);
}
