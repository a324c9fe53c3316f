//! Table of `bench bulk` for people.

use core::fmt::{self, Display};

use super::context::Context;
use super::sentence::saved_percent;
use crate::{Operation, Results, Row, Shape};

/// Returns the circumstances, and a table for each shape.
pub fn bulk(context: &Context, results: &Results) -> String {
    Tables { context, results }.to_string()
}

struct Tables<'a> {
    context: &'a Context,
    results: &'a Results,
}

impl Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)?;
        for shape in self.results.shapes() {
            writeln!(f)?;
            self.table(f, shape)?;
        }
        Ok(())
    }
}

impl Tables<'_> {
    fn table(&self, f: &mut fmt::Formatter<'_>, shape: Shape) -> fmt::Result {
        match shape {
            Shape::Ping => {
                writeln!(
                    f,
                    "ping: allocate N, free N, again and again; pages of the CPU's own list"
                )?;
            }
            Shape::Burst => {
                let nr = self.context.experiment.burst_pages;
                writeln!(
                    f,
                    "burst: allocate {nr} in batches of N, then free them; pages of the zone"
                )?;
            }
        }
        write!(f, "{:6}", "")?;
        for operation in Operation::ALL {
            write!(f, " | {:^20}", operation.name())?;
        }
        writeln!(f, " |")?;
        write!(f, "{:>6}", "N")?;
        for _ in Operation::ALL {
            write!(f, " | {:>6} {:>6} {:>6}", "alloc", "free", "both")?;
        }
        writeln!(f, " | {:>6} {:>6} {:>6}", "limit", "saved", "spread")?;
        self.results.sizes().try_for_each(|n| self.line(f, shape, n))
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, shape: Shape, n: usize) -> fmt::Result {
        write!(f, "{n:>6}")?;
        let rows = Operation::ALL.map(|operation| self.results.row(shape, operation, n));
        for row in rows.into_iter().flatten() {
            let Row { alloc, free, both, .. } = row;
            write!(f, " | {:>6.2} {:>6.2} {:>6.2}", alloc.median, free.median, both.median)?;
        }
        let limit = self.results.limit(n).map_or(0.0, |row| row.ns.median);
        write!(f, " | {limit:>6.2}")?;
        if let [Some(single), _, Some(array)] = rows {
            let saved = saved_percent(array.both.median, single.both.median);
            write!(f, " {saved:>4.0} %")?;
        }
        let spreads = rows.into_iter().flatten().map(|row| row.both.relative());
        let spread = spreads.fold(0.0, f64::max) * 100.0;
        writeln!(f, " {spread:>4.0} %")
    }
}

impl<E> Context<E> {
    /// Writes the machine, the clock and the arena, for any experiment.
    pub fn circumstances(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, batch) = (self.pcp_high, self.pcp_batch);
        writeln!(f, "machine  {}", self.machine)?;
        writeln!(f, "arena    {}, {}", self.arena, self.arena_kind)?;
        writeln!(f, "lists    a CPU keeps up to {high} pages, and fetches {batch} at first")?;
        write!(f, "clock    ")?;
        match self.clock.tsc_hz() {
            Some(hz) => write!(f, "time stamp counter, {:.3} ticks per ns", hz as f64 / 1e9)?,
            None => write!(f, "the system's monotonic clock")?,
        }
        writeln!(f, "; reading it costs {:.0} ns, taken off", self.clock.overhead_ns())
    }
}

impl Display for Context {
    /// Writes the circumstances, and how to read the tables that follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.circumstances(f)?;
        let (experiment, high) = (&self.experiment, self.pcp_high);
        let cpus: Vec<String> = experiment.cpus.iter().map(ToString::to_string).collect();
        writeln!(f, "threads  {}, on CPU {}", cpus.len(), cpus.join(", "))?;
        writeln!(f)?;
        writeln!(f, "ns per page{}; medians of {} runs.", per_thread(cpus.len()), experiment.runs)?;
        writeln!(f, "limit: copying N handles there and back; saved: by array, of single;")?;
        writeln!(f, "spread: from the fastest run to the slowest, the widest of the three.")?;
        if experiment.sizes.iter().any(|&n| n > high) {
            writeln!(
                f,
                "N above {high} exceeds the list of a CPU: a larger --arena has longer ones."
            )?;
        }
        Ok(())
    }
}

fn per_thread(nr_threads: usize) -> &'static str {
    if nr_threads > 1 { " and thread" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::results;
    use crate::report::context::samples;

    #[test]
    fn circumstances_come_first() {
        let text = bulk(&samples::context(), &results::samples::results());
        for part in [
            "machine  Mill 1\n",
            "arena    64 MiB, anonymous, base pages\n",
            "up to 32 pages",
            "threads  2, on CPU 0, 3\n",
            "ns per page and thread; medians of 9 runs",
            "N above 32 exceeds the list of a CPU",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn each_shape_has_a_table_of_aligned_columns() {
        let text = bulk(&samples::context(), &results::samples::results());
        let (_, tables) = text.split_once("\nping: ").unwrap();
        let lines: Vec<&str> = tables.lines().filter(|line| line.contains('|')).collect();
        assert_eq!(lines.len(), 2 * (2 + 3));
        let bars =
            |line: &str| -> Vec<usize> { line.match_indices('|').map(|(at, _)| at).collect() };
        assert!(lines.iter().all(|line| bars(line) == bars(lines[0])), "{tables}");
        assert_eq!(
            lines[4].split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            "64 | 11.00 11.00 22.00 | 1.19 1.19 2.38 | 1.14 1.14 2.28 | 0.52 90 % 30 %"
        );
    }
}
