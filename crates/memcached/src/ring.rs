//! Which node keeps a key. By weight of a hash over the configured names, whether a node answers or not: a key of a node
//! that is down is a miss, and comes back with it. A node more or less in the configuration moves only its own share.

use xxhash_rust::xxh3::xxh3_64;

/// The nodes of a fleet, as configured.
#[derive(Debug, Clone)]
pub struct Ring {
    seeds: Vec<u64>,
}

impl Ring {
    /// A ring of nodes by their names; the order does not matter for who keeps what.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { seeds: names.into_iter().map(|name| xxh3_64(name.as_bytes())).collect() }
    }

    /// The place in the configuration of the node that keeps a key with this hash.
    pub fn node_of(&self, hash: u64) -> usize {
        let weight = |seed: &u64| mix(hash ^ seed);
        (0..self.seeds.len()).max_by_key(|n| (weight(&self.seeds[*n]), self.seeds[*n])).unwrap_or(0)
    }
}

/// Spreads every bit over all (the last steps of splitmix64).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["a:1", "b:1", "c:1", "d:1", "e:1"];

    fn shares(names: &[&'static str]) -> Vec<&'static str> {
        let ring = Ring::new(names.iter().copied());
        (0..50_000_u64).map(|n| names[ring.node_of(xxh3_64(&n.to_be_bytes()))]).collect()
    }

    #[test]
    fn shares_are_even_and_only_those_of_a_new_node_move() {
        let (four, five) = (shares(&NAMES[..4]), shares(&NAMES));
        for name in NAMES {
            let share = five.iter().filter(|n| **n == name).count();
            assert!((9_000..11_000).contains(&share), "{name} keeps {share} of 50,000");
        }
        assert!(four.iter().zip(&five).all(|(before, after)| before == after || *after == "e:1"));
        let mut turned = NAMES;
        turned.reverse();
        assert_eq!(shares(&turned), five);
    }
}
