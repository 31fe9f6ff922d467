//! The promises every engine keeps, as one suite.
