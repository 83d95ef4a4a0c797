//! Work in steps: a line when one starts, a line with its seconds when it ends.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps so far and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step and says so on stderr.
    ///
    /// # Errors
    /// The step's own.
    pub(crate) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("● {name}");
        let started = Instant::now();
        let result = work();
        let took = started.elapsed();
        self.done.push((name.to_owned(), took));
        match &result {
            Ok(_) => eprintln!("  done, {:.1} s", took.as_secs_f64()),
            Err(_) => eprintln!("  failed after {:.1} s", took.as_secs_f64()),
        }
        result
    }

    /// Minutes per step, as a table.
    pub(crate) fn minutes(&self) -> String {
        let width = self.done.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let row = |(name, took): &(String, Duration)| {
            format!("  {name:width$}  {:6.2}\n", took.as_secs_f64() / 60.0)
        };
        let total = self.done.iter().map(|(_, took)| took).sum();
        self.done.iter().map(row).chain([row(&("in all".to_owned(), total))]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_table() {
        let steps = Steps {
            done: vec![("fmt".into(), Duration::from_secs(3)), ("clippy".into(), Duration::from_secs(90))],
        };
        assert_eq!(steps.minutes(), "  fmt       0.05\n  clippy    1.50\n  in all    1.55\n");
    }

    #[test]
    fn a_failed_step_is_counted_too() {
        let mut steps = Steps::default();
        assert!(steps.run("breaks", || Err::<(), _>(anyhow::anyhow!("no"))).is_err());
        assert!(steps.minutes().contains("breaks"));
    }
}
