//! Overview: zones, rates and, where there is room, a small table of everything else.

use pagemill::units::PAGE_SIZE;
use pagemill_status::snapshots::{AllocatorStatus, PoolStatus, ZoneStatus};
use ratatui::text::{Line, Span};

use super::{Look, accounts, chosen, figures, heading, section, with_note};
use crate::top::format::{bytes, count, pages};
use crate::top::rates::Rates;
use crate::top::table::{Cell, TextTable};

/// Figures of a section where there is no room for tables.
const NR_FIGURES: usize = 6;
/// Rows of each table.
const NR_ROWS: usize = 8;

/// Returns the lines of the overview.
pub(super) fn lines(rates: &Rates, look: Look<'_>) -> Vec<Line<'static>> {
    let mut parts = Vec::new();
    for (index, allocator) in rates.now.allocators.iter().enumerate() {
        let free: u64 = allocator.zones.iter().map(|zone| zone.free + in_lists(zone)).sum();
        let managed: u64 = allocator.zones.iter().map(|zone| zone.managed).sum();
        let name = &allocator.name;
        let (free, managed) = (pages(free), pages(managed));
        let mut part = vec![heading(format!("{name}: {free} of {managed} free"), look)];
        part.extend(zones(allocator, look));
        parts.push(part);
        parts.push(page_rates(rates, index, look));
    }
    if rates.now.allocators.is_empty() {
        parts.push(vec![Line::from("The process reports no allocator.")]);
    }
    let small = Look { nr_rows_max: NR_ROWS, ..look };
    if look.is_tall {
        parts.push(pools(rates, small));
        parts.push(accounts(&rates.now, small));
    }
    for it in rates.now.sections.iter().filter(|it| !it.is_detail && !it.figures.is_empty()) {
        let mut part = vec![heading(it.title.clone(), look)];
        part.extend(match look.is_tall {
            true => section(rates, it, small),
            false => figures(rates, it, NR_FIGURES, look),
        });
        parts.push(part);
    }
    parts.retain(|part| !part.is_empty());
    parts.join(&Line::default())
}

/// Returns a line for each page pool.
fn pools(rates: &Rates, look: Look<'_>) -> Vec<Line<'static>> {
    if rates.now.pools.is_empty() {
        return Vec::new();
    }
    let numbers = ["in flight", "size", "from cache/s", "from allocator/s", "recycled/s"];
    let mut table = TextTable::new(&["pool"], &numbers);
    let (pools, note) = chosen(rates.now.pools.iter().collect(), |_| false, look);
    for pool in pools {
        let pool: &PoolStatus = pool;
        let rate = |counters: &[&str]| {
            let rates = counters.iter().map(|name| rates.pool_rate(&pool.name, name));
            rates.sum::<Option<f64>>().map_or(String::from("-"), count).into()
        };
        table.push(vec![
            pool.name.clone().into(),
            count(pool.inflight as f64).into(),
            Cell::styled(pages(pool.inflight), look.theme.strong()),
            rate(&["rx_pp_alloc_fast"]),
            rate(&["rx_pp_alloc_slow", "rx_pp_alloc_slow_ho"]),
            rate(&["rx_pp_recycle_cached", "rx_pp_recycle_ring"]),
        ]);
    }
    let mut lines = vec![heading("Page pools", look)];
    lines.extend(with_note(&table, note, look));
    lines
}

fn in_lists(zone: &ZoneStatus) -> u64 {
    zone.pagesets.iter().map(|list| list.count).sum()
}

/// Returns a line for each zone: how much is free, as a bar in which the low watermark is marked.
fn zones(allocator: &AllocatorStatus, look: Look<'_>) -> Vec<Line<'static>> {
    let theme = look.theme;
    let state = |zone: &ZoneStatus| match zone.free {
        free if free < zone.min => ("below min", theme.bad()),
        free if free < zone.low => ("below low", theme.warning()),
        _ => ("", theme.good()),
    };
    let is_short = allocator.zones.iter().any(|zone| !state(zone).0.is_empty());
    let texts: &[&str] = if is_short { &["node zone", "free", ""] } else { &["node zone", "free"] };
    let numbers = ["free %", "free", "size", "in lists", "low", "min", "high"];
    let mut table = TextTable::new(texts, &numbers);
    // Beside it, there are at least all numbers but the last two.
    let others = if look.width < 100 { 66 } else { 86 } + if is_short { 11 } else { 0 };
    let bar_width = look.width.saturating_sub(others).clamp(8, 60);
    for zone in &allocator.zones {
        let share = |pages: u64| pages as f64 / zone.managed.max(1) as f64;
        let (word, style) = state(zone);
        let mut cells = vec![
            format!("{:4} {}", zone.node, zone.zone).into(),
            Cell::styled(theme.bar(bar_width, share(zone.free), &[share(zone.low)]), style),
        ];
        cells.extend(is_short.then(|| Cell::styled(word, style)));
        cells.push(Cell::styled(format!("{:.0} %", share(zone.free) * 100.0), style));
        cells.push(Cell::styled(pages(zone.free), theme.strong()));
        let rest = [zone.managed, in_lists(zone), zone.low, zone.min, zone.high];
        cells.extend(rest.map(|nr| Cell::from(pages(nr))));
        table.push(cells);
    }
    table.lines(look.width, theme, look.sideways)
}

/// Returns the rates of pages of an allocator, with their history.
fn page_rates(rates: &Rates, index: usize, look: Look<'_>) -> Vec<Line<'static>> {
    let theme = look.theme;
    let rate = |is_of: &dyn Fn(&str) -> bool| rates.vmstat_rate(index, is_of);
    let allocated = rate(&|name| name.starts_with("pgalloc"));
    let Some(allocated) = allocated else {
        return vec![Line::styled("  No rates yet: they need two snapshots.", theme.faint())];
    };
    let freed = rate(&|name| name == "pgfree").unwrap_or(0.0);
    let remote = rate(&|name| name == "numa_other").unwrap_or(0.0);
    let miss = rate(&|name| name == "numa_miss").unwrap_or(0.0);
    let sums = |of: fn(&(f64, f64)) -> f64| {
        // The history is of all allocators together.
        let is_alone = rates.now.allocators.len() == 1;
        let width = if is_alone { look.width.saturating_sub(56).min(120) } else { 0 };
        theme.sparkline(width, rates.history.iter().map(of))
    };
    let line = |title: &str, rate: f64, history: String| {
        let size = bytes(rate * PAGE_SIZE as f64);
        Line::from(vec![
            Span::raw(format!("  {title:<26}")),
            Span::styled(format!("{:>8}/s", count(rate)), theme.strong()),
            Span::raw(format!("  {size:>9}/s  ")),
            Span::styled(history, theme.good()),
        ])
    };
    vec![
        line("pages allocated", allocated, sums(|it| it.0)),
        line("pages freed", freed, sums(|it| it.1)),
        line("from another node", remote, String::new()),
        line("not from the wanted node", miss, String::new()),
    ]
}
