//! Validation of records against their lexicons.
