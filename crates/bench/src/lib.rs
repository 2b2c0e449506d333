//! Benchmarks of Megaplane, by name: `megaplane bench NAME`.

/// What a benchmark is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which one.
    pub name: String,
    /// Nodes.
    pub nodes: usize,
    /// Pods.
    pub pods: usize,
    /// Operations.
    pub operations: usize,
    /// Without API and binding.
    pub core_only: bool,
    /// Print JSON.
    pub json: bool,
}

/// Runs one benchmark.
pub fn run(options: &Options) -> Result<(), String> {
    Err(format!("no benchmark {}", options.name))
}
