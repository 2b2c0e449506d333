//! The API's own description, as the JSON gateway and reflection read it. Knows no call and no message by name.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// All services and messages.
pub static API: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(etcd_wire::DESCRIPTORS).expect("the API's own description can be read")
});
