//! Hashes of passwords: bcrypt, which is slow on purpose, on threads of its own.
//!
//! Knows no users. A hash may take from a millisecond to hours, as its cost says; so it neither runs on a runtime nor
//! keeps the process from ending.

use std::sync::Arc;

use bcrypt::{BcryptError, Version};
use bytes::Bytes;
use etcd_wire::RpcError;
use tokio::sync::{Semaphore, oneshot};

use crate::limits::{ANSWER_TIMEOUT, PASSWORDS_WAITING_MAX};

/// Bytes of a password that bcrypt looks at.
const PASSWORD_BYTES_MAX: usize = 72;

/// Makes and compares hashes, a few at a time.
#[derive(Debug)]
pub struct Passwords {
    cost: u32,
    /// Taken by whoever works or waits.
    admitted: Arc<Semaphore>,
    /// Taken by whoever works.
    working: Arc<Semaphore>,
}

/// Passwords looked at together: half of the cores, so that a flood of logins leaves the other half.
fn at_once() -> usize {
    let cores = std::thread::available_parallelism();
    cores.map_or(1, |cores| (cores.get() / 2).max(1))
}

impl Passwords {
    /// Hashes made from now on cost so much: 2 to the power of it rounds.
    pub fn new(cost: u32) -> Passwords {
        let at_once = at_once();
        Passwords {
            cost,
            admitted: Arc::new(Semaphore::new(at_once + PASSWORDS_WAITING_MAX)),
            working: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// The hash of a password, as etcd would write it.
    pub async fn hash(&self, password: String) -> Result<Bytes, RpcError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(RpcError::PASSWORD_TOO_LONG);
        }
        let cost = self.cost;
        let hashed = self.work(move || hash(&password, cost)).await?;
        hashed.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            RpcError::STOPPED
        })
    }

    /// Whether a hash is that of a password. What is no hash is that of none.
    pub async fn is_hash_of(&self, hash: Bytes, password: String) -> Result<bool, RpcError> {
        self.work(move || matches(&hash, &password)).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RpcError> {
        let admitted = self.admitted.clone().try_acquire_owned();
        let admitted = admitted.map_err(|_| RpcError::TOO_MANY_REQUESTS)?;
        let turn = self.working.clone().acquire_owned();
        let turn = match tokio::time::timeout(ANSWER_TIMEOUT, turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return Err(RpcError::TOO_MANY_REQUESTS),
        };
        let (tell, told) = oneshot::channel();
        // Not one of the runtime's threads: it would wait for them at its end.
        let thread = std::thread::Builder::new().name("password".into());
        let spawned = thread.spawn(move || {
            // Who asked may be gone.
            let _ = tell.send(work());
            drop((turn, admitted));
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a password");
            return Err(RpcError::TOO_MANY_REQUESTS);
        }
        told.await.map_err(|_| RpcError::STOPPED)
    }
}

fn hash(password: &str, cost: u32) -> Result<Bytes, BcryptError> {
    let hashed = bcrypt::hash_with_result(password, cost)?;
    // The version that Go writes, and that etcd keeps.
    Ok(hashed.format_for_version(Version::TwoA).into())
}

fn matches(hash: &[u8], password: &str) -> bool {
    let hash = std::str::from_utf8(hash);
    hash.is_ok_and(|hash| bcrypt::verify(password, hash).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_that_of_its_password_only() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("p".into()).await.unwrap();
        assert!(hash.starts_with(b"$2a$04$"), "{hash:?}");
        let is = |hash: &Bytes, password: &str| passwords.is_hash_of(hash.clone(), password.into());
        assert_eq!(is(&hash, "p").await, Ok(true));
        assert_eq!(is(&hash, "q").await, Ok(false));
        assert_eq!(is(&hash, "").await, Ok(false));
        assert_eq!(is(&"none".into(), "p").await, Ok(false));
        assert_eq!(is(&Bytes::new(), "").await, Ok(false));
        assert_ne!(passwords.hash("p".into()).await.unwrap(), hash);
    }

    #[tokio::test]
    async fn a_hash_of_gos_is_understood() {
        // "abc", from the test vectors that all implementations share.
        let hash = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
        let passwords = Passwords::new(4);
        let is = passwords.is_hash_of(hash.into(), "abc".into());
        assert_eq!(is.await, Ok(true));
    }

    #[tokio::test]
    async fn what_bcrypt_would_cut_off_is_refused() {
        let passwords = Passwords::new(4);
        assert!(passwords.hash("x".repeat(72)).await.is_ok());
        let refused = passwords.hash("x".repeat(73)).await;
        assert_eq!(refused, Err(RpcError::PASSWORD_TOO_LONG));
    }

    #[tokio::test]
    async fn a_queue_that_is_full_refuses() {
        let passwords = Passwords::new(4);
        let all = u32::try_from(at_once() + PASSWORDS_WAITING_MAX).unwrap();
        let _taken = passwords.admitted.acquire_many(all).await.unwrap();
        let refused = passwords.hash("p".into()).await;
        assert_eq!(refused, Err(RpcError::TOO_MANY_REQUESTS));
    }
}
