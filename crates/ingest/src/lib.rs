//! groundplane-ingest
