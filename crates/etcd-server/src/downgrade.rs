//! Going back to an older release, as a cluster of one member answers it.
//!
//! Whoever asks for it is about to start an older etcd and waits until the member says that it is ready. Nothing of
//! ours is written differently for that: only what is told changes, at once, and is kept. Where the data goes back
//! to an etcd is no business of this file.

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use pb::downgrade_request::DowngradeAction;
use tonic::Status;

use crate::api::Api;
use crate::limits::CLUSTER_VERSION;
use crate::node::Node;
use crate::refuse::{status, store_error};

/// The setting that holds the release that is gone back to.
const SETTING: &[u8] = b"downgrade";

const WRONG_FORMAT: &str = "etcdserver: wrong downgrade target version format";
const INVALID_TARGET: &str = "etcdserver: invalid downgrade target version";
const IN_PROCESS: &str = "etcdserver: cluster has a downgrade job in progress";
const UNKNOWN_METHOD: &str = "etcdserver: unknown method";

/// A release without its patch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Release {
    major: i64,
    minor: i64,
}

impl Node {
    /// Which release's rules hold, as `MAJOR.MINOR.0`.
    pub fn cluster_version(&self) -> String {
        downgrade_target(self).unwrap_or_else(|| CLUSTER_VERSION.into())
    }

    /// Whether an older release is being gone back to, and which.
    pub fn downgrade_info(&self) -> pb::DowngradeInfo {
        let target = downgrade_target(self);
        pb::DowngradeInfo {
            enabled: target.is_some(),
            target_version: target.unwrap_or_default(),
        }
    }
}

fn downgrade_target(node: &Node) -> Option<String> {
    let setting = node.store.setting(SETTING)?;
    Some(String::from_utf8_lossy(&setting).into_owned())
}

/// Answers a request.
pub async fn downgrade(
    api: &Api,
    request: &pb::DowngradeRequest,
) -> Result<pb::DowngradeResponse, Status> {
    let node = &api.node;
    let present = node.cluster_version();
    let is_enabled = downgrade_target(node).is_some();
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            allowed(&request.version, &present, is_enabled)?;
        }
        Ok(DowngradeAction::Enable) => {
            let target = allowed(&request.version, &present, is_enabled)?;
            set(node, Some(target.to_string().into())).await?;
        }
        // No harm in ending what is not under way: etcd says so in its log only.
        Ok(DowngradeAction::Cancel) if !is_enabled => {}
        Ok(DowngradeAction::Cancel) => set(node, None).await?,
        Err(_) => return Err(Status::unknown(UNKNOWN_METHOD)),
    }
    // As etcd has it, the release before anything changed, and after a cancellation the one that holds again.
    let told = match request.action() {
        DowngradeAction::Cancel => node.cluster_version(),
        DowngradeAction::Validate | DowngradeAction::Enable => present,
    };
    Ok(pb::DowngradeResponse {
        header: node.header_now(),
        version: release(&told).map_or(told, |release| release.short()),
    })
}

async fn set(node: &Node, value: Option<Bytes>) -> Result<(), Status> {
    let change = (Bytes::from_static(SETTING), value);
    node.store
        .set_settings([change])
        .map_err(|error| status(store_error(error)))?;
    node.logged().await
}

/// The release that is asked for, if it may be gone back to: only one step is allowed, and only one at a time.
fn allowed(asked: &str, present: &str, is_enabled: bool) -> Result<Release, Status> {
    let asked = release(asked)
        .or_else(|| release(&format!("{asked}.0")))
        .ok_or_else(|| Status::invalid_argument(WRONG_FORMAT))?;
    let before = release(present).map(|present| Release {
        minor: present.minor - 1,
        ..present
    });
    if before != Some(asked) {
        return Err(Status::invalid_argument(INVALID_TARGET));
    }
    if is_enabled {
        return Err(Status::failed_precondition(IN_PROCESS));
    }
    Ok(asked)
}

/// Reads `MAJOR.MINOR.PATCH`, with whatever hangs on behind `-` or `+`.
fn release(text: &str) -> Option<Release> {
    let mut parts = text.splitn(3, '.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    let patch = patch.split(['-', '+']).next()?;
    patch.parse::<i64>().ok()?;
    Some(Release {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

impl Release {
    fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str, is_enabled: bool) -> Result<String, String> {
        allowed(text, "3.6.0", is_enabled)
            .map(|release| release.to_string())
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn one_minor_release_back_is_allowed() {
        for text in ["3.5", "3.5.0", "3.5.21", "3.5.0-rc.1", "3.5.0+x"] {
            assert_eq!(ask(text, false), Ok("3.5.0".into()), "{text}");
        }
        for text in ["3.6", "3.4.0", "2.5.0", "3.7", "4.5.0"] {
            assert_eq!(ask(text, false), Err(INVALID_TARGET.into()), "{text}");
        }
        for text in [
            "",
            "3",
            "x",
            "3.x",
            "v3.5.0",
            "3.5.0.1",
            "3.5.",
            "99999999999999999999.1.0",
        ] {
            assert_eq!(ask(text, false), Err(WRONG_FORMAT.into()), "{text}");
        }
    }

    #[test]
    fn only_one_at_a_time() {
        assert_eq!(ask("3.5", true), Err(IN_PROCESS.into()));
        assert_eq!(ask("3.4", true), Err(INVALID_TARGET.into()));
    }
}
