//! The index as a whole: what becomes of the same repos in every order in which they may arrive.

extern crate groundplane_index as gp_index;

mod history;
mod order;
mod rig;
mod whole;
