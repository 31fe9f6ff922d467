//! The contract compared with that of a published package.
