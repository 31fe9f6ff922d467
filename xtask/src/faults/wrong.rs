//! memcached answers, and what it answers is wrong, odd, or not to be understood.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use anyhow::Result;
use bytes::BytesMut;
use gp_memcached::codec;
use gp_sim::{Faults, Harm, Proxy};
use gp_store::{Batch, Key};

use super::{
    Outcome, Scale,
    rig::{Dice, Double, NO_NEAR, ROWS, far, key, load_for, ready, runtime, seed, until, value, version_of, warm},
};
use crate::memcached::Memcached;

const KEYS: usize = 5_000;

/// F14: random bytes into the decoder, and a network that spoils real answers.
pub(super) fn garbage(scale: Scale) -> Result<Outcome> {
    let cases = scale.count(10_000_000, 200_000);
    let parts: [&[u8]; 12] = [
        b"VA 3 c1 O1\r\nabc\r\n",
        b"VA ",
        b"HD O1",
        b"EN",
        b"\r\n",
        b" O4294967295",
        b" c",
        b"9999999999",
        b"SERVER_ERROR ",
        b"CLIENT_ERROR ",
        b"out of memory",
        b"\0\xff",
    ];
    let mut dice = Dice(7);
    let mut too_long = 0_u64;
    for _ in 0..cases {
        let mut input = BytesMut::new();
        for _ in 0..=dice.below(6) {
            match dice.below(14) {
                n @ 0..12 => input.extend_from_slice(parts[n]),
                _ => input.extend_from_slice(&dice.next().to_le_bytes()),
            }
        }
        while let Ok(Some(response)) = codec::decode(&mut input, 1024) {
            too_long += u64::from(response.value.len() > 1024);
        }
    }
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::patient(Duration::from_micros(200));
        seed(&double, KEYS)?;
        let proxy = Proxy::start(server.address, 3).await?;
        let store = double.store(&[proxy.address()], true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, KEYS).await?;
        let slots = far(&store).nodes[0].client.connections;
        // Dials a second apart may be taken up within one second where threads are held up.
        let dials_max = if scale.short { 2 * slots } else { slots };
        let (mut wrong, mut errors, mut most_dials) = (0, 0, 0);
        let harms = [
            Harm::Corrupt { every_bytes: 3_000 },
            Harm::Truncate { after_bytes: 10_000 },
            Harm::Reset { after_bytes: 10_000 },
            Harm::Corrupt { every_bytes: 100 },
        ];
        for harm in harms {
            proxy.set(Faults::harm_down(harm));
            let done = load_for(&store, KEYS, scale.seconds()).await?;
            wrong += done.wrong;
            errors += done.errors;
            most_dials = most_dials.max(proxy.accepted_within(Duration::from_secs(1)));
        }
        proxy.heal();
        until("it is read again", || far(&store).nodes[0].is_read).await?;
        let after = load_for(&store, KEYS, 0.3).await?;
        let figures = far(&store);
        Ok(Outcome::new(
            too_long == 0
                && wrong + errors + after.wrong + after.errors == 0
                && most_dials as u64 <= dials_max
                && figures.nodes[0].client.discarded > 0,
            format!(
                "{cases} random inputs; {wrong} wrong and {errors} failed reads, {} connections given up, {} spoiled values caught, at most {most_dials} dials a second for {slots} slots",
                figures.nodes[0].client.discarded, figures.spoiled
            ),
        ))
    })
}

