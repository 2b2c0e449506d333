//! Transactions: compares, then one of two lists of operations. Knows no store.

use crate::{Key, KeyRange, KeyValue, LeaseId, Revision};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Transactions may hold transactions, this deep: more is a mistake or an attack on the stack.
pub const TXN_DEPTH_MAX: usize = 16;

/// If all compares hold, do `then`, else do `otherwise`: at one revision, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// Done when all conditions hold.
    pub then: Vec<Op>,
    /// Done when one does not.
    pub otherwise: Vec<Op>,
}

/// A condition on every key of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The keys it is about. An empty range is compared as one key that does not exist.
    pub range: KeyRange,
    /// How the key's side relates to the operand.
    pub op: CompareOp,
    /// What is compared, and with what.
    pub operand: Operand,
}

/// How the key's side must relate to the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// The same.
    Equal,
    /// The key's side is greater.
    Greater,
    /// The key's side is less.
    Less,
    /// Different.
    NotEqual,
}

impl CompareOp {
    /// Whether `left` relates to `right` so.
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            CompareOp::Equal => left == right,
            CompareOp::Greater => left > right,
            CompareOp::Less => left < right,
            CompareOp::NotEqual => left != right,
        }
    }
}

/// What is compared. A key that does not exist has zeros everywhere, and no value: a compare of
/// its value never holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The value.
    Value(Bytes),
    /// The version counter.
    Version(i64),
    /// The creating revision.
    Create(Revision),
    /// The latest revision.
    Mod(Revision),
    /// The lease.
    Lease(LeaseId),
}

impl Compare {
    /// "The key is at this revision"; zero for "does not exist".
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Self {
        Compare {
            range: KeyRange::one(key),
            op: CompareOp::Equal,
            operand: Operand::Mod(revision),
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Range(RangeOp),
    /// Write one key.
    Put(PutOp),
    /// Delete keys.
    Delete(DeleteOp),
    /// A transaction inside the transaction.
    Txn(Txn),
}

/// Reads a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeOp {
    /// The keys.
    pub range: KeyRange,
    /// At most this many; 0 for all.
    pub limit: usize,
    /// The revision to read at; 0 for now.
    pub revision: Revision,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave everything out but the count.
    pub count_only: bool,
    /// Another order than ascending keys.
    pub sort: Option<(SortTarget, SortOrder)>,
    /// Only versions made at this revision or later; 0 for all.
    pub min_mod_revision: Revision,
    /// Only versions made at this revision or earlier; 0 for all.
    pub max_mod_revision: Revision,
    /// Only keys created at this revision or later; 0 for all.
    pub min_create_revision: Revision,
    /// Only keys created at this revision or earlier; 0 for all.
    pub max_create_revision: Revision,
}

impl RangeOp {
    /// All of `range`, now, in the order of keys.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        RangeOp {
            range,
            limit: 0,
            revision: Revision(0),
            keys_only: false,
            count_only: false,
            sort: None,
            min_mod_revision: Revision(0),
            max_mod_revision: Revision(0),
            min_create_revision: Revision(0),
            max_create_revision: Revision(0),
        }
    }

    /// Whether some keys of the range are to be left out by their revisions.
    #[must_use]
    pub fn has_filter(&self) -> bool {
        [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ]
        .iter()
        .any(|bound| bound.0 != 0)
    }

    /// Whether a key with these revisions is wanted.
    #[must_use]
    pub fn admits(&self, create: Revision, modified: Revision) -> bool {
        let at_least = |value: Revision, bound: Revision| bound.0 == 0 || value >= bound;
        let at_most = |value: Revision, bound: Revision| bound.0 == 0 || value <= bound;
        at_least(modified, self.min_mod_revision)
            && at_most(modified, self.max_mod_revision)
            && at_least(create, self.min_create_revision)
            && at_most(create, self.max_create_revision)
    }
}

/// What a range may be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    Key,
    /// The version counter.
    Version,
    /// The creating revision.
    Create,
    /// The latest revision.
    Mod,
    /// The value.
    Value,
}

/// Which way a range is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Writes one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOp {
    /// The key.
    pub key: Key,
    /// The new value.
    pub value: Bytes,
    /// The lease to hang it on; none takes it off the one it had.
    pub lease: LeaseId,
    /// Answer with the version before.
    pub prev_kv: bool,
    /// Keep the value there is; the key must exist.
    pub ignore_value: bool,
    /// Keep the lease there is; the key must exist.
    pub ignore_lease: bool,
}

impl PutOp {
    /// Writes `value` to `key`, without a lease.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        PutOp {
            key: key.into(),
            value: value.into(),
            ..PutOp::default()
        }
    }
}

