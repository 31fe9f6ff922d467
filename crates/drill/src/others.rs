//! Drills beside that of the outage: one thing at a time goes wrong.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{Row, Say};

/// One key is half of all traffic.
///
/// # Errors
///
/// The plane cannot be started.
pub async fn hot_key(_bin: &Path, _phase: Duration, _say: Say<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
/// x
pub async fn cold_cache(_bin: &Path, _phase: Duration, _say: Say<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
/// x
pub async fn slow_store(_bin: &Path, _phase: Duration, _say: Say<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
/// x
pub async fn overload(_bin: &Path, _phase: Duration, _say: Say<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
/// x
pub async fn noisy_caller(_bin: &Path, _phase: Duration, _say: Say<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
