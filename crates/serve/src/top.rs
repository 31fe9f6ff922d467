//! What is the most expensive thing right now: the heaviest calls, and the callers with the largest part of the cost.
//!
//! The last ten minutes are kept in slots of ten seconds, each with the heaviest calls of its time and the largest
//! shares of the cost by call and caller. All of it together is well under a megabyte.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    Code,
    metrics::{Calls, Ended, Totals},
};

/// Time of one slot.
pub(crate) const SLOT: Duration = Duration::from_secs(10);
/// Slots of ten minutes.
const SLOTS: usize = 60;
/// Slots of one minute.
const SLOTS_OF_A_MINUTE: usize = 6;
/// Calls kept of a slot, and shown of a span of time.
const CALLS: usize = 20;
/// Shares kept of a slot. What is below them is left out of the sums.
const SHARES: usize = 64;

/// One heavy call.
#[derive(Clone, Copy, Debug)]
struct Heavy {
    at_us: i64,
    rpc: u16,
    caller: u8,
    code: Code,
    keys: u32,
    unique: u32,
    units: u32,
    duration_us: u32,
    request_bytes: u32,
    response_bytes: u32,
    trace: Option<[u8; 16]>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    calls: Vec<Heavy>,
    shares: Vec<((usize, usize), Totals)>,
}

/// The table of heavy hitters.
#[derive(Debug)]
pub(crate) struct Top {
    /// Calls that cost no more than this cannot enter the current slot.
    floor: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// A ring; `at` is the current one.
    slots: Vec<Slot>,
    at: usize,
    /// The totals when the current slot began.
    before: HashMap<(usize, usize), Totals>,
}

