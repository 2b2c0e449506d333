//! The terminal: takes the screen, draws lines on it, hears `q`, and gives everything back as it was.
//!
//! Plain ANSI sequences; knows nothing of what is drawn.

use std::io::{Read as _, Write as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::mpsc;

use super::draw::COLUMNS_MIN;

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HEADINGS: [&str; 3] = ["REQUESTS", "LATENCY", "MEMORY"];
/// Rows where the terminal does not tell how many it has.
const ROWS_DEFAULT: usize = 24;

/// The screen while it is ours.
pub struct Terminal {
    before: Termios,
    quit: mpsc::Receiver<()>,
}

impl Terminal {
    /// Takes the screen and the keyboard. Ctrl-C stays a signal.
    pub fn take() -> Result<Terminal, String> {
        let fail = |error: rustix::io::Errno| format!("the terminal cannot be set up: {error}");
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).map_err(fail)?;
        let mut raw = before.clone();
        // Keys come as they are pressed, and are not shown.
        raw.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(fail)?;
        let (sender, quit) = mpsc::channel(1);
        // Reading a terminal blocks; the thread ends with the process.
        let keys = std::thread::Builder::new()
            .name("keys".into())
            .spawn(move || {
                let mut key = [0u8; 1];
                while matches!(std::io::stdin().read(&mut key), Ok(1)) {
                    if matches!(key[0], b'q' | b'Q') && sender.blocking_send(()).is_err() {
                        return;
                    }
                }
            });
        let terminal = Terminal { before, quit };
        keys.map_err(|error| format!("cannot start a thread: {error}"))?;
        terminal.write(ENTER)?;
        Ok(terminal)
    }

    /// Ready when `q` was pressed.
    pub async fn quit(&mut self) {
        if self.quit.recv().await.is_none() {
            // No keyboard any more: a signal is left.
            std::future::pending().await
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (COLUMNS_MIN, ROWS_DEFAULT),
        }
    }

    /// Shows lines in place of those before. Headings stand out.
    pub fn draw(&self, lines: &[String]) -> Result<(), String> {
        let mut text = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                text.push_str("\r\n");
            }
            let is_heading = HEADINGS.iter().any(|word| line.starts_with(word));
            if is_heading {
                text.push_str(&format!("\x1b[1m{line}\x1b[0m"));
            } else {
                text.push_str(line);
            }
            // What stood there before, to the end of the line.
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        self.write(&text)
    }

    fn write(&self, text: &str) -> Result<(), String> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| format!("cannot draw: {error}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.write(LEAVE);
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
