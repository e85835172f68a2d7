//! The requests that a snapshot is verified with.

use crate::contract::{Contract, Fields};

/// The user's sample, if there is one, followed by those of the contract. A warm-up uses the first.
pub(super) fn samples(
    contract: &dyn Contract,
    include: Fields,
    user: Option<&[u8]>,
) -> Vec<Vec<u8>> {
    let mut samples = contract.samples(include);
    if let Some(user) = user {
        samples.insert(0, user.to_vec());
    }
    samples
}
