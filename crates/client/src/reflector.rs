//! Reflector: list, then watch, for ever.
//!
//! ```text
//!   Listing ─(last page)─► Watching ─(ended, timed out)─► Watching at the last version
//!      ▲                      │
//!      └──(410, back-off)─────┘
//! ```
//!
//! The reflector holds no objects; where it is told what to ignore, a print of each (`prints.rs`, 16 bytes). Its channel is bounded, so that a slow consumer leaves the events where they
//! are kept already, in the API server's history.

use std::sync::Arc;
use std::time::Duration;

use meta::Value;
use schema::Resource;
use tokio::sync::mpsc;

use crate::heard::{Event, Hearing};
use crate::prints::Prints;
use crate::{Client, ClientError, ListOptions, Only, WatchEvent, WatchOptions};

/// Changes that may wait between a reflector and its consumer.
const CHANGES_WAITING_MAX: usize = 1024;
/// Objects a page of the initial list.
const PAGE_OBJECTS: usize = 500;
/// Shortest and longest pause after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Pause before a resource that is not served is asked for again.
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(300);

/// A watch that the server ends sooner than this is not opened again at once.
const WATCH_LIFE_MIN: Duration = Duration::from_secs(1);

/// What a reflector tells.
#[derive(Debug)]
pub enum Change<T> {
    /// A list begins: what is not named again until `Synced` is gone.
    Restart,
    /// The object under this key is now this.
    Apply(String, T),
    /// Of the object under this key nothing changed but what is ignored ([`Reflector::ignoring`]).
    Same(String),
    /// The object under this key is gone.
    Delete(String),
    /// The list is complete; from here on the changes follow as they happen.
    Synced,
}

impl<T> Change<T> {
    /// The same change, with what `keep` makes of the object under its key.
    pub fn map<U>(self, keep: impl FnOnce(&str, T) -> U) -> Change<U> {
        match self {
            Change::Apply(key, object) => {
                let kept = keep(&key, object);
                Change::Apply(key, kept)
            }
            Change::Same(key) => Change::Same(key),
            Change::Delete(key) => Change::Delete(key),
            Change::Restart => Change::Restart,
            Change::Synced => Change::Synced,
        }
    }
}

/// `namespace/name`, or `name` for cluster-wide kinds.
#[must_use]
pub fn object_key(object: &Value) -> String {
    let namespace = meta::object::namespace(object);
    let name = meta::object::name(object);
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// Follows one resource and tells the changes of a projection of its objects.
pub struct Reflector {
    client: Client,
    resource: &'static Resource,
    namespace: String,
    label_selector: String,
    field_selector: String,
    optional: bool,
    pace: Duration,
    ignored: &'static [&'static str],
    only: Option<Arc<Only>>,
}

impl Reflector {
    /// A reflector of all objects of `resource`.
    #[must_use]
    pub fn new(client: Client, resource: &'static Resource) -> Reflector {
        Reflector {
            client,
            resource,
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
            optional: false,
            pace: Duration::ZERO,
            ignored: &[],
            only: None,
        }
    }

    /// Looks at the watch only once in `pace`, and then at all that happened: for a resource that changes so often that
    /// being woken for each change is what costs. Changes are told so much later.
    #[must_use]
    pub fn paced(mut self, pace: Duration) -> Reflector {
        self.pace = pace;
        self
    }

