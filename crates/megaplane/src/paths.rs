//! Where things are kept.

use std::path::PathBuf;

use crate::cli::UpOptions;

/// The folders and files of one run.
#[derive(Debug, Clone)]
pub struct Places {
    /// The data directory; `None` when nothing is kept.
    pub data: Option<PathBuf>,
    /// Where the kubeconfig goes.
    pub kubeconfig: PathBuf,
}

impl Places {
    /// From the flags and the user's data folder (`$XDG_DATA_HOME`, or `~/.local/share`).
    pub fn of(options: &UpOptions) -> Result<Places, String> {
        let data = match (&options.data_dir, options.ephemeral) {
            (Some(directory), _) => Some(directory.clone()),
            (None, true) => None,
            (None, false) => Some(home()?),
        };
        let kubeconfig = match (&options.kubeconfig, &data) {
            (Some(path), _) => path.clone(),
            (None, Some(data)) => data.join("kubeconfig"),
            (None, None) => home()?.join("ephemeral.kubeconfig"),
        };
        Ok(Places { data, kubeconfig })
    }
}

/// `megaplane` in the user's data folder.
fn home() -> Result<PathBuf, String> {
    let folder = std::env::var_os("XDG_DATA_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    folder
        .map(|folder| folder.join("megaplane"))
        .ok_or_else(|| {
            "neither HOME nor XDG_DATA_HOME is set: name a place with --data-dir and --kubeconfig"
                .into()
        })
}

/// The kubeconfig that `megaplane up` writes by itself: that of a plane that keeps nothing, while one runs, else the
/// data directory's.
pub fn own_kubeconfig() -> Result<PathBuf, String> {
    let home = home()?;
    let ephemeral = home.join("ephemeral.kubeconfig");
    if ephemeral.is_file() {
        return Ok(ephemeral);
    }
    Ok(home.join("kubeconfig"))
}
