//! The story, told to `megaplane store` and to a real etcd, plain and with certificates on both sides.
//!
//! `MEGAPLANE_STORE` names the binary (default: the workspace's debug build); `MEGAPLANE_ETCD` a real etcd, without
//! which the story is not told to one.

mod server;

use server::{Door, Server};

async fn tell(server: Option<Server>) {
    if let Some(server) = server {
        outsider_etcd_client::tell(&server.place()).await;
    }
}

#[tokio::test]
async fn own_listener_plain() {
    tell(Some(Server::store("own", Door::Plain))).await;
}

#[tokio::test]
async fn own_listener_tls() {
    tell(Some(Server::store("own", Door::Tls))).await;
}

#[tokio::test]
async fn hyper_listener_plain() {
    tell(Some(Server::store("hyper", Door::Plain))).await;
}

#[tokio::test]
async fn hyper_listener_tls() {
    tell(Some(Server::store("hyper", Door::Tls))).await;
}

#[tokio::test]
async fn real_etcd_plain() {
    tell(Server::etcd(Door::Plain)).await;
}

#[tokio::test]
async fn real_etcd_tls() {
    tell(Server::etcd(Door::Tls)).await;
}
