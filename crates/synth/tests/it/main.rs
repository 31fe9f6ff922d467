//! The synthetic network as its users meet it.

mod consumer;
mod faults;
mod history;
mod model;
mod recording;
mod speed;
mod streams;
mod web;

use groundplane_synth::{Network, Size, Spec};

/// Where every history of these tests ends: 28 May 2026.
const NOW_US: i64 = 1_780_000_000_000_000;

fn tiny(seed: u64) -> Spec {
    Spec::new(Size::Tiny, seed, NOW_US)
}

async fn start(spec: Spec) -> Network {
    Network::start(spec).await.unwrap()
}

/// Ordinary accounts in good standing, all different.
fn victims<const N: usize>(network: &Network) -> [String; N] {
    let mut found: Vec<String> = Vec::new();
    for number in 0.. {
        let victim = network.victim(number);
        if !found.contains(&victim) {
            found.push(victim);
        }
        if found.len() == N {
            break;
        }
    }
    found.try_into().unwrap()
}
