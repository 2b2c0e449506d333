//! A stand-in for `protoc` where a build script asks for one: `.proto` files in, a file of descriptors out.
//!
//! Takes the arguments as prost-build passes them, and a few spellings people use. Generates no code, knows no plugins
//! and no `--version`: what it does not know it refuses, so that nobody takes it for the whole compiler.

use std::path::PathBuf;

const USAGE: &str = "usage: protoc [--include_imports] [--include_source_info] \
                     (-o FILE | --descriptor_set_out=FILE) [-I DIR | --proto_path=DIR]... FILE.proto...";

/// What the arguments ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    with_imports: bool,
    with_source_info: bool,
    out: PathBuf,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// Compiles; paths are relative to the current folder, as protoc's are.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let order = read(arguments)?;
    let mut compiler =
        protox::Compiler::new(&order.folders).map_err(|error| format!("protoc: {error}"))?;
    compiler
        .include_imports(order.with_imports)
        .include_source_info(order.with_source_info)
        .open_files(&order.files)
        // The debug form of its errors has the place in the file, too.
        .map_err(|error| format!("protoc: {error:?}"))?;
    std::fs::write(&order.out, compiler.encode_file_descriptor_set())
        .map_err(|error| format!("protoc: {}: {error}", order.out.display()))
}

fn read(arguments: &[String]) -> Result<Order, String> {
    let mut order = Order::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = |short: &str, long: &str| -> Option<String> {
            if argument == short {
                return rest.next().cloned();
            }
            let glued = argument
                .strip_prefix(long)
                .or_else(|| argument.strip_prefix(short));
            glued.map(str::to_owned)
        };
        if argument == "--include_imports" {
            order.with_imports = true;
        } else if argument == "--include_source_info" {
            order.with_source_info = true;
        } else if let Some(out) = value("-o", "--descriptor_set_out=") {
            order.out = out.into();
        } else if let Some(folder) = value("-I", "--proto_path=") {
            order.folders.push(folder.into());
        } else if argument.starts_with('-') {
            return Err(format!(
                "protoc: {argument}: not known to this stand-in\n{USAGE}"
            ));
        } else {
            order.files.push(argument.into());
        }
    }
    if order.out.as_os_str().is_empty() || order.files.is_empty() {
        return Err(USAGE.to_owned());
    }
    if order.folders.is_empty() {
        order.folders.push(".".into());
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_prost_build_passes_is_understood() {
        let order = read(&words(
            "--include_imports --include_source_info -o out/set -I proto -I more proto/a.proto proto/b.proto",
        ));
        assert_eq!(
            order,
            Ok(Order {
                with_imports: true,
                with_source_info: true,
                out: "out/set".into(),
                folders: vec!["proto".into(), "more".into()],
                files: vec!["proto/a.proto".into(), "proto/b.proto".into()],
            })
        );
    }

    #[test]
    fn long_and_glued_spellings_are_the_same() {
        assert_eq!(
            read(&words("--descriptor_set_out=set --proto_path=p a.proto")),
            read(&words("-oset -Ip a.proto"))
        );
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let refused = read(&words("--go_out=. a.proto"));
        assert_eq!(
            refused,
            Err(format!(
                "protoc: --go_out=.: not known to this stand-in\n{USAGE}"
            ))
        );
        assert_eq!(read(&words("-o set")), Err(USAGE.to_owned()));
        assert_eq!(read(&words("a.proto")), Err(USAGE.to_owned()));
    }
}
