//! Watch: the door to [`WatchStream`].

use etcd_wire::etcdserverpb as pb;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Api;
use crate::rpc::watch_server::Watch;
use crate::watch_stream::WatchStream;

#[tonic::async_trait]
impl Watch for Api {
    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<WatchStream>, Status> {
        let credentials = self.credentials(request.metadata());
        Ok(Response::new(WatchStream::new(
            self.node.clone(),
            credentials,
            request.into_inner(),
        )))
    }
}
