//! ServiceAccounts.

use super::{PLAIN, Room};

/// Nothing is checked but metadata: references to secrets may be to secrets yet to come.
pub(super) const ROOM: Room = PLAIN;
