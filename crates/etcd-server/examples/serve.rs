//! Runs the etcd server alone: `serve ADDRESS [DATA_DIR]`.

use etcd_server::{Options, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:2379".into())
        .parse()?;
    let data_dir = arguments.next().map(Into::into);
    let server = Server::open(Options {
        doors: vec![etcd_server::Door::plain(listen)],
        data_dir,
        ..Options::default()
    })?;
    println!("listening on {}", server.address());
    let (stop_now, stop) = tokio::sync::watch::channel(false);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let _ = tokio::signal::ctrl_c().await;
        });
        let _ = stop_now.send(true);
    });
    Ok(server.run(stop)?)
}
