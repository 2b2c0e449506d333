//! Why a stream or a connection ends: the codes of RFC 9113 §7, and a text for people.

use std::fmt;

/// An error code as it goes over the wire. Unknown ones keep their number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(pub u32);

macro_rules! reasons {
    ($($name:ident = $code:literal, $about:literal;)*) => {
        impl Reason {
            $(#[doc = $about] pub const $name: Reason = Reason($code);)*
        }

        impl fmt::Debug for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Reason::$name => f.write_str(stringify!($name)),)*
                    Reason(code) => write!(f, "0x{code:x}"),
                }
            }
        }
    };
}

reasons! {
    NO_ERROR = 0, "Nothing is wrong.";
    PROTOCOL_ERROR = 1, "The rules were broken in a way no other code names.";
    INTERNAL_ERROR = 2, "This end failed.";
    FLOW_CONTROL_ERROR = 3, "More was sent than the window allowed.";
    SETTINGS_TIMEOUT = 4, "Settings were not acknowledged in time.";
    STREAM_CLOSED = 5, "A frame came for a stream that is over.";
    FRAME_SIZE_ERROR = 6, "A frame is too long, or too short.";
    REFUSED_STREAM = 7, "The stream was not looked at: it may be tried again.";
    CANCEL = 8, "The stream is not needed any more.";
    COMPRESSION_ERROR = 9, "The header tables of the two ends differ.";
    CONNECT_ERROR = 10, "A CONNECT's other side failed.";
    ENHANCE_YOUR_CALM = 11, "The peer makes work without end.";
    INADEQUATE_SECURITY = 12, "TLS is not good enough.";
    HTTP_1_1_REQUIRED = 13, "Come back with HTTP/1.1.";
}

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What the peer is told.
    pub reason: Reason,
    /// What a person is told.
    pub text: &'static str,
}

impl Error {
    pub(crate) const fn new(reason: Reason, text: &'static str) -> Error {
        Error { reason, text }
    }

    pub(crate) const fn protocol(text: &'static str) -> Error {
        Error::new(Reason::PROTOCOL_ERROR, text)
    }

    pub(crate) const fn frame_size(text: &'static str) -> Error {
        Error::new(Reason::FRAME_SIZE_ERROR, text)
    }

    pub(crate) const fn calm(text: &'static str) -> Error {
        Error::new(Reason::ENHANCE_YOUR_CALM, text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.text, self.reason)
    }
}

impl std::error::Error for Error {}
