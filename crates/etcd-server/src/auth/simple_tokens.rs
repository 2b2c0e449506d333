//! Simple tokens: random names for users, good for a while after their last use. Knows no rules and no passwords.
//!
//! They are kept in memory only: after a restart everybody logs in again, as etcd's clients do by themselves. Chance
//! and time are passed in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_wire::RpcError;
use foldhash::quality::RandomState;

use crate::limits::SIMPLE_TOKENS_MAX;

/// Letters of a token, before its index.
const LETTERS: usize = 16;

const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Between two looks for tokens that are good no longer.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The tokens that are good.
#[derive(Debug)]
pub struct SimpleTokens {
    ttl: Duration,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    tokens: HashMap<String, Token, RandomState>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Token {
    user: Arc<str>,
    ends: Instant,
}

impl SimpleTokens {
    /// None yet; each will be good for so long after its last use.
    pub fn new(ttl: Duration) -> SimpleTokens {
        SimpleTokens {
            ttl,
            table: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a user a token of random letters and a number.
    pub fn assign(
        &self,
        user: &str,
        letters: &str,
        index: u64,
        now: Instant,
    ) -> Result<String, RpcError> {
        let mut table = self.lock();
        table.sweep(now);
        if table.tokens.len() >= SIMPLE_TOKENS_MAX {
            return Err(RpcError::TOO_MANY_REQUESTS);
        }
        let token = format!("{letters}.{index}");
        let kept = Token {
            user: user.into(),
            ends: now + self.ttl,
        };
        table.tokens.insert(token.clone(), kept);
        Ok(token)
    }

    /// Whose token this is, if it is good. It is good for longer, then.
    pub fn user(&self, token: &str, now: Instant) -> Option<Arc<str>> {
        let mut table = self.lock();
        let found = table.tokens.get_mut(token)?;
        if found.ends <= now {
            table.tokens.remove(token);
            return None;
        }
        found.ends = now + self.ttl;
        Some(found.user.clone())
    }

    /// A user's tokens are good no longer.
    pub fn forget_user(&self, user: &[u8]) {
        let is_anothers = |_: &String, token: &mut Token| token.user.as_bytes() != user;
        self.lock().tokens.retain(is_anothers);
    }

    /// No token is good any longer.
    pub fn forget_all(&self) {
        *self.lock() = Table::default();
    }
}

impl Table {
    fn sweep(&mut self, now: Instant) {
        let is_due = |swept: Instant| now.saturating_duration_since(swept) >= SWEEP_INTERVAL;
        if self.swept.is_none_or(is_due) {
            self.swept = Some(now);
            self.tokens.retain(|_, token| token.ends > now);
        }
    }
}

/// Letters made of random bytes; none if there were too few good ones among them.
pub fn letters(random: &[u8]) -> Option<String> {
    // Six bits of each byte, and those past the alphabet are left out: no letter is likelier than another.
    let letters = random
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
    let letters: String = letters
        .take(LETTERS)
        .map(|byte| char::from(*byte))
        .collect();
    (letters.len() == LETTERS).then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    #[test]
    fn a_token_lives_by_being_used() {
        let tokens = SimpleTokens::new(TTL);
        let begin = Instant::now();
        let token = tokens.assign("u", "letters", 7, begin).unwrap();
        assert_eq!(token, "letters.7");
        let late = begin + TTL - Duration::from_millis(1);
        assert_eq!(tokens.user(&token, late).as_deref(), Some("u"));
        assert_eq!(tokens.user(&token, begin + TTL).as_deref(), Some("u"));
        assert_eq!(tokens.user(&token, begin + TTL * 2), None);
        // Once gone, for ever.
        assert_eq!(tokens.user(&token, begin), None);
        assert_eq!(tokens.user("letters.8", begin), None);
    }

    #[test]
    fn tokens_go_with_their_user_or_all_together() {
        let tokens = SimpleTokens::new(TTL);
        let now = Instant::now();
        for (user, letters) in [("u", "a"), ("u", "b"), ("v", "c")] {
            tokens.assign(user, letters, 1, now).unwrap();
        }
        tokens.forget_user(b"u");
        assert_eq!(tokens.user("a.1", now), None);
        assert_eq!(tokens.user("b.1", now), None);
        assert_eq!(tokens.user("c.1", now).as_deref(), Some("v"));
        tokens.forget_all();
        assert_eq!(tokens.user("c.1", now), None);
    }

    #[test]
    fn a_full_table_refuses_until_some_have_ended() {
        let tokens = SimpleTokens::new(TTL);
        let now = Instant::now();
        for index in 0..SIMPLE_TOKENS_MAX as u64 {
            tokens.assign("u", "x", index, now).unwrap();
        }
        let full = tokens.assign("u", "y", 0, now);
        assert_eq!(full, Err(RpcError::TOO_MANY_REQUESTS));
        assert!(tokens.assign("u", "y", 0, now + TTL).is_ok());
        assert_eq!(tokens.lock().tokens.len(), 1);
    }

    #[test]
    fn letters_are_letters() {
        let random: Vec<u8> = (0..64).collect();
        assert_eq!(letters(&random).as_deref(), Some("abcdefghijklmnop"));
        assert_eq!(letters(&[63; 64]), None);
        let mut mixed = vec![52, 255, 180];
        mixed.extend([0x80 | 51; 16]);
        assert_eq!(letters(&mixed), Some("Z".repeat(16)));
        assert_eq!(letters(&[1; 15]), None);
    }
}
