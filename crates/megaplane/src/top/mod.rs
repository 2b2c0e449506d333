//! `megaplane top`: what a running control plane does, from its metrics, once a second.
//!
//! ```text
//!   GET /metrics ─► scrape (text to numbers) ─► figures (two scrapes to rates) ─► draw (lines), or JSON
//! ```
//!
//! Knows the network, the terminal and time; what is shown is decided without them.

mod draw;
mod figures;
mod scrape;
mod terminal;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use client::Kubeconfig;
use client::https::HttpsTransport;

use crate::fleet_command::get;
use crate::paths;
use crate::threads;
use figures::Figures;
use scrape::Scrape;
use terminal::Terminal;

/// How often the figures are brought up to date.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest certificate or key file that is read, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Flags of `megaplane top`.
#[derive(Debug, Args)]
pub struct TopOptions {
    /// The API server, and who we are there [default: $KUBECONFIG, else that of `megaplane up`]
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub kubeconfig: Option<PathBuf>,
    /// The API server by its address, with the three files below
    #[arg(
        long,
        value_name = "URL",
        requires_all = ["certificate_authority", "client_certificate", "client_key"]
    )]
    pub server: Option<String>,
    /// Certificate authority of the server, PEM
    #[arg(long, value_name = "FILE", requires = "server")]
    pub certificate_authority: Option<PathBuf>,
    /// Our certificate, PEM
    #[arg(long, value_name = "FILE", requires = "server")]
    pub client_certificate: Option<PathBuf>,
    /// Our key, PEM
    #[arg(long, value_name = "FILE", requires = "server")]
    pub client_key: Option<PathBuf>,
    /// Look for one second, print, and end; also what happens where there is no terminal
    #[arg(long)]
    pub once: bool,
    /// Print one JSON object a second; with --once, one
    #[arg(long)]
    pub json: bool,
}

/// Shows until a signal or `q` comes.
pub fn run(options: &TopOptions) -> Result<(), Box<dyn std::error::Error>> {
    let kubeconfig = kubeconfig(options)?;
    let source = Source {
        transport: HttpsTransport::new(&kubeconfig)?,
        server: kubeconfig.server.clone(),
    };
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    threads::block_on(async {
        if options.once || (!has_terminal && !options.json) {
            let first = source.scrape().await?;
            tokio::time::sleep(INTERVAL).await;
            return show_once(&source, &first, &source.scrape().await?, options.json);
        }
        if options.json {
            return repeat_json(&source).await;
        }
        live(&source).await
    })?
    .map_err(Into::into)
}

fn show_once(source: &Source, first: &Timed, second: &Timed, json: bool) -> Result<(), String> {
    let figures = figures_of(source, first, second);
    let text = if json {
        figures.to_json().to_string()
    } else {
        draw::lines(&figures, draw::COLUMNS_MIN, usize::MAX).join("\n")
    };
    print(&format!("{text}\n"))
}

async fn repeat_json(source: &Source) -> Result<(), String> {
    let mut before = source.scrape().await?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.tick().await;
    let mut signal = std::pin::pin!(threads::signal());
    loop {
        tokio::select! {
            () = &mut signal => return Ok(()),
            _ = ticks.tick() => {}
        }
        let now = source.scrape().await?;
        print(&format!(
            "{}\n",
            figures_of(source, &before, &now).to_json()
        ))?;
        before = now;
    }
}

async fn live(source: &Source) -> Result<(), String> {
    // Whether it is there at all is told before the screen is taken.
    let mut before = source.scrape().await?;
    let mut terminal = Terminal::take()?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.tick().await;
    terminal.draw(&["looking for a second …".into()])?;
    let mut signal = std::pin::pin!(threads::signal());
    loop {
        tokio::select! {
            () = &mut signal => return Ok(()),
            () = terminal.quit() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let (columns, rows) = terminal.size();
        match source.scrape().await {
            Ok(now) => {
                terminal.draw(&draw::lines(
                    &figures_of(source, &before, &now),
                    columns,
                    rows,
                ))?;
                before = now;
            }
            // It may come back: the screen says so and waits.
            Err(error) => {
                terminal.draw(&[draw::cut(&error, columns), String::new(), "q ends".into()])?
            }
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot print: {error}"))
}

fn figures_of(source: &Source, before: &Timed, now: &Timed) -> Figures {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    Figures::of(&source.server, &before.scrape, &now.scrape, seconds)
}

struct Timed {
    at: Instant,
    scrape: Scrape,
}

struct Source {
    transport: HttpsTransport,
    server: String,
}

impl Source {
    async fn scrape(&self) -> Result<Timed, String> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, get(&self.transport, "/metrics"));
        let (status, body) = answer.await.map_err(|_| {
            format!(
                "{}: no answer within {} s",
                self.server,
                ANSWER_TIMEOUT.as_secs()
            )
        })?;
        let text = String::from_utf8_lossy(&body);
        match status {
            200 => Ok(Timed {
                at: Instant::now(),
                scrape: Scrape::parse(&text),
            }),
            0 => Err(format!(
                "{}: no answer ({text}); is `megaplane up` running there?",
                self.server
            )),
            401 | 403 => Err(format!(
                "{}: these credentials may not read /metrics ({status})",
                self.server
            )),
            _ => Err(format!("{}: /metrics answers {status}", self.server)),
        }
    }
}

fn kubeconfig(options: &TopOptions) -> Result<Kubeconfig, String> {
    let file = |path: &Option<PathBuf>| path.as_deref().map_or(Ok(Vec::new()), read_pem);
    if let Some(server) = &options.server {
        return Ok(Kubeconfig {
            server: server.clone(),
            ca_pem: file(&options.certificate_authority)?,
            client_certificate_pem: file(&options.client_certificate)?,
            client_key_pem: file(&options.client_key)?,
            ..Kubeconfig::default()
        });
    }
    let path = match &options.kubeconfig {
        Some(path) => path.clone(),
        None => match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => paths::own_kubeconfig()?,
        },
    };
    Kubeconfig::read(&path).map_err(|error| {
        format!("{error}; name another one with --kubeconfig, or start `megaplane up`")
    })
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if length > PEM_BYTES_MAX {
        return Err(fail(&"the file is larger than 1 MiB"));
    }
    std::fs::read(path).map_err(|error| fail(&error))
}