impl Top {
    pub(crate) fn new() -> Self {
        let inner = Inner { slots: vec![Slot::default(); SLOTS], at: 0, before: HashMap::new() };
        Self { floor: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    /// Takes a call that ended into account.
    pub(crate) fn ended(&self, it: &Ended<'_>, trace: impl FnOnce() -> Option<[u8; 16]>, now_us: impl FnOnce() -> i64) {
        if u64::from(it.units) <= self.floor.load(Relaxed) {
            return;
        }
        let short = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let heavy = Heavy {
            at_us: now_us(),
            rpc: u16::try_from(it.rpc).unwrap_or(u16::MAX),
            caller: u8::try_from(it.caller.index()).unwrap_or(u8::MAX),
            code: it.status.map_or(Code::Ok, |status| status.code),
            keys: it.keys,
            unique: it.unique,
            units: it.units,
            duration_us: u32::try_from(it.duration.as_micros()).unwrap_or(u32::MAX),
            request_bytes: short(it.request_bytes),
            response_bytes: short(it.response_bytes),
            trace: trace(),
        };
        let mut inner = self.inner.lock();
        let at = inner.at;
        let calls = &mut inner.slots[at].calls;
        if calls.len() < CALLS {
            calls.push(heavy);
        } else if let Some(lightest) = calls.iter_mut().min_by_key(|it| it.units)
            && lightest.units < heavy.units
        {
            *lightest = heavy;
        }
        if calls.len() == CALLS {
            self.floor.store(calls.iter().map(|it| it.units).min().unwrap_or(0).into(), Relaxed);
        }
    }

    /// Ends the current slot. Called every [`SLOT`].
    pub(crate) fn turn(&self, calls: &Calls) {
        let mut inner = self.inner.lock();
        let shares = inner.shares_since(calls, SHARES);
        for (who, totals) in calls.totals() {
            inner.before.insert(who, totals);
        }
        let at = inner.at;
        inner.slots[at].shares = shares;
        inner.at = (at + 1) % SLOTS;
        let at = inner.at;
        inner.slots[at] = Slot::default();
        self.floor.store(0, Relaxed);
    }

    /// The table of the last minute and the last ten minutes.
    pub(crate) fn show(&self, calls: &Calls) -> Value {
        let inner = self.inner.lock();
        let current = inner.shares_since(calls, SHARES);
        json!({
            "last_1_minute": inner.show(calls, SLOTS_OF_A_MINUTE, &current),
            "last_10_minutes": inner.show(calls, SLOTS - 1, &current),
        })
    }
}

impl Inner {
    /// What was added to the totals since the current slot began, largest cost first.
    fn shares_since(&self, calls: &Calls, max: usize) -> Vec<((usize, usize), Totals)> {
        let mut shares: Vec<_> = calls
            .totals()
            .filter_map(|(who, now)| {
                let before = self.before.get(&who).copied().unwrap_or_default();
                (now.calls > before.calls).then(|| (who, minus(now, before)))
            })
            .collect();
        shares.sort_unstable_by_key(|(_, totals)| std::cmp::Reverse((totals.units, totals.calls)));
        shares.truncate(max);
        shares
    }

    /// `slots` whole ones and the current one.
    fn show(&self, calls: &Calls, slots: usize, current: &[((usize, usize), Totals)]) -> Value {
        let span = (0..=slots).map(|back| &self.slots[(self.at + SLOTS - back) % SLOTS]);
        let mut heavy: Vec<&Heavy> = span.clone().flat_map(|slot| &slot.calls).collect();
        heavy.sort_unstable_by_key(|it| std::cmp::Reverse((it.units, it.duration_us)));
        heavy.truncate(CALLS);

        let mut sums: HashMap<(usize, usize), Totals> = HashMap::new();
        for (who, totals) in span.flat_map(|slot| &slot.shares).chain(current) {
            let sum = sums.entry(*who).or_default();
            *sum = plus(*sum, *totals);
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by_key(|(who, totals)| (std::cmp::Reverse((totals.units, totals.calls)), *who));
        sums.truncate(CALLS);

        json!({
            "calls": heavy.into_iter().map(|it| show_call(calls, it)).collect::<Vec<_>>(),
            "shares": sums.into_iter().map(|((rpc, caller), sum)| json!({
                "rpc": calls.rpc_name(rpc),
                "caller": calls.caller_name(caller),
                "calls": sum.calls,
                "keys": sum.keys,
                "cost": sum.units,
                "busy_ms": sum.busy_us / 1_000,
            })).collect::<Vec<_>>(),
        })
    }
}

fn show_call(calls: &Calls, it: &Heavy) -> Value {
    json!({
        "at_ms": it.at_us / 1_000,
        "rpc": calls.rpc_name(it.rpc.into()),
        "caller": calls.caller_name(it.caller.into()),
        "status": it.code.name(),
        "keys": it.keys,
        "unique_keys": it.unique,
        "cost": it.units,
        "duration_ms": f64::from(it.duration_us) / 1e3,
        "request_bytes": it.request_bytes,
        "response_bytes": it.response_bytes,
        "trace": it.trace.map(|trace| format!("{:032x}", u128::from_be_bytes(trace))),
    })
}

fn plus(a: Totals, b: Totals) -> Totals {
    Totals { calls: a.calls + b.calls, keys: a.keys + b.keys, units: a.units + b.units, busy_us: a.busy_us + b.busy_us }
}

/// Totals never fall, but those of one call are not read in one moment.
fn minus(a: Totals, b: Totals) -> Totals {
    Totals {
        calls: a.calls.saturating_sub(b.calls),
        keys: a.keys.saturating_sub(b.keys),
        units: a.units.saturating_sub(b.units),
        busy_us: a.busy_us.saturating_sub(b.busy_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallerId, Rpcs, metrics::Stage};

    fn calls() -> Calls {
        Calls::new(&Rpcs::contract(), &["unknown".into(), "other".into(), "appview".into()], || 0)
    }

    fn ended(units: u32) -> Ended<'static> {
        Ended {
            rpc: 0,
            caller: CallerId::at(2),
            keys: units,
            unique: units,
            skip_cache: 0,
            units,
            request_bytes: 1,
            response_bytes: 2,
            duration: Duration::from_millis(3),
            status: None,
            stage: Stage::Run,
        }
    }

    fn costs(shown: &Value, span: &str) -> Vec<u64> {
        shown[span]["calls"].as_array().unwrap().iter().map(|it| it["cost"].as_u64().unwrap()).collect()
    }

    #[test]
    fn the_heaviest_twenty_of_each_span_are_shown() {
        let (top, calls) = (Top::new(), calls());
        let end = |units| {
            let it = ended(units);
            calls.ended(&it);
            top.ended(&it, || None, || 5_000);
        };
        // An old giant, then many small ones in each slot.
        end(20_000);
        for slot in 0..8 {
            for units in 1..=100 {
                end(units + slot * 100);
            }
            top.turn(&calls);
        }
        let shown = top.show(&calls);
        assert_eq!(costs(&shown, "last_1_minute"), (781..=800).rev().collect::<Vec<_>>());
        assert_eq!(costs(&shown, "last_10_minutes")[..3], [20_000, 800, 799]);
        let share = &shown["last_10_minutes"]["shares"][0];
        assert_eq!(
            (&share["rpc"], &share["caller"], &share["calls"]),
            (&json!("GetPostRecords"), &json!("appview"), &json!(801))
        );
        assert_eq!(shown["last_1_minute"]["shares"][0]["calls"], 600);
        for _ in 0..SLOTS {
            top.turn(&calls);
        }
        let later = top.show(&calls);
        assert!(costs(&later, "last_10_minutes").is_empty());
        assert_eq!(later["last_10_minutes"]["shares"], json!([]));
    }

    #[test]
    fn what_is_running_now_is_shown_at_once() {
        let (top, calls) = (Top::new(), calls());
        let it = ended(7);
        calls.ended(&it);
        top.ended(&it, || Some(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()), || 1_700_000_000_000_000);
        let shown = top.show(&calls);
        let call = &shown["last_1_minute"]["calls"][0];
        assert_eq!(call["trace"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            (&call["at_ms"], &call["status"], &call["duration_ms"]),
            (&json!(1_700_000_000_000_i64), &json!("OK"), &json!(3.0))
        );
        assert_eq!(shown["last_1_minute"]["shares"][0]["cost"], 7);
    }
}
