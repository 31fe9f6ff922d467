//! The program from outside.

mod doctor;
mod store;
