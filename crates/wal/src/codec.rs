//! Records ⇄ bytes. Knows no files and no checksums: frames bring those.

use bytes::Bytes;
use kv::{Change, Durability, LeaseId, LogRecord, Revision};

/// What a frame may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Something the store logged.
    Record(LogRecord),
    /// Revisions up to here may have been given out.
    Reserve(Revision),
    /// The log ends here on purpose, and this is the last revision given out.
    Clean(Revision),
    /// The snapshot is complete, and was so at this revision.
    SnapshotEnd(Revision),
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const LEASE: u8 = 3;
const REVOKE: u8 = 4;
const COMPACT: u8 = 5;
const FORGET: u8 = 6;
const SETTING: u8 = 7;
const WINDOW: u8 = 8;
const RESERVE: u8 = 16;
const CLEAN: u8 = 17;
const SNAPSHOT_END: u8 = 18;

pub(crate) fn encode(item: &Item, out: &mut Vec<u8>) {
    match item {
        Item::Record(record) => encode_record(record, out),
        Item::Reserve(revision) => put_marker(RESERVE, *revision, out),
        Item::Clean(revision) => put_marker(CLEAN, *revision, out),
        Item::SnapshotEnd(revision) => put_marker(SNAPSHOT_END, *revision, out),
    }
}

fn put_marker(kind: u8, revision: Revision, out: &mut Vec<u8>) {
    out.push(kind);
    put_int(revision.0, out);
}

