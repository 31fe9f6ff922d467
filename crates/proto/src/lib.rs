//! groundplane-proto
