//! The requests that a snapshot is warmed up and verified with.

use crate::contract::{Contract, Fields};

/// How many samples of the contract warm a program up.
const WARMING: usize = 2;

/// Sample requests, as a guest reads them.
pub(super) struct Samples {
    /// The user's sample, if there is one, followed by those of the contract.
    pub(super) all: Vec<Vec<u8>>,
    by_user: bool,
}

impl Samples {
    pub(super) fn new(contract: &dyn Contract, include: Fields, user: Option<&[u8]>) -> Self {
        let mut all = contract.samples(include);
        if let Some(user) = user {
            all.insert(0, user.to_vec());
        }
        let by_user = user.is_some();
        Self { all, by_user }
    }

    /// What may warm a program up, best first: each is a list of samples that take turns. It is the user's sample, or those
    /// of the contract, and each of them alone for programs that do not answer the others.
    pub(super) fn turns(&self) -> Vec<&[Vec<u8>]> {
        if self.by_user {
            return vec![&self.all[..1]];
        }
        let several = &self.all[..WARMING.min(self.all.len())];
        let mut turns = vec![several];
        if several.len() > 1 {
            // The last one asks the least of a program.
            turns.extend(several.chunks(1).rev());
        }
        turns.retain(|turns| !turns.is_empty());
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::json::Json;

    #[test]
    fn a_program_is_warmed_up_with_the_users_sample_or_with_a_post_and_a_get() {
        let samples = Samples::new(&Json, Fields::default(), Some(b"mine"));
        assert_eq!(samples.turns(), [&[b"mine".to_vec()][..]]);
        assert_eq!(samples.all.len(), 4);

        let samples = Samples::new(&Json, Fields::default(), None);
        let (post, get) = (&samples.all[0], &samples.all[1]);
        assert!(post.starts_with(br#"{"method":"POST""#) && get.starts_with(br#"{"method":"GET""#));
        let (post, get) = (post.clone(), get.clone());
        let both = [post.clone(), get.clone()];
        assert_eq!(samples.turns(), [&both[..], &[get][..], &[post][..]]);
    }
}