/// F21: long keys, keys of any bytes, rows at and above what memcached takes.
pub(super) fn odd(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::patient(Duration::ZERO);
        let store = double.store(&[server.address], true, NO_NEAR)?;
        ready(&store).await?;
        let odd = |n: u8, length: usize| Key::of(&ROWS).atom(&vec![n; length]).key();
        let mut rows: Vec<(Key, usize)> = (0..=255).map(|n| (odd(n, 512), 100)).collect();
        rows.extend(
            [(1 << 20) - 2000, (1 << 20) - 1040, (1 << 20) - 1039, 1 << 20, 3 << 20]
                .map(|length| (odd(b'L', length % 97 + 1), length)),
        );
        let mut batch = Batch::new();
        rows.iter().for_each(|(key, length)| batch.put(key.clone(), vec![key.bytes()[1]; *length]));
        store.apply_now(&batch)?;
        until("marks are gone", || far(&store).unmarks >= rows.len() as u64).await?;
        let mut wrong = 0;
        for _ in 0..3 {
            for (key, length) in &rows {
                let found = store.get_one(key).await?;
                wrong += u64::from(found.is_none_or(|v| v.len() != *length || v[0] != key.bytes()[1]));
            }
            until("fills have ended", || far(&store).fills_in_flight == 0).await?;
        }
        let figures = far(&store);
        let given_up = figures.nodes[0].client.discarded;
        Ok(Outcome::new(
            wrong == 0 && given_up == 0 && figures.fills_too_large == 3 && figures.hits > 256,
            format!(
                "{} keys: {wrong} wrong, {given_up} connections given up, {} rows too large to keep, {} hits",
                rows.len(),
                figures.fills_too_large,
                figures.hits
            ),
        ))
    })
}

/// F22: a server that knows nothing of the meta protocol.
pub(super) fn old_server(_: Scale) -> Result<Outcome> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut nothing = [0; 4096];
                while matches!(stream.read(&mut nothing), Ok(1..)) && stream.write_all(b"ERROR\r\n").is_ok() {}
            });
        }
    });
    runtime()?.block_on(async {
        let double = Double::patient(Duration::ZERO);
        seed(&double, KEYS)?;
        let store = double.store(&[address], true, NO_NEAR)?;
        until("it is found out", || far(&store).nodes[0].state() == "too old").await?;
        let done = load_for(&store, KEYS, 0.5).await?;
        let figures = far(&store);
        let asked = figures.hits + figures.misses + figures.unknown;
        Ok(Outcome::new(
            done.errors + done.wrong == 0 && asked == 0,
            format!(
                "state {:?}, {} errors of {} reads, asked for {asked} keys",
                figures.nodes[0].state(),
                done.errors,
                done.reads
            ),
        ))
    })
}

/// F47: something that is no value of ours stands under a key.
pub(super) fn poison(_: Scale) -> Result<Outcome> {
    let server = Memcached::start()?;
    runtime()?.block_on(async {
        let double = Double::patient(Duration::ZERO);
        seed(&double, 20)?;
        let store = double.store(&[server.address], true, NO_NEAR)?;
        ready(&store).await?;
        warm(&store, 20).await?;
        let (name, _) = server.items()?.swap_remove(0);
        server.say(&format!("ms {name} 6 T3600\r\npoison\r\n"), "HD\r\n")?;
        // Memory in the process holds what was read meanwhile, as it always does.
        let other = double.store(&[server.address], true, 1 << 20)?;
        ready(&other).await?;
        let (before, mut wrong) = (double.keys_read(), 0);
        for _ in 0..50 {
            let wanted: Vec<Key> = (0..20).map(key).collect();
            let found = other.get(&wanted).await?;
            wrong += found.iter().enumerate().filter(|(n, v)| version_of(*n, v.as_ref()) != Some(1)).count();
        }
        let read = double.keys_read() - before;
        // It is removed after the answer has left.
        let mut gone = false;
        for _ in 0..200 {
            gone = !server.say(&format!("mg {name} v\r\n"), "\r\n")?.contains("poison");
            if gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let spoiled = far(&other).spoiled;
        let length = value(0, 1).len();
        Ok(Outcome::new(
            wrong == 0 && read == 1 && spoiled == 1 && gone,
            format!("{wrong} of 1,000 keys wrong ({length} bytes each), {spoiled} found spoiled, {read} store read, poison gone: {gone}"),
        ))
    })
}
