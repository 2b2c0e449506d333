//! Bad input of every kind: each gets a clear refusal, nothing is lost, nothing panics.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod command_line;
mod data_directory;
mod requests;

use support::{Plane, PlaneOptions, assert_has, run_stages};

#[test]
fn over_the_api() {
    let plane = Plane::start(PlaneOptions {
        nodes: 1,
        persistent: false,
    });
    // What must be untouched when all is over.
    plane
        .kubectl("create configmap witness -n default --from-literal=a=b")
        .ok();
    let witness = plane.kubectl("get cm witness -n default -o json").ok();
    run_stages(
        &plane,
        &[
            ("bodies: malformed", bodies::malformed),
            (
                "bodies: unknown fields",
                bodies::unknown_and_duplicate_fields,
            ),
            ("bodies: wrong types", bodies::wrong_types),
            ("bodies: too large", bodies::too_large),
            ("bodies: of another object", bodies::of_another_object),
            (
                "bodies: values that validation refuses",
                bodies::values_that_validation_refuses,
            ),
            ("requests: paths and methods", requests::paths_and_methods),
            ("requests: content types", requests::content_types),
            ("requests: options", requests::options),
            (
                "requests: stale versions and wrong preconditions",
                requests::stale_versions,
            ),
            ("requests: bad patches", requests::bad_patches),
            (
                "requests: without credentials",
                requests::without_credentials,
            ),
            ("requests: not even HTTP", requests::not_even_http),
        ],
    );
    assert_eq!(
        plane.kubectl("get cm witness -n default -o json").ok(),
        witness
    );
    assert_has(
        &plane.kubectl("get --raw /livez?verbose").ok(),
        &["livez check passed"],
    );
}

#[test]
fn on_the_command_line() {
    command_line::impossible_flags();
    command_line::a_port_in_use();
    command_line::places_that_cannot_be_written();
}

#[test]
fn in_the_data_directory() {
    data_directory::locked_by_another();
    data_directory::of_another_format_or_damaged();
}
