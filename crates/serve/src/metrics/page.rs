//! Writes figures in the text format.

use std::fmt::Error;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{
    catalog::{Kind, Metric},
    cells::Histograms,
};

/// The page being written. Only what the catalogue lists can be written to it.
pub struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    fn begin<const L: usize>(&mut self, metric: &Metric<L>) -> Result<MetricEncoder<'_>, Error> {
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        self.0.encode_descriptor(metric.name, metric.help.trim(), None, kind)
    }

    /// Counters or gauges with labels: for each series the values of its labels, and its value.
    ///
    /// # Errors
    ///
    /// The page cannot be written to.
    pub fn family<'l, const L: usize>(
        &mut self,
        metric: &Metric<L>,
        series: impl Iterator<Item = ([&'l str; L], u64)>,
    ) -> Result<(), Error> {
        let mut family = self.begin(metric)?;
        for (values, value) in series {
            let labels = labels(metric, values);
            write(family.encode_family(&labels)?, metric.kind, value)?;
        }
        Ok(())
    }

    /// The same of fractions.
    ///
    /// # Errors
    ///
    /// The page cannot be written to.
    pub fn family_f64<'l, const L: usize>(
        &mut self,
        metric: &Metric<L>,
        series: impl Iterator<Item = ([&'l str; L], f64)>,
    ) -> Result<(), Error> {
        let mut family = self.begin(metric)?;
        for (values, value) in series {
            let labels = labels(metric, values);
            write_f64(family.encode_family(&labels)?, metric.kind, value)?;
        }
        Ok(())
    }

    /// One counter or gauge without labels.
    ///
    /// # Errors
    ///
    /// The page cannot be written to.
    pub fn single(&mut self, metric: &Metric<0>, value: u64) -> Result<(), Error> {
        write(self.begin(metric)?, metric.kind, value)
    }

    /// One counter or gauge of a fraction.
    ///
    /// # Errors
    ///
    /// The page cannot be written to.
    pub fn single_f64(&mut self, metric: &Metric<0>, value: f64) -> Result<(), Error> {
        write_f64(self.begin(metric)?, metric.kind, value)
    }

    /// Histograms with labels. `scale` turns what was observed into the unit of the name.
    pub(crate) fn histograms<'l, const N: usize, const L: usize>(
        &mut self,
        metric: &Metric<L>,
        scale: f64,
        histograms: &Histograms<N>,
        values: impl Fn([usize; N]) -> [&'l str; L],
    ) -> Result<(), Error> {
        let mut family = self.begin(metric)?;
        let bounds: Vec<f64> =
            histograms.bounds().iter().map(|bound| rounded(*bound as f64 * scale)).chain([f64::INFINITY]).collect();
        for (position, it) in histograms.touched() {
            let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(it.buckets).collect();
            let labels = labels(metric, values(position));
            let sum = it.sum as f64 * scale;
            family.encode_family(&labels)?.encode_histogram::<[(&str, &str); L]>(sum, it.count, &buckets, None)?;
        }
        Ok(())
    }
}

fn labels<'l, const L: usize>(metric: &Metric<L>, values: [&'l str; L]) -> [(&'static str, &'l str); L] {
    std::array::from_fn(|at| (metric.labels[at], values[at]))
}

/// Takes away what the multiplication added behind the sixth digit, so that a bound reads as it was meant.
fn rounded(bound: f64) -> f64 {
    (bound * 1e6).round() / 1e6
}

fn write(encoder: MetricEncoder<'_>, kind: Kind, value: u64) -> Result<(), Error> {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(value).encode(encoder),
    }
}

fn write_f64(encoder: MetricEncoder<'_>, kind: Kind, value: f64) -> Result<(), Error> {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(value).encode(encoder),
    }
}
