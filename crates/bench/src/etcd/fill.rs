//! Brings a server to the state a benchmark begins with: many calls, as fast as it takes them.

use prost::Message;

use crate::etcd::wire::{Done, Wire};
use crate::progress::Progress;

/// Calls under way on each of the connections.
const UNDER_WAY: usize = 128;
const CONNECTIONS: usize = 4;

/// Makes the calls numbered from 0 to `count` and tells what each answered.
pub async fn fill<M: Message>(
    port: u16,
    what: &'static str,
    path: &'static [u8],
    count: usize,
    call: impl Fn(usize) -> M,
    mut answered: impl FnMut(Done) -> Result<(), String>,
) -> Result<(), String> {
    let mut progress = Progress::new(what, count);
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        wires.push(Wire::connect(port).await?);
    }
    let (mut begun, mut ended) = (0, 0);
    let mut done = Vec::new();
    while ended < count {
        for wire in &mut wires {
            while begun < count && wire.under_way() < UNDER_WAY {
                wire.begin(begun, path, &call(begun))?;
                begun += 1;
            }
            if wire.under_way() > 0 {
                wire.answered(&mut done).await?;
            }
        }
        ended += done.len();
        for done in done.drain(..) {
            answered(done)?;
        }
        progress.set(ended);
    }
    Ok(())
}
