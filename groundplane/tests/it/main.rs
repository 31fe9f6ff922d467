//! The program from outside.

mod doctor;
