//! The files that describe a fleet, as `megaplane up` and `megaplane fleet` take them; and the one that may change while
//! the fleet runs.
//!
//! Reads files; what is in them is the fleet's business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use fleet::{FaultScript, FleetConfig, Layout, Stages};
use tokio::sync::watch;

/// How often it is looked whether the fault script was written anew.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Flags that describe a fleet.
#[derive(Debug, Clone, Default, Args)]
pub struct FleetFiles {
    /// What the simulated nodes look like (YAML): shapes with weights, zones, racks, labels, taints, images, intervals
    #[arg(long, value_name = "FILE")]
    pub fleet_config: Option<PathBuf>,
    /// What becomes of pods and nodes (YAML): kwok.x-k8s.io/v1alpha1 Stages, in place of the built-in life of pods
    #[arg(long, value_name = "FILE")]
    pub fleet_stages: Option<PathBuf>,
    /// Faults at their times (YAML): zones that fall silent, slow nodes, wrong clocks, restarts, storms. Write the file
    /// anew while the fleet runs, and the new script begins
    #[arg(long, value_name = "FILE")]
    pub fleet_faults: Option<PathBuf>,
    /// Let each node hold the 18 watches of a real one, instead of one watch for all
    #[arg(long)]
    pub kubelet_like: bool,
}

/// A fault script's file, and where its scripts go.
pub struct FaultFile {
    path: PathBuf,
    layout: Layout,
    scripts: watch::Sender<Arc<FaultScript>>,
    seen: Option<(SystemTime, u64)>,
}

impl FleetFiles {
    /// Whether any of them is given.
    pub fn any(&self) -> bool {
        self.fleet_config.is_some()
            || self.fleet_stages.is_some()
            || self.fleet_faults.is_some()
            || self.kubelet_like
    }

    /// Reads them all. Errors name the file.
    pub fn read(&self, nodes: usize) -> Result<(FleetConfig, Option<FaultFile>), String> {
        let mut config = match &self.fleet_config {
            Some(path) => {
                FleetConfig::parse(nodes, &read(path)?).map_err(|error| of(path, &error))?
            }
            None => FleetConfig::new(nodes),
        };
        config.kubelet_like = self.kubelet_like;
        if let Some(path) = &self.fleet_stages {
            config.stages = Stages::parse(&read(path)?).map_err(|error| of(path, &error))?;
        }
        let Some(path) = &self.fleet_faults else {
            return Ok((config, None));
        };
        let seen = looks(path);
        let script =
            FaultScript::parse(&read(path)?, &config.layout).map_err(|error| of(path, &error))?;
        let (scripts, faults) = watch::channel(Arc::new(script));
        config.faults = Some(faults);
        let file = FaultFile {
            path: path.clone(),
            layout: config.layout.clone(),
            scripts,
            seen,
        };
        Ok((config, Some(file)))
    }
}

impl FaultFile {
    /// Sends each new content of the file, for ever. One that cannot be used is told, and the old script goes on.
    pub async fn follow(mut self) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    fn look(&mut self) {
        let seen = looks(&self.path);
        if seen.is_none() || seen == self.seen {
            return;
        }
        self.seen = seen;
        let script = read(&self.path).and_then(|text| {
            FaultScript::parse(&text, &self.layout).map_err(|error| of(&self.path, &error))
        });
        match script {
            Ok(script) => {
                self.scripts.send_replace(Arc::new(script));
            }
            Err(error) => tracing::error!(error, "the new fault script is not used"),
        }
    }
}

/// When a file was written last, and how long it is.
fn looks(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| of(path, &error))?
        .len();
    if length > fleet::FILE_BYTES_MAX {
        return Err(of(path, &"the file is larger than 4 MiB"));
    }
    std::fs::read_to_string(path).map_err(|error| of(path, &error))
}

fn of(path: &Path, what: &dyn std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_is_written_anew_is_sent_and_a_bad_one_is_not() {
        let path =
            std::env::temp_dir().join(format!("megaplane-faults-{}.yaml", std::process::id()));
        std::fs::write(&path, "steps: [{at: 1h, do: storm}]").unwrap();
        let files = FleetFiles {
            fleet_faults: Some(path.clone()),
            ..FleetFiles::default()
        };
        let (config, file) = files.read(3).unwrap();
        let mut file = file.unwrap();
        let faults = config.faults.unwrap();
        file.look();
        assert_eq!(faults.borrow().len(), 1);
        std::fs::write(&path, "steps: [{at: 1h, do: storm}, {at: 2h, do: storm}]").unwrap();
        file.look();
        assert_eq!(faults.borrow().len(), 2);
        std::fs::write(&path, "steps: [{at: 1h, do: fly}]").unwrap();
        file.look();
        assert_eq!(faults.borrow().len(), 2);
        let error = files.read(3).err().unwrap();
        assert!(
            error.starts_with(&format!("{}: step 1: do: \"fly\"", path.display())),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
    }
}
