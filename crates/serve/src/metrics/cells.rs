//! Where figures are kept: arrays of atomic numbers, addressed by position, never by name.
//!
//! Recording a figure is one addition and allocates nothing; a cell that was never touched is not shown.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Numbers by up to four positions.
#[derive(Debug)]
pub(crate) struct Grid<const N: usize> {
    dims: [usize; N],
    cells: Box<[AtomicU64]>,
}

impl<const N: usize> Grid<N> {
    pub(crate) fn new(dims: [usize; N]) -> Self {
        let cells = std::iter::repeat_with(|| AtomicU64::new(0)).take(dims.iter().product()).collect();
        Self { dims, cells }
    }

    /// The cell at a position. Positions are indices of the closed sets that the grid was made for.
    pub(crate) fn at(&self, position: [usize; N]) -> &AtomicU64 {
        let mut index = 0;
        for (at, dim) in position.into_iter().zip(self.dims) {
            debug_assert!(at < dim);
            index = index * dim + at;
        }
        &self.cells[index]
    }

    pub(crate) fn add(&self, position: [usize; N], more: u64) {
        self.at(position).fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self, position: [usize; N]) -> u64 {
        self.at(position).load(Relaxed)
    }

    /// Every cell that is not zero, with its position.
    pub(crate) fn touched(&self) -> impl Iterator<Item = ([usize; N], &AtomicU64)> {
        self.cells.iter().enumerate().filter(|(_, cell)| cell.load(Relaxed) != 0).map(|(mut index, cell)| {
            let mut position = [0; N];
            for (at, dim) in position.iter_mut().zip(self.dims).rev() {
                *at = index % dim;
                index /= dim;
            }
            (position, cell)
        })
    }
}

/// A maximum is shown for at least so long, so that somebody who looks at the page beside the scraper takes nothing
/// from it.
const KEPT_MIN: Duration = Duration::from_secs(10);

/// Marks a maximum that was recorded before, so that its series stays although it starts over.
const SEEN: u64 = 1 << 63;

/// The largest numbers of late, by up to four positions.
///
/// What is shown is the maximum since the scrape before the last one: each is seen by two scrapes, and by every scraper
/// if there are two of them.
#[derive(Debug)]
pub(crate) struct Maxima<const N: usize> {
    now: Grid<N>,
    before: Grid<N>,
    turned: Mutex<Instant>,
}

impl<const N: usize> Maxima<N> {
    pub(crate) fn new(dims: [usize; N]) -> Self {
        Self { now: Grid::new(dims), before: Grid::new(dims), turned: Mutex::new(Instant::now()) }
    }

    /// Cells to raise with [`Maxima::raise`].
    pub(crate) fn cells(&self) -> &Grid<N> {
        &self.now
    }

    /// Raises a cell of [`Maxima::cells`].
    pub(crate) fn raise(cell: &AtomicU64, value: u64) {
        cell.fetch_max(value | SEEN, Relaxed);
    }

    /// Every maximum that was ever recorded, with its position.
    pub(crate) fn touched(&self) -> impl Iterator<Item = ([usize; N], u64)> {
        self.now.touched().map(|(at, cell)| (at, (cell.load(Relaxed) & !SEEN).max(self.before.get(at))))
    }

    /// Called after a scrape: lets those go that two scrapes have seen. `floor` is what a cell starts over with.
    pub(crate) fn turn(&self, now: Instant, floor: impl Fn([usize; N]) -> u64) {
        let mut turned = self.turned.lock();
        if now.saturating_duration_since(*turned) < KEPT_MIN {
            return;
        }
        *turned = now;
        for (at, cell) in self.now.touched() {
            let value = cell.swap(floor(at) | SEEN, Relaxed) & !SEEN;
            self.before.at(at).store(value, Relaxed);
        }
    }
}

/// Histograms by up to three positions, with fixed buckets.
#[derive(Debug)]
pub(crate) struct Histograms<const N: usize> {
    /// Upper bounds in raw units, rising.
    bounds: &'static [u64],
    dims: [usize; N],
    /// For each position: one cell a bucket, one for what is above all bounds, and the sum.
    cells: Box<[AtomicU64]>,
}

