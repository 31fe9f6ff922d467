//! The program from outside.

mod backfill;
mod doctor;
mod store;
