//! Settings: a small table beside the keys, kept by the same log.
//!
//! For what a server must remember and no client may see among the keys: users and roles, alarms. A
//! setting takes no revision and has no history. What names and values mean is the server's.

use crate::errors::StoreError;
use crate::limits::{SETTING_NAME_BYTES_MAX, SETTINGS_BYTES_MAX};
use crate::shared::{Wakes, lock};
use crate::store::Store;
use bytes::Bytes;
use kv::{Change, Durability};
use std::collections::BTreeMap;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Settings(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: BTreeMap<Bytes, Bytes>,
    bytes: usize,
}

impl Table {
    fn set(&mut self, name: Bytes, value: Option<Bytes>) {
        let old = match value {
            Some(value) => {
                self.bytes += name.len() + value.len();
                self.by_name.insert(name.clone(), value)
            }
            None => self.by_name.remove(&name),
        };
        if let Some(old) = old {
            self.bytes -= name.len() + old.len();
        }
    }
}

impl Settings {
    /// For recovery: a setting as it was.
    pub(crate) fn restore(&self, name: Bytes, value: Option<Bytes>) {
        lock(&self.0).set(name, value);
    }

    /// All of them, in the order of their names.
    pub(crate) fn all(&self) -> Vec<(Bytes, Bytes)> {
        let table = lock(&self.0);
        let pair = |(name, value): (&Bytes, &Bytes)| (name.clone(), value.clone());
        table.by_name.iter().map(pair).collect()
    }
}

impl Store {
    /// The setting of this name.
    #[must_use]
    pub fn setting(&self, name: &[u8]) -> Option<Bytes> {
        lock(&self.shared.settings.0).by_name.get(name).cloned()
    }

    /// The settings whose names begin so, in order.
    #[must_use]
    pub fn settings(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let table = lock(&self.shared.settings.0);
        let from = Bytes::copy_from_slice(prefix);
        let found = table.by_name.range(from..);
        found
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Sets some settings, or with no value takes them away: all or none, but a crash before they are on the
    /// medium may keep only the first of them. They are there once [`Store::poll_logged`] says so of the
    /// position this answers. Taking away is never refused for lack of room.
    pub fn set_settings(
        &self,
        changes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<u64, StoreError> {
        if let Some(reason) = self.failure() {
            return Err(StoreError::LogStopped(reason));
        }
        let changes: Vec<_> = changes.into_iter().collect();
        let mut wakes = Wakes::default();
        let mut table = lock(&self.shared.settings.0);
        let added = |(name, value): &(Bytes, Option<Bytes>)| {
            value.as_ref().map_or(0, |value| name.len() + value.len())
        };
        let added: usize = changes.iter().map(added).sum();
        let is_long = changes
            .iter()
            .any(|(name, _)| name.len() > SETTING_NAME_BYTES_MAX);
        if is_long || (added > 0 && table.bytes.saturating_add(added) > SETTINGS_BYTES_MAX) {
            return Err(StoreError::SettingsFull {
                max_bytes: SETTINGS_BYTES_MAX,
            });
        }
        for (name, value) in changes {
            table.set(name.clone(), value.clone());
            // Under the table's lock: the log shows changes of one name in their order.
            self.shared.log_other(
                Durability::Fsync,
                Change::Setting { name, value },
                &mut wakes,
            );
        }
        drop(table);
        wakes.wake();
        Ok(self.log_position())
    }
}
