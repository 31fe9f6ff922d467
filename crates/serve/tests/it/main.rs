//! The server from outside: a whole process's worth of it, spoken to over real connections.

mod admin;
mod bounds;
mod calls;
mod drain;
mod figures;
mod rig;
