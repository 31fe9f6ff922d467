//! groundplane-index