    /// Changes of these fields alone are told as [`Change::Same`], without a look at the object: for heartbeats. Paths of
    /// JSON names; lists on the way are gone through.
    #[must_use]
    pub fn ignoring(mut self, ignored: &'static [&'static str]) -> Reflector {
        self.ignored = ignored;
        self
    }

    /// Decodes these fields alone, beside identity and version: a projection sees nothing else. Paths of JSON names;
    /// lists on the way are gone through. A kind without such a field is decoded whole.
    #[must_use]
    pub fn only(mut self, fields: &[&str]) -> Reflector {
        self.only = Only::new(self.resource, fields).map(Arc::new);
        debug_assert!(self.only.is_some(), "{}: {fields:?}", self.resource.kind);
        self
    }

    /// Takes a resource that the server does not know for one of which there is nothing. It is asked for again
    /// from time to time.
    #[must_use]
    pub fn optional(mut self) -> Reflector {
        self.optional = true;
        self
    }

    /// Restricts it to what matches a field selector.
    #[must_use]
    pub fn with_field_selector(mut self, selector: &str) -> Reflector {
        selector.clone_into(&mut self.field_selector);
        self
    }

    /// Restricts it to what matches a label selector.
    #[must_use]
    pub fn with_label_selector(mut self, selector: &str) -> Reflector {
        selector.clone_into(&mut self.label_selector);
        self
    }

    /// Starts it on the current runtime. `project` keeps of each object what the consumer needs. It ends when the
    /// receiver is dropped.
    #[must_use]
    pub fn spawn<T: Send + 'static>(
        self,
        project: impl Fn(Value) -> T + Send + Sync + 'static,
    ) -> mpsc::Receiver<Change<T>> {
        self.start(None::<fn(&[u8], &str) -> Option<(String, T)>>, project)
    }

    /// The same; what is new or changed is first shown to `read` as the bytes of its message, which may lack its
    /// version, and that version; it gives its key and what to keep of it, or nothing: then it is decoded for `project`.
    /// Both must keep the same.
    #[must_use]
    pub fn spawn_reading<T: Send + 'static>(
        self,
        read: impl FnMut(&[u8], &str) -> Option<(String, T)> + Send + 'static,
        project: impl Fn(Value) -> T + Send + Sync + 'static,
    ) -> mpsc::Receiver<Change<T>> {
        self.start(Some(read), project)
    }

    fn start<T: Send + 'static>(
        self,
        read: Option<impl FnMut(&[u8], &str) -> Option<(String, T)> + Send + 'static>,
        project: impl Fn(Value) -> T + Send + Sync + 'static,
    ) -> mpsc::Receiver<Change<T>> {
        let (sender, receiver) = mpsc::channel(CHANGES_WAITING_MAX);
        tokio::spawn(async move {
            // An error here means only that nobody listens any more.
            let _ = self.run(read, project, sender).await;
        });
        receiver
    }

    async fn run<T>(
        self,
        mut read: Option<impl FnMut(&[u8], &str) -> Option<(String, T)>>,
        project: impl Fn(Value) -> T,
        sender: mpsc::Sender<Change<T>>,
    ) -> Result<(), mpsc::error::SendError<Change<T>>> {
        let mut backoff = BACKOFF_MIN;
        let mut refused = false;
        loop {
            let version = match self.list(&project, &sender).await? {
                Ok(version) => version,
                Err(error) if self.optional && error.code() == 404 => {
                    tracing::info!(resource = self.resource.resource, "not served here");
                    sender.send(Change::Synced).await?;
                    tokio::time::sleep(NOT_SERVED_PAUSE).await;
                    continue;
                }
                Err(error) => {
                    // What is not allowed does not come by waiting: somebody has to grant it.
                    if matches!(error.code(), 401 | 403) && !refused {
                        refused = true;
                        tracing::warn!(resource = self.resource.resource, %error, "may not be listed, trying again");
                    } else {
                        tracing::debug!(resource = self.resource.resource, %error, "list failed, trying again");
                    }
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    continue;
                }
            };
            backoff = BACKOFF_MIN;
            self.follow(version, &mut read, &project, &sender).await?;
        }
    }

    /// Lists page by page. The outer result is the consumer's, the inner one the server's.
    async fn list<T>(
        &self,
        project: &impl Fn(Value) -> T,
        sender: &mpsc::Sender<Change<T>>,
    ) -> Result<Result<String, ClientError>, mpsc::error::SendError<Change<T>>> {
        sender.send(Change::Restart).await?;
        let mut options = ListOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            limit: PAGE_OBJECTS,
            only: self.only.clone(),
            ..ListOptions::default()
        };
        loop {
            let page = match self
                .client
                .list(self.resource, &self.namespace, &options)
                .await
            {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            for object in page.items {
                sender
                    .send(Change::Apply(object_key(&object), project(object)))
                    .await?;
            }
            if page.continue_token.is_empty() {
                sender.send(Change::Synced).await?;
                return Ok(Ok(page.resource_version));
            }
            options.continue_token = page.continue_token;
        }
    }

    /// Watches until the version is no longer kept.
    async fn follow<T>(
        &self,
        mut version: String,
        read: &mut Option<impl FnMut(&[u8], &str) -> Option<(String, T)>>,
        project: &impl Fn(Value) -> T,
        sender: &mpsc::Sender<Change<T>>,
    ) -> Result<(), mpsc::error::SendError<Change<T>>> {
        let mut backoff = BACKOFF_MIN;
        let Some(hearing) = Hearing::of(self.resource) else {
            // Every kind that is served has names and versions.
            tracing::error!(
                resource = self.resource.resource,
                "objects without metadata cannot be followed"
            );
            return std::future::pending().await;
        };
        loop {
            let options = WatchOptions {
                label_selector: self.label_selector.clone(),
                field_selector: self.field_selector.clone(),
                resource_version: version.clone(),
            };
            let mut failure = None;
            // Anew with each watch: between two of them nobody looks.
            let mut prints = (!self.ignored.is_empty())
                .then(|| Prints::new(self.resource, self.ignored))
                .flatten();
            let begun = tokio::time::Instant::now();
            match self
                .client
                .watch(self.resource, &self.namespace, &options)
                .await
            {
                Err(error) => failure = Some(error),
                Ok(stream) => {
                    let mut stream = stream.told();
                    loop {
                        let told = match stream.at_hand() {
                            Some(told) => Ok(Some(told)),
                            None => tokio::select! {
                                told = stream.next_paced(self.pace) => told,
                                () = sender.closed() => return Ok(()),
                            },
                        };
                        let told = match told {
                            Ok(Some(told)) => told,
                            Ok(None) => break,
                            Err(error) => {
                                failure = Some(error);
                                break;
                            }
                        };
                        if let Some(event) = hearing.event(&told)
                            && let Some(change) =
                                at_a_glance(&hearing, &event, prints.as_mut(), read)
                        {
                            backoff = BACKOFF_MIN;
                            event.version.as_ref().clone_into(&mut version);
                            sender.send(change).await?;
                            continue;
                        }
                        let (object, deleted) = match hearing.decode(&told, self.only.as_deref()) {
                            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                                (object, false)
                            }
                            Ok(WatchEvent::Deleted(object)) => (object, true),
                            Ok(WatchEvent::Bookmark(at)) => {
                                version = at;
                                continue;
                            }
                            Err(error) => {
                                failure = Some(error);
                                break;
                            }
                        };
                        backoff = BACKOFF_MIN;
                        meta::object::resource_version(&object).clone_into(&mut version);
                        let key = object_key(&object);
                        let change = if deleted {
                            Change::Delete(key)
                        } else {
                            Change::Apply(key, project(object))
                        };
                        sender.send(change).await?;
                    }
                }
            }
            if let Some(error) = failure {
                if error.is_expired() {
                    return Ok(());
                }
                tracing::debug!(resource = self.resource.resource, %error, "watch failed, trying again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            } else if begun.elapsed() < WATCH_LIFE_MIN {
                // A server that is about to end closes watches as they come.
                tokio::time::sleep(BACKOFF_MIN).await;
            }
        }
    }
}

/// What an event says as far as it can be told without decoding its object.
fn at_a_glance<T>(
    hearing: &Hearing,
    event: &Event<'_>,
    prints: Option<&mut Prints>,
    read: &mut Option<impl FnMut(&[u8], &str) -> Option<(String, T)>>,
) -> Option<Change<T>> {
    if event.is_gone() || prints.is_some() {
        let key = hearing.key(event)?;
        let is_same = prints.is_some_and(|prints| prints.is_same(event, &key));
        if event.is_gone() {
            return Some(Change::Delete(key));
        }
        if is_same {
            return Some(Change::Same(key));
        }
    }
    let (key, object) = read.as_mut()?(event.message, &event.version)?;
    Some(Change::Apply(key, object))
}
