//! groundplane-serve