pub(crate) fn encode_record(record: &LogRecord, out: &mut Vec<u8>) {
    out.push(match &record.change {
        Change::Put { .. } => PUT,
        Change::Delete { .. } => DELETE,
        Change::Lease { .. } => LEASE,
        Change::Revoke { .. } => REVOKE,
        Change::Compact { .. } => COMPACT,
        Change::Forget { .. } => FORGET,
        Change::Setting { .. } => SETTING,
        Change::Window { .. } => WINDOW,
    });
    put_int(record.revision.0, out);
    out.push(match record.durability {
        Durability::Memory => 0,
        Durability::Buffered => 1,
        Durability::Fsync => 2,
    });
    match &record.change {
        Change::Put {
            collection,
            key,
            value,
            create_revision,
            version,
            lease,
            tags,
            sub,
        } => {
            put_bytes(collection, out);
            put_bytes(key, out);
            put_varint(u64::from(*sub), out);
            put_int(create_revision.0, out);
            put_int(*version, out);
            put_int(lease.0, out);
            put_varint(tags.len() as u64, out);
            for tag in tags {
                out.extend_from_slice(&tag.to_le_bytes());
            }
            put_bytes(value, out);
        }
        Change::Delete {
            collection,
            key,
            sub,
        } => {
            put_bytes(collection, out);
            put_bytes(key, out);
            put_varint(u64::from(*sub), out);
        }
        Change::Window {
            collection,
            list_floor,
            watch_floor,
        } => {
            put_bytes(collection, out);
            put_int(list_floor.0, out);
            put_int(watch_floor.0, out);
        }
        Change::Forget { collection } => put_bytes(collection, out),
        Change::Setting { name, value } => {
            put_bytes(name, out);
            out.push(u8::from(value.is_some()));
            if let Some(value) = value {
                put_bytes(value, out);
            }
        }
        Change::Lease {
            id,
            ttl_seconds,
            deadline_micros,
        } => {
            put_int(id.0, out);
            put_int(*ttl_seconds, out);
            put_int(*deadline_micros, out);
        }
        Change::Revoke { id } => put_int(id.0, out),
        Change::Compact { revision } => put_int(revision.0, out),
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_int(value: i64, out: &mut Vec<u8>) {
    put_varint(value.cast_unsigned(), out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads all items of a frame. None when they make no sense: the checksum held, so something else
/// than this program wrote them.
pub(crate) fn decode(payload: &Bytes) -> Option<Vec<Item>> {
    let mut reader = Reader { payload, at: 0 };
    let mut items = Vec::new();
    while reader.at < payload.len() {
        items.push(reader.item()?);
    }
    Some(items)
}

struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn item(&mut self) -> Option<Item> {
        let kind = self.byte()?;
        let revision = Revision(self.int()?);
        Some(match kind {
            RESERVE => Item::Reserve(revision),
            CLEAN => Item::Clean(revision),
            SNAPSHOT_END => Item::SnapshotEnd(revision),
            kind => {
                let durability = match self.byte()? {
                    0 => Durability::Memory,
                    1 => Durability::Buffered,
                    2 => Durability::Fsync,
                    _ => return None,
                };
                let change = self.change(kind)?;
                Item::Record(LogRecord {
                    revision,
                    durability,
                    change,
                })
            }
        })
    }

    fn change(&mut self, kind: u8) -> Option<Change> {
        Some(match kind {
            PUT => {
                let (collection, key, sub) = (self.bytes()?, self.bytes()?, self.sub()?);
                let create_revision = Revision(self.int()?);
                let (version, lease) = (self.int()?, LeaseId(self.int()?));
                let count = self.varint()?;
                let mut tags = Vec::new();
                for _ in 0..count {
                    tags.push(u64::from_le_bytes(self.take(8)?.as_ref().try_into().ok()?));
                }
                let value = self.bytes()?;
                Change::Put {
                    collection,
                    key,
                    value,
                    create_revision,
                    version,
                    lease,
                    tags,
                    sub,
                }
            }
            DELETE => {
                let (collection, key, sub) = (self.bytes()?, self.bytes()?, self.sub()?);
                Change::Delete {
                    collection,
                    key,
                    sub,
                }
            }
            LEASE => Change::Lease {
                id: LeaseId(self.int()?),
                ttl_seconds: self.int()?,
                deadline_micros: self.int()?,
            },
            REVOKE => Change::Revoke {
                id: LeaseId(self.int()?),
            },
            COMPACT => Change::Compact {
                revision: Revision(self.int()?),
            },
            WINDOW => Change::Window {
                collection: self.bytes()?,
                list_floor: Revision(self.int()?),
                watch_floor: Revision(self.int()?),
            },
            FORGET => Change::Forget {
                collection: self.bytes()?,
            },
            SETTING => Change::Setting {
                name: self.bytes()?,
                value: match self.byte()? {
                    0 => None,
                    1 => Some(self.bytes()?),
                    _ => return None,
                },
            },
            _ => return None,
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.payload.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn int(&mut self) -> Option<i64> {
        self.varint().map(u64::cast_signed)
    }

    fn sub(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.payload.len())?;
        let taken = self.payload.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Item> {
        let record = |revision, durability, change| {
            Item::Record(LogRecord {
                revision: Revision(revision),
                durability,
                change,
            })
        };
        let collection = Bytes::from_static(b"/registry/pods/");
        vec![
            record(
                300,
                Durability::Fsync,
                Change::Put {
                    collection: collection.clone(),
                    key: "a/b".into(),
                    value: vec![7; 200].into(),
                    create_revision: Revision(5),
                    version: 9,
                    lease: LeaseId(i64::MAX),
                    tags: vec![0, u64::MAX],
                    sub: 3,
                },
            ),
            record(
                301,
                Durability::Buffered,
                Change::Delete {
                    collection: collection.clone(),
                    key: "".into(),
                    sub: 0,
                },
            ),
            record(
                302,
                Durability::Fsync,
                Change::Window {
                    collection: collection.clone(),
                    list_floor: Revision(7),
                    watch_floor: Revision(6),
                },
            ),
            record(301, Durability::Memory, Change::Forget { collection }),
            record(
                0,
                Durability::Fsync,
                Change::Lease {
                    id: LeaseId(1),
                    ttl_seconds: 60,
                    deadline_micros: -5,
                },
            ),
            record(0, Durability::Fsync, Change::Revoke { id: LeaseId(1) }),
            record(
                0,
                Durability::Fsync,
                Change::Compact {
                    revision: Revision(299),
                },
            ),
            record(
                0,
                Durability::Fsync,
                Change::Setting {
                    name: "users/root".into(),
                    value: Some("x".into()),
                },
            ),
            record(
                0,
                Durability::Fsync,
                Change::Setting {
                    name: "users/root".into(),
                    value: None,
                },
            ),
            Item::Reserve(Revision(i64::MAX)),
            Item::Clean(Revision(1)),
            Item::SnapshotEnd(Revision(128)),
        ]
    }

    #[test]
    fn items_come_back_and_every_cut_is_noticed() {
        let mut out = Vec::new();
        samples().iter().for_each(|item| encode(item, &mut out));
        assert_eq!(decode(&out.clone().into()), Some(samples()));
        let mut one = Vec::new();
        encode(&samples()[0], &mut one);
        for cut in 1..one.len() {
            assert_eq!(
                decode(&Bytes::copy_from_slice(&one[..cut])),
                None,
                "cut at {cut}"
            );
        }
    }
}
