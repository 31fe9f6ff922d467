//! Writes figures in the text format.

use std::fmt::Error;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::cells::Histograms;

/// A label and its value.
pub(crate) type Label<'a> = (&'static str, &'a str);

/// The page being written.
pub(crate) struct Out<'a>(DescriptorEncoder<'a>);

impl<'a> Out<'a> {
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Counters or gauges with labels.
    pub(crate) fn family<'l, const L: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl Iterator<Item = ([Label<'l>; L], u64)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            write(family.encode_family(&labels)?, kind, value)?;
        }
        Ok(())
    }

    /// One counter or gauge without labels.
    pub(crate) fn single(&mut self, name: &str, help: &str, kind: MetricType, value: u64) -> Result<(), Error> {
        write(self.0.encode_descriptor(name, help, None, kind)?, kind, value)
    }

    /// One counter or gauge of a fraction.
    pub(crate) fn single_f64(&mut self, name: &str, help: &str, kind: MetricType, value: f64) -> Result<(), Error> {
        let encoder = self.0.encode_descriptor(name, help, None, kind)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(encoder),
            _ => ConstGauge::new(value).encode(encoder),
        }
    }

    /// Histograms with labels. `scale` turns what was observed into the unit of the name.
    pub(crate) fn histograms<'l, const N: usize, const L: usize>(
        &mut self,
        name: &str,
        help: &str,
        scale: f64,
        histograms: &Histograms<N>,
        labels: impl Fn([usize; N]) -> [Label<'l>; L],
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let bounds: Vec<f64> =
            histograms.bounds().iter().map(|bound| rounded(*bound as f64 * scale)).chain([f64::INFINITY]).collect();
        for (position, it) in histograms.touched() {
            let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(it.buckets).collect();
            let labels = labels(position);
            let sum = it.sum as f64 * scale;
            family.encode_family(&labels)?.encode_histogram::<[Label<'l>; L]>(sum, it.count, &buckets, None)?;
        }
        Ok(())
    }
}

/// Takes away what the multiplication added behind the sixth digit, so that a bound reads as it was meant.
fn rounded(bound: f64) -> f64 {
    (bound * 1e6).round() / 1e6
}

fn write(encoder: MetricEncoder<'_>, kind: MetricType, value: u64) -> Result<(), Error> {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(value).encode(encoder),
    }
}
