//! controllers.
#![allow(missing_docs)]
use std::sync::Arc;
use tokio::sync::watch;
#[derive(Default)] pub struct ControllersConfig {}
#[derive(Default)] pub struct ControllersProgress {}
pub async fn run(_c: client::Client, _k: ControllersConfig, _p: Arc<ControllersProgress>, mut stop: watch::Receiver<bool>) { let _ = stop.wait_for(|s| *s).await; }
