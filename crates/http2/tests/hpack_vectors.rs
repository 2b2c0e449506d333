//! The worked examples of RFC 7541, appendix C: blocks as bytes, and the lists they stand for.

use http2::{Decoder, Fields};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Decodes the blocks one after the other with one table, and shows each list as text.
fn lists(table_bytes_max: usize, blocks: &[&str]) -> Vec<String> {
    let mut decoder = Decoder::new(table_bytes_max);
    let mut fields = Fields::default();
    blocks
        .iter()
        .map(|block| {
            assert_eq!(
                decoder.decode(&bytes(block), &mut fields, 1 << 16),
                Ok(true)
            );
            let text = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
            let lines = fields
                .iter()
                .map(|(name, value)| format!("{}: {}\n", text(name), text(value)));
            lines.collect()
        })
        .collect()
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n",
];

const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
];

#[test]
fn c2_one_field_in_each_form() {
    let cases = [
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            "custom-key: custom-header\n",
        ),
        ("040c2f73616d706c652f70617468", ":path: /sample/path\n"),
        ("100870617373776f726406736563726574", "password: secret\n"),
        ("82", ":method: GET\n"),
    ];
    for (block, list) in cases {
        assert_eq!(lists(4096, &[block]), [list]);
    }
}

#[test]
fn c3_requests_without_huffman() {
    let blocks = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    assert_eq!(lists(4096, &blocks), REQUESTS);
}

#[test]
fn c4_requests_with_huffman() {
    let blocks = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    assert_eq!(lists(4096, &blocks), REQUESTS);
}

#[test]
fn c5_responses_without_huffman_in_a_table_that_overflows() {
    let blocks = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    assert_eq!(lists(256, &blocks), RESPONSES);
}

#[test]
fn c6_responses_with_huffman_in_a_table_that_overflows() {
    let blocks = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    assert_eq!(lists(256, &blocks), RESPONSES);
}