/// One histogram as it stands.
pub(crate) struct Snapshot {
    /// Sum of what was observed, in raw units.
    pub(crate) sum: u64,
    /// Number of observations.
    pub(crate) count: u64,
    /// Observations in each bucket, not cumulated; the last is above all bounds.
    pub(crate) buckets: Vec<u64>,
}

impl<const N: usize> Histograms<N> {
    pub(crate) fn new(dims: [usize; N], bounds: &'static [u64]) -> Self {
        let cells = dims.iter().product::<usize>() * (bounds.len() + 2);
        Self { bounds, dims, cells: std::iter::repeat_with(|| AtomicU64::new(0)).take(cells).collect() }
    }

    pub(crate) fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    pub(crate) fn observe(&self, position: [usize; N], value: u64) {
        let mut index = 0;
        for (at, dim) in position.into_iter().zip(self.dims) {
            debug_assert!(at < dim);
            index = index * dim + at;
        }
        let width = self.bounds.len() + 2;
        let cells = &self.cells[index * width..(index + 1) * width];
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        cells[bucket].fetch_add(1, Relaxed);
        cells[width - 1].fetch_add(value, Relaxed);
    }

    /// Adds up those whose position is wanted: the buckets, not cumulated.
    pub(crate) fn sum_where(&self, of: impl Fn([usize; N]) -> bool) -> Vec<u64> {
        let mut sum = vec![0; self.bounds.len() + 1];
        for (position, it) in self.touched() {
            if of(position) {
                sum.iter_mut().zip(it.buckets).for_each(|(sum, more)| *sum += more);
            }
        }
        sum
    }

    /// Every histogram that has an observation, with its position.
    pub(crate) fn touched(&self) -> impl Iterator<Item = ([usize; N], Snapshot)> {
        self.cells.chunks_exact(self.bounds.len() + 2).enumerate().filter_map(|(mut index, cells)| {
            let buckets: Vec<u64> = cells[..cells.len() - 1].iter().map(|cell| cell.load(Relaxed)).collect();
            let count = buckets.iter().sum();
            if count == 0 {
                return None;
            }
            let mut position = [0; N];
            for (at, dim) in position.iter_mut().zip(self.dims).rev() {
                *at = index % dim;
                index /= dim;
            }
            Some((position, Snapshot { sum: cells[cells.len() - 1].load(Relaxed), count, buckets }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_as_they_were_given() {
        let grid = Grid::new([3, 4, 5]);
        grid.add([0, 0, 1], 1);
        grid.add([2, 3, 4], 2);
        grid.add([1, 2, 0], 3);
        grid.add([1, 2, 0], 4);
        let touched: Vec<_> = grid.touched().map(|(at, cell)| (at, cell.load(Relaxed))).collect();
        assert_eq!(touched, [([0, 0, 1], 1), ([1, 2, 0], 7), ([2, 3, 4], 2)]);
    }

    #[test]
    fn a_maximum_is_seen_by_two_scrapes_however_often_the_page_is_looked_at() {
        let maxima = Maxima::new([2]);
        let begun = Instant::now();
        let shown = || maxima.touched().collect::<Vec<_>>();
        let scrape = |after_s: u64| {
            let seen = shown();
            maxima.turn(begun + Duration::from_secs(after_s), |_| 3);
            seen
        };
        Maxima::<1>::raise(maxima.cells().at([1]), 20_000);
        // Somebody looks three times before the scrape comes.
        for second in [1, 2, 3] {
            assert_eq!(scrape(second), [([1], 20_000)]);
        }
        assert_eq!(scrape(15), [([1], 20_000)]);
        Maxima::<1>::raise(maxima.cells().at([1]), 7);
        assert_eq!(scrape(30), [([1], 20_000)]);
        assert_eq!(scrape(45), [([1], 7)]);
        assert_eq!(scrape(60), [([1], 3)], "what is in flight now is the least");
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histograms = Histograms::new([2], &[10, 100]);
        for value in [0, 10, 11, 100, 101, 5_000] {
            histograms.observe([1], value);
        }
        let all: Vec<_> = histograms.touched().collect();
        assert_eq!(all.len(), 1);
        let (at, snapshot) = &all[0];
        assert_eq!((at, &snapshot.buckets[..], snapshot.count, snapshot.sum), (&[1], &[2, 2, 2][..], 6, 5_222));
    }
}
