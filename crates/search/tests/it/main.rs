//! Search over real rows: written on the way that live events take, found through the calls.

mod durable;
mod follows;
mod found;
mod paging;
mod rig;
