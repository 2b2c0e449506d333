//! The fleet's configuration file: what nodes look like, and their intervals.
//!
//! ```yaml
//! zones: [zone-a, zone-b]
//! racksPerZone: 20
//! shapes:
//! - {name: general, weight: 9}
//! - {name: gpu, weight: 1, cpuCores: 64, resources: {nvidia.com/gpu: 8}, taints: [{key: gpu, effect: NoSchedule}]}
//! ```
//!
//! Everything may be left out. Unknown fields are errors: a misspelt one would silently do nothing. Does not know where
//! the text comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::FleetConfig;
use crate::layout::{IMAGES_MAX, Image, Layout, NodeShape, Taint};

/// Largest file of the fleet's that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Longest interval or delay.
const TIME_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Shortest interval between two heartbeats: a node more often than this is a flood.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Largest amount of a resource.
const AMOUNT_MAX: u32 = 1_000_000;
/// Pods a node may take: what a node's label and the scheduler's tables are made for.
const PODS_A_NODE_MAX: u32 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    lease_interval: Option<String>,
    lease_duration_seconds: Option<i64>,
    status_interval: Option<String>,
    pod_start_delay: Option<String>,
    pod_stop_delay: Option<String>,
    job_run_time: Option<String>,
    region: Option<String>,
    zones: Option<Vec<String>>,
    racks_per_zone: Option<u32>,
    shapes: Option<Vec<FileShape>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileShape {
    name: String,
    weight: Option<u32>,
    cpu_cores: Option<u32>,
    memory_gib: Option<u32>,
    disk_gib: Option<u32>,
    pods: Option<u32>,
    reserved_cpu_cores: Option<u32>,
    reserved_memory_gib: Option<u32>,
    architecture: Option<String>,
    #[serde(default)]
    resources: BTreeMap<String, u64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    taints: Vec<FileTaint>,
    images: Option<Vec<FileImage>>,
    #[serde(default)]
    zones: Vec<String>,
    slowness: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTaint {
    key: String,
    #[serde(default)]
    value: String,
    effect: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileImage {
    names: Vec<String>,
    size_bytes: u64,
}

/// A time as Go writes it, between two bounds.
pub(crate) fn time(
    field: &str,
    text: &str,
    min: Duration,
    max: Duration,
) -> Result<Duration, String> {
    let nanos = meta::time::parse_go_duration(text)
        .map_err(|error| format!("{field}: {text:?}: {error}"))?;
    let time = u64::try_from(nanos).map(Duration::from_nanos).ok();
    time.filter(|time| (min..=max).contains(time))
        .ok_or_else(|| {
            let text = |time: Duration| {
                meta::time::format_go_duration(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
            };
            format!("{field}: it must be from {} to {}", text(min), text(max))
        })
}

/// A factor from a tenth to a thousand, in tenths.
pub(crate) fn tenths(field: &str, factor: f64) -> Result<u16, String> {
    if !(0.1..=1_000.0).contains(&factor) {
        return Err(format!("{field}: it must be from 0.1 to 1000"));
    }
    // In range by the check above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok((factor * 10.0).round() as u16)
}

impl FleetConfig {
    /// A fleet of `nodes` as a file's text describes it; what it leaves out is as in [`FleetConfig::new`].
    ///
    /// # Errors
    /// Text that is not YAML, unknown fields, and values out of their bounds, in words.
    pub fn parse(nodes: usize, text: &str) -> Result<FleetConfig, String> {
        let file: Option<File> = if text.trim().is_empty() {
            None
        } else {
            serde_saphyr::from_str(text).map_err(|error| error.to_string())?
        };
        let mut config = FleetConfig::new(nodes);
        let Some(file) = file else {
            return Ok(config);
        };
        for (field, text, min, to) in [
            (
                "leaseInterval",
                &file.lease_interval,
                INTERVAL_MIN,
                &mut config.lease_interval,
            ),
            (
                "statusInterval",
                &file.status_interval,
                INTERVAL_MIN,
                &mut config.status_interval,
            ),
            (
                "podStartDelay",
                &file.pod_start_delay,
                Duration::ZERO,
                &mut config.pod_start_delay,
            ),
            (
                "podStopDelay",
                &file.pod_stop_delay,
                Duration::ZERO,
                &mut config.pod_stop_delay,
            ),
            (
                "jobRunTime",
                &file.job_run_time,
                Duration::ZERO,
                &mut config.job_run_time,
            ),
        ] {
            if let Some(text) = text {
                *to = time(field, text, min, TIME_MAX)?;
            }
        }
        if let Some(seconds) = file.lease_duration_seconds {
            if !(1..=86_400).contains(&seconds) {
                return Err("leaseDurationSeconds: it must be from 1 to 86400".into());
            }
            config.lease_duration_seconds = seconds;
        }
        let default = Layout::default();
        let shapes = match file.shapes {
            None => default.shapes().to_vec(),
            Some(shapes) => {
                let shapes: Result<Vec<NodeShape>, String> =
                    shapes.into_iter().map(FileShape::read).collect();
                shapes?
            }
        };
        let mut names: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("shapes: {:?} is there twice", pair[0]));
        }
        let region = file.region.unwrap_or_else(|| default.region.clone());
        let zones = file.zones.unwrap_or_else(|| default.zones().to_vec());
        for name in zones.iter().chain([&region]) {
            is_label_value("zones and region", name)?;
        }
        let racks = file.racks_per_zone.unwrap_or(default.racks);
        config.layout = Layout::new(region, zones, racks, shapes)?;
        Ok(config)
    }
}

impl FileShape {
    fn read(self) -> Result<NodeShape, String> {
        let default = NodeShape::default();
        let name = self.name;
        is_label_value("the name of a shape", &name)?;
        let whose = |what: String| format!("shape {name:?}: {what}");
        let amount = |field: &str, given: Option<u32>, default: u32, min: u32, max: u32| {
            let value = given.unwrap_or(default);
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(whose(format!("{field}: it must be from {min} to {max}")))
            }
        };
        for taint in &self.taints {
            if !matches!(
                taint.effect.as_str(),
                "NoSchedule" | "PreferNoSchedule" | "NoExecute"
            ) {
                return Err(whose(format!(
                    "taint {:?}: effect {:?} is none of NoSchedule, PreferNoSchedule, NoExecute",
                    taint.key, taint.effect
                )));
            }
        }
        if self
            .images
            .as_ref()
            .is_some_and(|images| images.len() > IMAGES_MAX)
        {
            return Err(whose(format!(
                "images: at most {IMAGES_MAX}, as of a kubelet"
            )));
        }
        for (key, value) in &self.labels {
            is_label_value(&format!("label {key:?}"), value).map_err(&whose)?;
        }
        let taint = |taint: FileTaint| Taint {
            key: taint.key,
            value: taint.value,
            effect: taint.effect,
        };
        let image = |image: FileImage| Image {
            names: image.names,
            bytes: image.size_bytes,
        };
        Ok(NodeShape {
            weight: self.weight.unwrap_or(default.weight),
            cpu_cores: amount("cpuCores", self.cpu_cores, default.cpu_cores, 1, AMOUNT_MAX)?,
            memory_gib: amount(
                "memoryGib",
                self.memory_gib,
                default.memory_gib,
                1,
                AMOUNT_MAX,
            )?,
            disk_gib: amount("diskGib", self.disk_gib, default.disk_gib, 0, AMOUNT_MAX)?,
            pods: amount("pods", self.pods, default.pods, 0, PODS_A_NODE_MAX)?,
            reserved_cpu_cores: amount(
                "reservedCpuCores",
                self.reserved_cpu_cores,
                0,
                0,
                AMOUNT_MAX,
            )?,
            reserved_memory_gib: amount(
                "reservedMemoryGib",
                self.reserved_memory_gib,
                0,
                0,
                AMOUNT_MAX,
            )?,
            architecture: self.architecture.unwrap_or(default.architecture),
            resources: self.resources,
            labels: self.labels,
            annotations: self.annotations,
            taints: self.taints.into_iter().map(taint).collect(),
            images: self.images.map_or(default.images, |images| {
                images.into_iter().map(image).collect()
            }),
            zones: self.zones,
            slowness_tenths: match self.slowness {
                Some(factor) => tenths("slowness", factor).map_err(&whose)?,
                None => default.slowness_tenths,
            },
            name,
        })
    }
}

