//! What a request needs to be allowed: for each operation, which keys are read and which are written.
//!
//! Pure but for one question, which keys hang on a lease: whoever puts a key on a lease, keeps it alive or revokes it
//! decides over them.

use bytes::Bytes;
use etcd_wire::RpcError;
use kv::{DeleteOp, KeyRange, LeaseId, Op, PutOp, Txn};

use super::access::Access;
use super::rules::Deed;

/// Tells which keys hang on a lease.
pub type KeysOf<'a> = &'a dyn Fn(LeaseId) -> Vec<Bytes>;

/// A put: its key is written, and so could be all others on its lease.
pub fn put(access: &Access, put: &PutOp, keys_of: KeysOf<'_>) -> Result<(), RpcError> {
    let key = KeyRange::one(put.key.clone());
    access.may(Deed::Write, &key)?;
    if put.lease.is_some() {
        lease(access, Deed::Write, put.lease, keys_of)?;
    }
    if put.prev_kv {
        access.may(Deed::Read, &key)?;
    }
    Ok(())
}

/// A deletion: what is told of it is read.
pub fn delete(access: &Access, delete: &DeleteOp) -> Result<(), RpcError> {
    access.may(Deed::Write, &delete.range)?;
    if delete.prev_kv {
        access.may(Deed::Read, &delete.range)?;
    }
    Ok(())
}

/// A transaction: all of it, whichever branch will run.
pub fn txn(access: &Access, txn: &Txn, keys_of: KeysOf<'_>) -> Result<(), RpcError> {
    for compare in &txn.compares {
        access.may(Deed::Read, &compare.range)?;
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            Op::Range(range) => access.may(Deed::Read, &range.range)?,
            Op::Put(one) => put(access, one, keys_of)?,
            Op::Delete(one) => delete(access, one)?,
            Op::Txn(inner) => self::txn(access, inner, keys_of)?,
        }
    }
    Ok(())
}

/// A deed on all keys of a lease. Who is in charge need not be asked about each.
pub fn lease(
    access: &Access,
    deed: Deed,
    id: LeaseId,
    keys_of: KeysOf<'_>,
) -> Result<(), RpcError> {
    if access.admin().is_ok() {
        return Ok(());
    }
    for key in keys_of(id) {
        access.may(deed, &KeyRange::one(key))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::access::Who;
    use crate::auth::rules::Rules;
    use etcd_wire::authpb;
    use etcd_wire::authpb::permission::Type;
    use kv::{Compare, RangeOp, Revision};
    use std::sync::Arc;

    /// May read what begins with r, write what begins with w, both what begins with b.
    fn access() -> Access {
        let mut rules = Rules::default();
        rules.is_enabled = true;
        let permission =
            |kind: Type, key: &'static str, range_end: &'static str| authpb::Permission {
                perm_type: kind.into(),
                key: key.into(),
                range_end: range_end.into(),
            };
        rules.put_role(
            "role".into(),
            authpb::Role {
                name: "role".into(),
                key_permission: vec![
                    permission(Type::Read, "r", "s"),
                    permission(Type::Write, "w", "x"),
                    permission(Type::Readwrite, "b", "c"),
                ],
            },
        );
        let user = authpb::User {
            roles: vec!["role".into()],
            ..Default::default()
        };
        rules.put_user("u".into(), user);
        let who = Who {
            name: "u".into(),
            revision: rules.revision,
        };
        Access::under(Arc::new(rules), Some(who))
    }

    fn run(ops: Vec<Op>, compares: Vec<Compare>) -> bool {
        let keys_of = |id: LeaseId| match id.0 {
            1 => vec!["w1".into(), "b1".into()],
            2 => vec!["w1".into(), "r1".into()],
            _ => Vec::new(),
        };
        let txn = Txn {
            compares,
            then: Vec::new(),
            otherwise: ops,
        };
        let nested = Txn {
            then: vec![Op::Txn(txn.clone())],
            ..Txn::default()
        };
        let allowed = self::txn(&access(), &txn, &keys_of).is_ok();
        assert_eq!(self::txn(&access(), &nested, &keys_of).is_ok(), allowed);
        allowed
    }

    fn put_op(key: &'static str, lease: i64, prev_kv: bool) -> Op {
        Op::Put(PutOp {
            lease: LeaseId(lease),
            prev_kv,
            ..PutOp::new(key, "v")
        })
    }

    fn delete_op(prefix: &'static str, prev_kv: bool) -> Op {
        Op::Delete(DeleteOp {
            range: KeyRange::prefix(prefix),
            prev_kv,
        })
    }

    fn range_op(prefix: &'static str) -> Op {
        Op::Range(RangeOp::new(KeyRange::prefix(prefix)))
    }

    #[test]
    fn every_operation_needs_its_keys_wherever_it_hides() {
        let compare = |key: &'static str| vec![Compare::mod_revision(key, Revision(0))];
        for (ops, compares, allowed) in [
            (vec![range_op("r")], vec![], true),
            (vec![range_op("w")], vec![], false),
            (vec![range_op("")], vec![], false),
            (vec![put_op("w", 0, false)], vec![], true),
            (vec![put_op("w", 0, true)], vec![], false),
            (vec![put_op("b", 0, true)], vec![], true),
            (vec![put_op("r", 0, false)], vec![], false),
            (vec![put_op("w", 1, false)], vec![], true),
            (vec![put_op("w", 2, false)], vec![], false),
            (vec![put_op("w", 3, false)], vec![], true),
            (vec![delete_op("w", false)], vec![], true),
            (vec![delete_op("w", true)], vec![], false),
            (vec![delete_op("b", true)], vec![], true),
            (vec![delete_op("", false)], vec![], false),
            (vec![], compare("r"), true),
            (vec![], compare("w"), false),
            (vec![], vec![], true),
            (vec![put_op("w", 0, false), range_op("w")], vec![], false),
        ] {
            assert_eq!(run(ops.clone(), compares), allowed, "{ops:?}");
        }
    }
}
