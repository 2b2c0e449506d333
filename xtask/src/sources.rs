//! Opens the compressed archives of the published schema. Knows file formats, not their meaning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use xz2::read::XzDecoder;

/// Reads one `.xz` file whole.
pub(crate) fn read_xz(directory: &Path, name: &str) -> Result<Vec<u8>, String> {
    let path = directory.join(name);
    let file =
        File::open(&path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    XzDecoder::new(file)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot unpack {}: {error}", path.display()))?;
    Ok(bytes)
}

/// Reads every regular file of a `.tar.xz` archive: path → bytes.
pub(crate) fn read_tar_xz(
    directory: &Path,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let bytes = read_xz(directory, name)?;
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive
        .entries()
        .map_err(|error| format!("{name}: {error}"))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| format!("{name}: {error}"))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry
            .path()
            .map_err(|error| format!("{name}: {error}"))?
            .to_string_lossy()
            .into_owned();
        let mut content = Vec::new();
        entry
            .read_to_end(&mut content)
            .map_err(|error| format!("{name}: {path}: {error}"))?;
        files.insert(path, content);
    }
    Ok(files)
}
