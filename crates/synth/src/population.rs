//! The people of the network: DIDs, handles, keys, names. Account `n` is the same whatever the size of the network.

use std::sync::OnceLock;

use gp_atproto::{
    crypto::{Curve, SigningKey},
    did::push_plc,
};

use crate::{
    dice::{Dice, Purpose},
    text,
    words::{CREATURES, Grammar, TRAITS},
};

/// The domain under which everybody has a handle.
pub const HANDLE_DOMAIN: &str = "demo.test";

/// One in this many accounts signs with P-256, the others with secp256k1.
const P256_ONE_IN: usize = 10;

/// Who an account is. None of it changes: a new handle or key is the business of the directory.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) did: String,
    pub(crate) handle: String,
    pub(crate) display_name: String,
    pub(crate) bio: String,
    pub(crate) grammar: &'static Grammar,
    curve: Curve,
    secret: [u8; 32],
    key: OnceLock<SigningKey>,
}

impl Person {
    /// The person behind account `index`; `web` gives it a `did:web`.
    pub(crate) fn new(seed: u64, index: u32, web: bool) -> Person {
        let mut dice = Dice::new(seed, Purpose::Account(index));
        let name = name(index as usize);
        let handle = format!("{name}.{HANDLE_DOMAIN}");
        let identifier = dice.bytes::<15>();
        let did = if web {
            format!("did:web:{handle}")
        } else {
            let mut did = String::with_capacity(32);
            push_plc(&identifier, &mut did);
            did
        };
        let curve = if dice.below(P256_ONE_IN) == 0 { Curve::P256 } else { Curve::K256 };
        let secret = dice.bytes();
        let (display_name, bio) = (text::display_name(&mut dice), text::bio(&mut dice));
        Person {
            did,
            handle,
            display_name,
            bio,
            grammar: text::language(&mut dice),
            curve,
            secret,
            key: OnceLock::new(),
        }
    }

    /// The key with which the account began. Made on first use, since that costs as much as a signature.
    pub(crate) fn key(&self) -> &SigningKey {
        self.key.get_or_init(|| first_valid_key(self.curve, self.secret))
    }

    /// The `n`th key after the first one.
    pub(crate) fn later_key(&self, n: u32) -> SigningKey {
        let mut secret = self.secret;
        secret[28..].copy_from_slice(&n.to_be_bytes());
        first_valid_key(self.curve, secret)
    }
}

fn first_valid_key(curve: Curve, mut secret: [u8; 32]) -> SigningKey {
    loop {
        if let Ok(key) = SigningKey::from_bytes(curve, &secret) {
            return key;
        }
        // Zero or beyond the group order, one case in 2^32 at most: any other number will do.
        secret[0] ^= 0x55;
        secret[31] ^= 1;
    }
}

/// A handle's first label: each index has its own, and neighbours do not look alike.
fn name(index: usize) -> String {
    let pairs = TRAITS.len() * CREATURES.len();
    // The factor is prime to both list lengths, so this visits every pair once.
    let (turn, at) = (index / pairs, index % pairs * 2_503 % pairs);
    let (first, second) = (TRAITS[at % TRAITS.len()], CREATURES[at / TRAITS.len()]);
    if turn == 0 { format!("{first}-{second}") } else { format!("{first}-{second}{turn}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_valid() {
        let names: HashSet<String> = (0..10_000).map(name).collect();
        assert_eq!(names.len(), 10_000);
        for name in names {
            assert!(gp_atproto::handle::is_valid(&format!("{name}.{HANDLE_DOMAIN}")), "{name}");
        }
    }

    #[test]
    fn people_depend_on_seed_and_index_only() {
        let (a, b) = (Person::new(1, 5, false), Person::new(1, 5, false));
        assert_eq!((&a.did, &a.handle, a.key().verifying_key()), (&b.did, &b.handle, b.key().verifying_key()));
        assert_ne!(a.did, Person::new(2, 5, false).did);
        assert_eq!(a.did.len(), "did:plc:".len() + 24);
        assert!(gp_atproto::did::is_valid(&a.did));
        assert_eq!(Person::new(1, 5, true).did, format!("did:web:{}", a.handle));
        assert_ne!(a.later_key(1).verifying_key(), a.key().verifying_key());
    }

    #[test]
    fn both_curves_occur() {
        let p256 = (0..500).filter(|index| Person::new(9, *index, false).curve == Curve::P256).count();
        assert!((25..90).contains(&p256), "{p256}");
    }
}
