//! How far back a watch may begin: versions of the last minutes, and which of them the server still accepts.
//!
//! Knows one resource; asks as any client does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use client::{Client, ClientError, ListOptions, WatchOptions};
use schema::Resource;

/// The window that clients may count on (`docs/limits.md`).
pub const PROMISED: Duration = Duration::from_secs(75);
/// Marks are this far apart, and go back twice as far as is promised.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
const MARKS_MAX: usize = 150;
/// A watch that was not ended in this time has begun.
const REFUSAL_MAX: Duration = Duration::from_secs(2);

/// Versions as they were, the oldest first.
pub struct Marks {
    resource: &'static Resource,
    namespace: &'static str,
    marks: VecDeque<(Instant, String)>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Age of the version that was asked for: what is promised, or all there was.
    pub asked_seconds: f64,
    /// Age of the oldest version from which a watch still began; the marks go no further than twice the promise.
    pub held_seconds: f64,
    /// Whether the one asked for was refused.
    pub is_gone: bool,
}

impl Marks {
    pub fn new(resource: &'static Resource, namespace: &'static str) -> Marks {
        Marks {
            resource,
            namespace,
            marks: VecDeque::new(),
        }
    }

    /// Whether the next mark is due.
    pub fn is_due(&self) -> bool {
        self.marks
            .back()
            .is_none_or(|(at, _)| at.elapsed() >= MARK_INTERVAL)
    }

    /// Notes the version of now.
    pub async fn note(&mut self, client: &Client) -> Result<(), String> {
        let options = ListOptions {
            limit: 1,
            ..ListOptions::default()
        };
        let listed = client.list(self.resource, self.namespace, &options).await;
        let listed = listed.map_err(|error| format!("no version to go back to: {error}"))?;
        self.marks
            .push_back((Instant::now(), listed.resource_version));
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
        Ok(())
    }

    /// Asks for the version that is as old as promised, and finds the oldest that still serves.
    pub async fn ask(&self, client: &Client) -> Result<Held, String> {
        let now = Instant::now();
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let Some(promised) = self.marks.iter().position(|(at, _)| age(at) <= PROMISED) else {
            return Err("there is no version to go back to".into());
        };
        let is_gone = !self.begins(client, promised).await?;
        // Whoever is refused is older than all that are not.
        let (mut low, mut high) = (0, self.marks.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.begins(client, middle).await? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let seconds = |place: usize| {
            self.marks
                .get(place)
                .map_or(0.0, |(at, _)| age(at).as_secs_f64())
        };
        Ok(Held {
            asked_seconds: seconds(promised),
            held_seconds: seconds(low),
            is_gone,
        })
    }

    /// Whether a watch begins at the version of a mark.
    async fn begins(&self, client: &Client, place: usize) -> Result<bool, String> {
        let Some((_, version)) = self.marks.get(place) else {
            return Ok(false);
        };
        let options = WatchOptions {
            resource_version: version.clone(),
            ..WatchOptions::default()
        };
        let begun = async {
            let mut stream = client
                .watch(self.resource, self.namespace, &options)
                .await?;
            stream.next().await
        };
        match tokio::time::timeout(REFUSAL_MAX, begun).await {
            Ok(Err(error)) if ClientError::is_expired(&error) => Ok(false),
            Ok(Err(error)) => Err(format!("a watch did not begin: {error}")),
            // An event, or silence that goes on.
            Ok(Ok(_)) | Err(_) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::{Plane, runtime};
    use value::json;

    #[test]
    fn versions_that_the_server_knows_are_told_from_those_that_it_never_kept() {
        let plane = Plane::start().unwrap();
        let client = plane.client();
        let maps = crate::workload::resource("", "configmaps").unwrap();
        runtime().unwrap().block_on(async {
            let mut marks = Marks::new(maps, "default");
            assert!(marks.is_due() && marks.ask(&client).await.is_err());
            for name in ["a", "b"] {
                marks.note(&client).await.unwrap();
                let map = json!({"metadata": {"name": name, "namespace": "default"}});
                client.create(maps, "default", &map).await.unwrap();
            }
            assert!(!marks.is_due());
            let held = marks.ask(&client).await.unwrap();
            assert!(
                !held.is_gone && held.held_seconds >= held.asked_seconds,
                "{held:?}"
            );
        });
    }
}
