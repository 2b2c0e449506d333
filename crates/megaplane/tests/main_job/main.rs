//! The main job, by a real kubectl: a plane with living nodes, and everything that people do with it all day.
//!
//! One plane, many short stories side by side, each in a namespace of its own. Sizes come from the environment:
//! `MEGAPLANE_TEST_NODES` (200), `MEGAPLANE_TEST_REPLICAS` (500, or as many as nodes);
//! `MEGAPLANE_TEST_STAGES=part,of,names` runs a few stories only.

#[path = "../support/mod.rs"]
mod support;

mod changing;
mod deleting;
mod formats;
mod manifests;
mod nodes;
mod reading;
mod rollouts;
mod scale;
mod surface;
mod volumes;
mod waiting;

use std::time::Duration;

use support::{Plane, PlaneOptions, eventually_within, number_from_env, run_stages};

#[test]
fn main_job() {
    let nodes = number_from_env("MEGAPLANE_TEST_NODES", 200);
    let plane = Plane::start(PlaneOptions {
        nodes,
        persistent: false,
    });
    all_nodes_become_ready(&plane);
    run_stages(
        &plane,
        &[
            // The longest first, so that the lanes end together.
            (
                "scale: many replicas come and go",
                scale::many_replicas_come_and_go,
            ),
            ("nodes: taints and drain", nodes::taints_and_drain_move_pods),
            (
                "rollouts: a new image, and back",
                rollouts::a_new_image_and_back,
            ),
            (
                "rollouts: pause, scale, restart",
                rollouts::pause_scale_restart,
            ),
            (
                "volumes: a StatefulSet on disks of nodes",
                volumes::a_stateful_set_on_disks_of_nodes,
            ),
            (
                "volumes: bound at once, and made",
                volumes::claims_bound_at_once_and_volumes_made,
            ),
            ("manifests: the shop", manifests::the_shop),
            ("manifests: the platform", manifests::the_platform),
            (
                "changing: label, annotate, edit, patch",
                changing::label_annotate_edit_patch,
            ),
            (
                "changing: replace and generate names",
                changing::replace_and_generate_names,
            ),
            ("changing: dry run and diff", changing::dry_run_and_diff),
            (
                "changing: apply merges three ways",
                changing::apply_merges_three_ways,
            ),
            (
                "deleting: three kinds of propagation",
                deleting::three_kinds_of_propagation,
            ),
            ("deleting: finalizers hold", deleting::finalizers_hold),
            (
                "deleting: a namespace takes all with it",
                deleting::a_namespace_takes_all_with_it,
            ),
            (
                "deleting: a terminating namespace takes nothing new",
                deleting::a_terminating_namespace_takes_nothing_new,
            ),
            ("reading: selectors", reading::selectors),
            ("reading: lists in pieces", reading::lists_in_pieces),
            ("reading: watch", reading::watch_tells_every_change),
            (
                "reading: watches with a list in front",
                reading::a_watch_can_begin_with_a_list,
            ),
            ("reading: tables", reading::tables_have_upstreams_columns),
            (
                "waiting: conditions, values, deletion",
                waiting::conditions_values_and_deletion,
            ),
            (
                "formats: protobuf, JSON and YAML agree",
                formats::protobuf_json_and_yaml_agree,
            ),
            ("surface: discovery", surface::discovery),
            ("surface: explain", surface::explain),
            (
                "surface: health, metrics, version",
                surface::health_metrics_version,
            ),
            (
                "surface: shortcuts of kubectl",
                surface::shortcuts_of_kubectl,
            ),
            ("nodes: cordon", nodes::a_cordoned_node_gets_no_pods),
            ("nodes: describe and leases", nodes::describe_and_leases),
        ],
    );
    // Nothing of the above may have cost a node.
    all_nodes_become_ready(&plane);
}

/// `kubectl get nodes` shows all of them, Ready.
fn all_nodes_become_ready(plane: &Plane) {
    let patience = Duration::from_secs(60 + plane.nodes() as u64 / 50);
    eventually_within(patience, "all nodes are Ready", || {
        let table = plane.kubectl("get nodes --no-headers").ok();
        let ready = table
            .lines()
            .filter(|row| row.split_whitespace().nth(1) == Some("Ready"))
            .count();
        if (ready, table.lines().count()) == (plane.nodes(), plane.nodes()) {
            return Ok(());
        }
        Err(format!(
            "{ready} of {} rows, wanted {}",
            table.lines().count(),
            plane.nodes()
        ))
    });
}
