//! The table.

use crate::load::Sample;

/// A program's name, its samples, and its resident memory in MB.
pub type Measured = (&'static str, Vec<Sample>, Option<f64>);

/// Two programs that did the same work in turns.
pub struct Pair {
    /// What was done.
    pub name: &'static str,
    /// Ours.
    pub ours: Measured,
    /// What ours is compared with.
    pub theirs: Measured,
    /// The least ratio of rates.
    pub target: f64,
    /// The most resident memory of ours, in MB.
    pub megabytes: Option<f64>,
}

/// All pairs.
pub struct Report {
    /// In the order of the table.
    pub pairs: Vec<Pair>,
}

impl Report {
    /// Prints the table, and tells whether every target was reached.
    pub fn print(&self) -> bool {
        println!("\nmedians of {} rounds", self.pairs[0].ours.1.len());
        println!(
            "{:<28}{:<16}{:>10}{:>9}{:>9}{:>8}",
            "", "", "per s", "p50 ms", "p99 ms", "MB"
        );
        for pair in &self.pairs {
            row(pair.name, &pair.ours);
            row("", &pair.theirs);
        }
        println!("\n{:<42}{:>8}{:>9}", "", "target", "reached");
        let mut reached = true;
        for pair in &self.pairs {
            let ratio = pair.ratio();
            reached &= ratio >= pair.target;
            let name = format!("{}, ratio", pair.name);
            println!(
                "{name:<42}{:>8.2}{ratio:>9.2}{}",
                pair.target,
                mark(ratio >= pair.target)
            );
            if let (Some(most), Some(megabytes)) = (pair.megabytes, pair.ours.2) {
                reached &= megabytes < most;
                let name = format!("{}, MB", pair.ours.0);
                println!(
                    "{name:<42}{most:>8.0}{megabytes:>9.1}{}",
                    mark(megabytes < most)
                );
            }
        }
        reached
    }
}

impl Pair {
    /// The median of the rounds' ratios: what slows a whole round slows both.
    pub fn ratio(&self) -> f64 {
        let rounds = self.ours.1.iter().zip(&self.theirs.1);
        median(
            rounds
                .map(|(ours, theirs)| ours.rate / theirs.rate)
                .collect(),
        )
    }
}

fn mark(reached: bool) -> &'static str {
    if reached { "" } else { "  MISSED" }
}

fn row(pair: &str, (name, samples, megabytes): &Measured) {
    let of = |pick: fn(&Sample) -> f64| median(samples.iter().map(pick).collect());
    let megabytes = megabytes.map_or("-".to_owned(), |megabytes| format!("{megabytes:.1}"));
    println!(
        "{pair:<28}{name:<16}{:>10.0}{:>9.2}{:>9.2}{megabytes:>8}",
        of(|sample| sample.rate),
        of(|sample| sample.p50 / 1000.0),
        of(|sample| sample.p99 / 1000.0),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