/// What becomes a label's value must be one, or every registration would be refused.
fn is_label_value(what: &str, value: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = [value.chars().next(), value.chars().last()];
    let is_good = value.len() <= 63
        && value.chars().all(inner)
        && ends
            .into_iter()
            .flatten()
            .all(|c| c.is_ascii_alphanumeric());
    if is_good {
        Ok(())
    } else {
        Err(format!("{what}: {value:?} is no label value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_without_a_file() {
        for text in ["", "{}", "# nothing\n{}\n"] {
            let config = FleetConfig::parse(7, text).unwrap();
            assert_eq!(config.nodes, 7);
            assert_eq!(config.layout, Layout::default());
            assert_eq!(config.lease_interval, Duration::from_secs(10));
        }
    }

    #[test]
    fn shapes_zones_and_intervals_are_read() {
        let config = FleetConfig::parse(
            10,
            "leaseInterval: 2s\nstatusInterval: 1m\nzones: [a, b]\nracksPerZone: 4\nshapes:\n\
             - {name: general, weight: 4}\n\
             - {name: gpu, cpuCores: 64, memoryGib: 512, reservedCpuCores: 1, resources: {nvidia.com/gpu: 8},\n   \
                taints: [{key: gpu, effect: NoSchedule}], images: [{names: ['x:1'], sizeBytes: 5}], zones: [b],\n   \
                labels: {pool: gpu}, slowness: 2.5}\n",
        )
        .unwrap();
        assert_eq!(config.lease_interval, Duration::from_secs(2));
        assert_eq!(config.status_interval, Duration::from_secs(60));
        let gpus: Vec<usize> = (0..10)
            .filter(|index| config.layout.place(*index).shape.name == "gpu")
            .collect();
        assert_eq!(gpus.len(), 2);
        let place = config.layout.place(gpus[0]);
        assert_eq!(place.zone, "b");
        assert_eq!(place.shape.slowness_tenths, 25);
        assert_eq!(place.shape.images[0].bytes, 5);
        assert_eq!(place.shape.pods, 110);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("nodes: 5", "unknown field"),
            ("leaseInterval: 10", "leaseInterval: \"10\": "),
            (
                "leaseInterval: 1ms",
                "leaseInterval: it must be from 100ms to 720h0m0s",
            ),
            ("leaseInterval: soon", "leaseInterval: \"soon\""),
            ("shapes: []", "shapes: from 1 to 200 are needed"),
            (
                "shapes: [{name: a}, {name: a}]",
                "shapes: \"a\" is there twice",
            ),
            (
                "shapes: [{name: a, pods: 99999}]",
                "shape \"a\": pods: it must be from 0 to 10000",
            ),
            (
                "shapes: [{name: 'a b'}]",
                "the name of a shape: \"a b\" is no label value",
            ),
            (
                "shapes: [{name: a, taints: [{key: k, effect: Never}]}]",
                "shape \"a\": taint \"k\": effect \"Never\" is none of",
            ),
            (
                "shapes: [{name: a, slowness: 0}]",
                "slowness: it must be from 0.1 to 1000",
            ),
            (
                "leaseDurationSeconds: 0",
                "leaseDurationSeconds: it must be from 1 to 86400",
            ),
        ] {
            let error = FleetConfig::parse(1, text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
