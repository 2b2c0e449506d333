//! Shards in other processes, over TCP on the loopback interface.
//!
//! ```text
//!   frame = length (4 bytes, lowest first) · message
//!   connect ─► greeting ─► empty frame, or why not ─► frames of orders ─► a frame for each answer
//! ```
//!
//! Orders wait here until an answer is asked for. A shard serves one coordinator at a time, and begins empty with each
//! connection; who may connect is not asked, which is why only loopback addresses are spoken to. Does not know what
//! the messages say.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use placement::Config;
use placement::shards::{Greeting, Links, Lost, Reply, Request, SHARDS_MAX, Shard};

use super::ANSWER_WAIT;

/// Longest frame: the cells of a class over a million nodes unlike one another are about 60 bytes each.
const FRAME_BYTES_MAX: usize = 128 << 20;
/// Orders sent in one piece: bounds what waits here.
const PIECE_MAX: usize = 256;
/// Wait for a connection; on one machine it is there at once or not at all.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
struct Seat {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    outbox: Vec<Request>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Sockets {
    seats: Vec<Seat>,
    greeting: Vec<u8>,
}

impl Sockets {
    /// Connects to shards; those that cannot be reached are lost, and tried again later.
    pub(crate) fn connect(addresses: &[SocketAddr], config: &Config) -> Sockets {
        let greeting = Greeting(config.clone()).to_bytes();
        let seats = addresses.iter().take(SHARDS_MAX).map(|&address| {
            let mut seat = Seat {
                address,
                stream: None,
                outbox: Vec::new(),
            };
            seat.connect(&greeting, true);
            seat
        });
        Sockets {
            seats: seats.collect(),
            greeting,
        }
    }
}

impl Seat {
    fn connect(&mut self, greeting: &[u8], tell: bool) -> bool {
        self.outbox.clear();
        self.stream = None;
        match greet(self.address, greeting) {
            Ok(stream) => {
                self.stream = Some(stream);
                true
            }
            Err(error) => {
                if tell {
                    tracing::warn!(address = %self.address, %error, "cannot reach a shard of the scheduler; trying again");
                }
                false
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let bytes = Request::to_bytes(&self.outbox);
        self.outbox.clear();
        let stream = self
            .stream
            .as_mut()
            .ok_or(std::io::ErrorKind::NotConnected)?;
        write_frame(stream.get_mut(), &bytes)
    }

    fn answer(&mut self) -> std::io::Result<Reply> {
        let stream = self
            .stream
            .as_mut()
            .ok_or(std::io::ErrorKind::NotConnected)?;
        let bytes = read_frame(stream)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Reply::from_bytes(&bytes).map_err(std::io::Error::other)
    }

    /// What comes after an error would be read as an answer to something else.
    fn close(&mut self, error: &std::io::Error) -> Lost {
        if self.stream.take().is_some() {
            tracing::error!(address = %self.address, %error, "a shard of the scheduler is lost: its nodes go to the others");
        }
        self.outbox.clear();
        Lost
    }
}

fn greet(address: SocketAddr, greeting: &[u8]) -> std::io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    // It may be busy with another coordinator: then it does not greet.
    stream.set_read_timeout(Some(CONNECT_WAIT))?;
    write_frame(&mut stream, greeting)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, stream);
    let why_not = read_frame(&mut reader)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    if !why_not.is_empty() {
        return Err(std::io::Error::other(
            String::from_utf8_lossy(&why_not).into_owned(),
        ));
    }
    reader.get_ref().set_read_timeout(Some(ANSWER_WAIT))?;
    Ok(reader)
}

impl Links for Sockets {
    fn count(&self) -> usize {
        self.seats.len()
    }

    fn send(&mut self, shard: usize, request: Request) -> Result<(), Lost> {
        let seat = &mut self.seats[shard];
        if seat.stream.is_none() {
            return Err(Lost);
        }
        seat.outbox.push(request);
        if seat.outbox.len() < PIECE_MAX {
            return Ok(());
        }
        seat.flush().map_err(|error| seat.close(&error))
    }

    fn receive(&mut self, shard: usize) -> Result<Reply, Lost> {
        self.flush();
        let seat = &mut self.seats[shard];
        seat.answer().map_err(|error| seat.close(&error))
    }

    fn flush(&mut self) {
        for seat in &mut self.seats {
            if let Err(error) = seat.flush() {
                seat.close(&error);
            }
        }
    }

    fn revive(&mut self, shard: usize) -> bool {
        self.seats[shard].connect(&self.greeting, false)
    }
}

// ---- the other end

/// Serves coordinators one after the other, each with an empty shard. Ends only with an error of the listener.
pub fn serve_shards(listener: &TcpListener) -> std::io::Error {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                tracing::info!(%peer, "a scheduler connects; this shard begins empty");
                match serve_shard(stream) {
                    Ok(()) => tracing::info!(%peer, "the scheduler has gone"),
                    Err(error) => {
                        tracing::warn!(%peer, %error, "the connection to the scheduler ends")
                    }
                }
            }
            // One peer's failure is not the listener's.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => return error,
        }
    }
}

/// Serves one coordinator until it closes the connection.
pub fn serve_shard(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, stream);
    // Who only connects must not keep others waiting; who has greeted may be silent.
    reader.get_ref().set_read_timeout(Some(ANSWER_WAIT))?;
    let Some(greeting) = read_frame(&mut reader)? else {
        return Ok(());
    };
    reader.get_ref().set_read_timeout(None)?;
    reader.get_ref().set_write_timeout(Some(ANSWER_WAIT))?;
    let config = match Greeting::from_bytes(&greeting) {
        Ok(Greeting(config)) => config,
        Err(error) => {
            write_frame(reader.get_mut(), error.to_string().as_bytes())?;
            return Err(std::io::Error::other(error));
        }
    };
    write_frame(reader.get_mut(), &[])?;
    let mut shard = Shard::new(config);
    while let Some(bytes) = read_frame(&mut reader)? {
        for request in Request::from_bytes(&bytes).map_err(std::io::Error::other)? {
            if let Some(reply) = shard.take(request) {
                write_frame(reader.get_mut(), &reply.to_bytes())?;
            }
        }
    }
    Ok(())
}

// ---- frames

fn write_frame(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(std::io::Error::other("a message is longer than 128 MiB"));
    }
    // In one write: two would be two packets.
    let mut frame = Vec::with_capacity(4 + bytes.len());
    frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    frame.extend_from_slice(bytes);
    stream.write_all(&frame)
}

/// The next frame; `None` when the other end has closed the connection between two.
fn read_frame(reader: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    if reader.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut head[1..])?;
    let len = u32::from_le_bytes(head) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(std::io::Error::other("a message is longer than 128 MiB"));
    }
    // Memory is taken as bytes come, not as a peer says.
    let mut bytes = Vec::with_capacity(len.min(READ_BYTES));
    reader.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() < len {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}
