//! Whose formulas: where releases of kube-scheduler score or filter differently.
//!
//! ```text
//!                          1.20                          up to 1.35              1.36
//!  balance                 1 - |cpu - memory|, 0 when    1 - deviation           with the pod against
//!                          either is full; silent                                without it
//!                          containers count something
//!  allocation              what a node does not have     left out                left out
//!                          counts 0
//!  fit filter              every resource is tested      those asked for         those asked for
//!                          of who asks for any; never
//!                          beyond the help of evicting
//!  hard spread             pods on nodes that affinity   not counted             not counted
//!                          excludes count for domains
//!                          of those it allows
//!  soft spread             cut to whole numbers;         rounded; without        rounded; without
//!                          without constraints 100       constraints 0           constraints 0
//!  affinity between pods   0 is always among the scores  as they are             as they are
//!                          that bound the others
//! ```
//!
//! 1.20 is there to be held against a kube-scheduler of that release (`tests/recorded.rs`), which is the newest that
//! can be built from Debian's sources alone. Not reproduced of it: an explicit request for 0 of an extended
//! resource; overhead of CPU in scores, which 1.20 rounds up to whole cores; images of init containers, which it does not count:
//! who asks leaves them out of [`crate::PodSpec::images`].
//!
//! Knows numbers only: not where they come from.

use crate::profile::{Profile, SpreadDefaults, Weights};
use crate::rules::MAX_SCORE;

/// A release whose formulas are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Semantics {
    /// Kubernetes 1.20.
    V1_20,
    /// Kubernetes 1.33 to 1.35.
    V1_35,
    /// Kubernetes 1.36.
    #[default]
    V1_36,
}

impl Profile {
    /// The default rules of kube-scheduler 1.20, without NodePreferAvoidPods (an annotation that later releases do
    /// not know).
    pub fn v1_20() -> Profile {
        Profile {
            semantics: Semantics::V1_20,
            weights: Weights {
                taint: 1,
                affinity: 1,
                fit: 1,
                balanced: 1,
                image: 1,
                spread: 2,
                pods: 1,
                devices: 0,
            },
            // The same constraints, but nodes that lack a key do not take part.
            spread_defaults: SpreadDefaults {
                system: false,
                ..SpreadDefaults::system()
            },
            ..Profile::default()
        }
    }
}

/// NodeResourcesBalancedAllocation of 1.20, over `(asked for, capacity)` of CPU and memory.
pub(crate) fn balanced_1_20(cpu: (i64, i64), memory: (i64, i64)) -> i64 {
    let fraction = |(asked, capacity): (i64, i64)| {
        if capacity == 0 {
            1.0
        } else {
            asked as f64 / capacity as f64
        }
    };
    let (cpu, memory) = (fraction(cpu), fraction(memory));
    if cpu >= 1.0 || memory >= 1.0 {
        return 0;
    }
    ((1.0 - (cpu - memory).abs()) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_of_1_20_by_hand() {
        // 0.5 and 0.25 differ by 0.25.
        assert_eq!(balanced_1_20((1, 2), (1, 4)), 75);
        assert_eq!(balanced_1_20((3, 4), (3, 4)), 100);
        // Full, or not there at all.
        assert_eq!(balanced_1_20((2, 2), (1, 1)), 0);
        assert_eq!(balanced_1_20((0, 0), (0, 4)), 0);
        // 1/3 against 0 is 66.67, cut.
        assert_eq!(balanced_1_20((1, 3), (0, 4)), 66);
    }
}
