//! A little extender: an HTTP server that answers as a test tells it to, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meta::Value;
use scheduler::ExtenderConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is answered.
pub enum Said {
    Json(Value),
    Status(u16),
    /// Nothing, ever.
    Nothing,
}

type Answers = Arc<dyn Fn(&str, &Value) -> Said + Send + Sync>;
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// It ends with the test's runtime.
pub struct Outsider {
    pub url: String,
    calls: Calls,
}

impl Outsider {
    /// `answers` is given the verb and the question.
    pub async fn start(answers: impl Fn(&str, &Value) -> Said + Send + Sync + 'static) -> Outsider {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Calls::default();
        let (answers, known): (Answers, Calls) = (Arc::new(answers), calls.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answers.clone(), known.clone()));
            }
        });
        Outsider { url, calls }
    }

    /// How it is configured, but for its verbs.
    pub fn config(&self) -> ExtenderConfig {
        ExtenderConfig {
            url_prefix: self.url.clone(),
            weight: 1,
            http_timeout: Duration::from_secs(5),
            node_cache_capable: true,
            ..ExtenderConfig::default()
        }
    }

    /// What it was asked under a verb, oldest first.
    pub fn asked(&self, verb: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let same = calls.iter().filter(|(asked, _)| asked == verb);
        same.map(|(_, question)| question.clone()).collect()
    }
}

async fn serve(mut stream: TcpStream, answers: Answers, calls: Calls) {
    while let Some((verb, question)) = read(&mut stream).await {
        calls.lock().unwrap().push((verb.clone(), question.clone()));
        let (status, body) = match answers(&verb, &question) {
            Said::Json(value) => (200, value.to_string()),
            Said::Status(status) => (status, String::new()),
            Said::Nothing => return std::future::pending().await,
        };
        let answer = format!(
            "HTTP/1.1 {status} S\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let verb = lines
        .next()?
        .split(' ')
        .nth(1)?
        .trim_start_matches('/')
        .to_owned();
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = bytes.split_off(head + 4);
    while body.len() < length? {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((verb, serde_json::from_slice(&body).unwrap()))
}