/// Deletes a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOp {
    /// The keys.
    pub range: KeyRange,
    /// Answer with what was deleted.
    pub prev_kv: bool,
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnReply {
    /// The transaction's own revision, or the newest one when it changed nothing.
    pub revision: Revision,
    /// Whether the compares held.
    pub succeeded: bool,
    /// One reply an operation, in order.
    pub replies: Vec<OpReply>,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReply {
    /// To a read.
    Range(RangeReply),
    /// To a put.
    Put {
        /// The version before, if asked for and there was one.
        prev: Option<KeyValue>,
    },
    /// To a delete.
    Delete {
        /// How many keys there were.
        deleted: usize,
        /// What was deleted, if asked for.
        prev: Vec<KeyValue>,
    },
    /// To an inner transaction.
    Txn(TxnReply),
}

/// The answer to a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// The store's revision when the read was made.
    pub revision: Revision,
    /// What was found.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something off.
    pub more: bool,
    /// How many keys the range holds, whatever the limit.
    pub count: usize,
}

/// A transaction that cannot mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// Two operations of one branch write the same key.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// Transactions in transactions, too deep.
    #[error("transactions are nested more than {TXN_DEPTH_MAX} deep")]
    TooDeep,
    /// A key is empty.
    #[error("key is not provided")]
    EmptyKey,
}

impl Txn {
    /// Refuses what cannot mean anything: no key may be written twice in one go, so that its
    /// version at the transaction's revision is one.
    pub fn validate(&self) -> Result<(), TxnError> {
        check_depth(self, 1)?;
        check_branch(&self.then)?;
        check_branch(&self.otherwise)?;
        Ok(())
    }
}

fn check_depth(txn: &Txn, depth: usize) -> Result<(), TxnError> {
    if depth > TXN_DEPTH_MAX {
        return Err(TxnError::TooDeep);
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            Op::Txn(inner) => check_depth(inner, depth + 1)?,
            Op::Put(put) if put.key.is_empty() => return Err(TxnError::EmptyKey),
            Op::Put(_) | Op::Range(_) | Op::Delete(_) => {}
        }
    }
    Ok(())
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

fn check_branch(ops: &[Op]) -> Result<Writes<'_>, TxnError> {
    let mut all = Writes::default();
    for op in ops {
        if let Op::Delete(delete) = op {
            all.deletes.push(&delete.range);
        }
    }
    for op in ops {
        if let Op::Txn(inner) = op {
            let then = check_branch(&inner.then)?;
            let otherwise = check_branch(&inner.otherwise)?;
            // The two branches exclude each other, so they may write the same keys, and one may put what the other
            // deletes; each has been checked in itself.
            let either: BTreeSet<&[u8]> = then.puts.union(&otherwise.puts).copied().collect();
            for key in either {
                add_put(&mut all, key)?;
            }
            all.deletes.extend(then.deletes);
            all.deletes.extend(otherwise.deletes);
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            add_put(&mut all, &put.key)?;
        }
    }
    Ok(all)
}

fn add_put<'a>(all: &mut Writes<'a>, key: &'a [u8]) -> Result<(), TxnError> {
    let deleted = all.deletes.iter().any(|range| range.contains(key));
    if deleted || !all.puts.insert(key) {
        return Err(TxnError::DuplicateKey);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> Op {
        Op::Put(PutOp::new(key, "v"))
    }

    fn nested(then: Vec<Op>, otherwise: Vec<Op>) -> Op {
        Op::Txn(Txn {
            compares: Vec::new(),
            then,
            otherwise,
        })
    }

    fn validate(then: Vec<Op>) -> Result<(), TxnError> {
        Txn {
            compares: Vec::new(),
            then,
            otherwise: Vec::new(),
        }
        .validate()
    }

    #[test]
    fn a_key_is_written_once() {
        assert_eq!(validate(vec![put("a"), put("b")]), Ok(()));
        assert_eq!(
            validate(vec![put("a"), put("a")]),
            Err(TxnError::DuplicateKey)
        );
        let delete = Op::Delete(DeleteOp {
            range: KeyRange::prefix("a"),
            prev_kv: false,
        });
        assert_eq!(
            validate(vec![put("a1"), delete.clone()]),
            Err(TxnError::DuplicateKey)
        );
        assert_eq!(validate(vec![put("b"), delete.clone(), delete]), Ok(()));
    }

    #[test]
    fn branches_that_exclude_each_other_may_write_the_same_key() {
        assert_eq!(
            validate(vec![nested(vec![put("a")], vec![put("a")])]),
            Ok(())
        );
        let delete = || {
            Op::Delete(DeleteOp {
                range: KeyRange::one("a"),
                prev_kv: false,
            })
        };
        assert_eq!(
            validate(vec![nested(vec![put("a")], vec![delete()])]),
            Ok(())
        );
        assert_eq!(
            validate(vec![nested(vec![delete()], vec![put("a")])]),
            Ok(())
        );
        assert_eq!(
            validate(vec![nested(vec![put("b")], vec![delete()]), put("a")]),
            Err(TxnError::DuplicateKey)
        );
        assert_eq!(
            validate(vec![nested(vec![put("a")], vec![]), put("a")]),
            Err(TxnError::DuplicateKey)
        );
    }

    #[test]
    fn depth_is_bounded() {
        let mut op = put("a");
        for _ in 0..TXN_DEPTH_MAX {
            op = nested(vec![op], vec![]);
        }
        assert_eq!(validate(vec![op]), Err(TxnError::TooDeep));
    }
}
