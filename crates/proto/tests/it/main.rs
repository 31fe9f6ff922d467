//! The committed contract as its users see it.

mod contract;
mod methods;
mod order;
