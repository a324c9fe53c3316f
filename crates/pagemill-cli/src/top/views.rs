//! Views: what is shown of a snapshot, as lines of text of a given width.

use pagemill::units::PAGE_SIZE;
use pagemill_status::sections::{Kind, Table};
use pagemill_status::snapshots::{AccountStatus, AllocatorStatus, ZoneStatus};
use pagemill_status::{Section, Snapshot};
use ratatui::text::{Line, Span};

use super::format::{bytes, count, pages, quantity};
use super::rates::{Rates, Value};
use super::table::{Cell, TextTable};
use super::theme::Theme;

/// One view of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Zones, rates, and the first figures of each section.
    Overview,
    /// Free blocks, per-CPU lists and shards.
    Lists,
    /// Page pools.
    Pools,
    /// Accounts.
    Accounts,
    /// A section, by name.
    Section(String),
}

/// How views are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Characters of a line.
    pub(crate) width: usize,
    pub(crate) theme: Theme,
    /// The column of numbers by which tables are sorted, the largest first.
    pub(crate) sorted_by: Option<usize>,
    /// Whether the overview has tables too.
    pub(crate) is_tall: bool,
}

/// Figures of a section that the overview shows.
const NR_OVERVIEW_FIGURES: usize = 6;
/// Characters of a figure with its title.
const FIGURE_WIDTH: usize = 38;

impl View {
    /// Returns the views of a process that have something to show.
    pub(crate) fn all(snapshot: &Snapshot) -> Vec<Self> {
        let mut views = vec![Self::Overview, Self::Lists];
        if !snapshot.pools.is_empty() {
            views.push(Self::Pools);
        }
        if snapshot.allocators.iter().any(|it| !it.accounts.is_empty()) {
            views.push(Self::Accounts);
        }
        views.extend(snapshot.sections.iter().map(|it| Self::Section(it.name.clone())));
        views
    }

    /// Returns its title.
    pub(crate) fn title(&self, snapshot: &Snapshot) -> String {
        match self {
            Self::Overview => "Overview".into(),
            Self::Lists => "Lists".into(),
            Self::Pools => "Pools".into(),
            Self::Accounts => "Accounts".into(),
            Self::Section(name) => {
                let section = snapshot.sections.iter().find(|it| it.name == *name);
                section.map_or(name, |it| &it.title).clone()
            }
        }
    }

    /// Returns its lines.
    pub(crate) fn lines(&self, rates: &Rates, look: Look) -> Vec<Line<'static>> {
        match self {
            Self::Overview => overview(rates, look),
            Self::Lists => lists(&rates.now, look),
            Self::Pools => pools(rates, look),
            Self::Accounts => accounts(&rates.now, look),
            Self::Section(name) => match rates.now.sections.iter().find(|it| it.name == *name) {
                Some(it) => section(rates, it, look),
                None => vec![Line::from("The process does not report this any more.")],
            },
        }
    }

    /// Returns the titles of the numbers by which its tables can be sorted.
    pub(crate) fn sort_keys(&self, snapshot: &Snapshot) -> Vec<String> {
        let titles = |titles: &[&str]| titles.iter().map(|&it| it.to_owned()).collect();
        match self {
            Self::Overview | Self::Pools => Vec::new(),
            Self::Lists => titles(&["pages", "high"]),
            Self::Accounts => titles(&["current", "peak", "refused"]),
            Self::Section(name) => {
                let tables = snapshot.sections.iter().filter(|it| it.name == *name);
                let widest = tables.flat_map(|it| &it.tables).max_by_key(|it| it.columns.len());
                widest.map_or(Vec::new(), |table| {
                    table.columns.iter().map(|column| column.name.clone()).collect()
                })
            }
        }
    }
}

fn heading(text: impl Into<String>, look: Look) -> Line<'static> {
    Line::styled(text.into(), look.theme.heading())
}

fn overview(rates: &Rates, look: Look) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (index, allocator) in rates.now.allocators.iter().enumerate() {
        let free: u64 = allocator.zones.iter().map(|zone| zone.free + in_lists(zone)).sum();
        let managed: u64 = allocator.zones.iter().map(|zone| zone.managed).sum();
        let name = &allocator.name;
        let (free, managed) = (pages(free), pages(managed));
        lines.push(heading(format!("{name}: {free} of {managed} free"), look));
        lines.extend(zones(allocator, look));
        lines.push(Line::default());
        lines.extend(page_rates(rates, index, look));
        lines.push(Line::default());
        if look.is_tall {
            lines.extend(free_blocks(allocator, look));
            lines.push(Line::default());
        }
    }
    if rates.now.allocators.is_empty() {
        lines.push(Line::from("The process reports no allocator."));
        lines.push(Line::default());
    }
    if look.is_tall {
        for part in [pools(rates, look), accounts(&rates.now, look)] {
            if !part.is_empty() {
                lines.extend(part);
                lines.push(Line::default());
            }
        }
    }
    for section in rates.now.sections.iter().filter(|it| !it.is_detail && !it.figures.is_empty()) {
        lines.push(heading(section.title.clone(), look));
        if look.is_tall {
            lines.extend(self::section(rates, section, look));
        } else {
            lines.extend(figures(rates, section, NR_OVERVIEW_FIGURES, look));
        }
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

fn in_lists(zone: &ZoneStatus) -> u64 {
    zone.pagesets.iter().map(|list| list.count).sum()
}

/// Returns a line for each zone: how much is free, as a bar in which the low watermark is marked.
fn zones(allocator: &AllocatorStatus, look: Look) -> Vec<Line<'static>> {
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
    table.lines(look.width, theme)
}

/// Returns the rates of pages of an allocator, with their history.
fn page_rates(rates: &Rates, index: usize, look: Look) -> Vec<Line<'static>> {
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

fn lists(snapshot: &Snapshot, look: Look) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for allocator in &snapshot.allocators {
        lines.push(heading(format!("Free blocks of {} by order", allocator.name), look));
        lines.extend(free_blocks(allocator, look));
        lines.push(Line::default());
        lines.push(heading(format!("Per-CPU lists of {}", allocator.name), look));
        lines.extend(pagesets(allocator, look));
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

fn free_blocks(allocator: &AllocatorStatus, look: Look) -> Vec<Line<'static>> {
    let orders: Vec<String> = (0..=10).map(|order| order.to_string()).collect();
    let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
    let mut table = TextTable::new(&["node zone", "type"], &orders);
    for zone in &allocator.zones {
        for kind in &zone.types {
            let blocks = (0..orders.len()).map(|order| {
                let nr = kind.free_blocks.get(order).copied().unwrap_or(0);
                let style = if nr == 0 { look.theme.faint() } else { look.theme.plain() };
                Cell::styled(count(nr as f64), style)
            });
            let name = format!("{:4} {}", zone.node, zone.zone);
            let texts = [Cell::from(name), Cell::from(kind.name.clone())];
            table.push(texts.into_iter().chain(blocks).collect());
        }
    }
    let mut lines = table.lines(look.width, look.theme);
    for zone in allocator.zones.iter().filter(|zone| zone.shards.len() > 1) {
        let free: Vec<String> = zone.shards.iter().map(|&free| pages(free)).collect();
        let text = format!("  {:4} {} shards: {}", zone.node, zone.zone, free.join(", "));
        lines.push(Line::from(super::format::shortened(&text, look.width)));
    }
    lines
}

fn pagesets(allocator: &AllocatorStatus, look: Look) -> Vec<Line<'static>> {
    let mut table = TextTable::new(
        &["cpu", "node zone", "type", "filled"],
        &["order", "pages", "high", "batch"],
    );
    let mut lists: Vec<_> = allocator
        .zones
        .iter()
        .flat_map(|zone| zone.pagesets.iter().map(move |list| (zone, list)))
        // Large blocks of a small zone have no lists.
        .filter(|(_, list)| list.high > 0)
        .collect();
    lists.sort_by_key(|(_, list)| list.cpu);
    match look.sorted_by {
        Some(0) => lists.sort_by_key(|(_, list)| core::cmp::Reverse(list.count)),
        Some(_) => lists.sort_by_key(|(_, list)| core::cmp::Reverse(list.high)),
        None => {}
    }
    let bar_width = if look.width < 70 { 8 } else { 16 };
    for (zone, list) in lists {
        let share = list.count as f64 / list.high.max(1) as f64;
        table.push(vec![
            format!("{:3}", list.cpu).into(),
            format!("{:4} {}", zone.node, zone.zone).into(),
            list.name.clone().into(),
            Cell::styled(look.theme.bar(bar_width, share, &[]), look.theme.good()),
            list.order.to_string().into(),
            list.count.to_string().into(),
            list.high.to_string().into(),
            list.batch.to_string().into(),
        ]);
    }
    table.lines(look.width, look.theme)
}

fn pools(rates: &Rates, look: Look) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for pool in &rates.now.pools {
        let inflight = count(pool.inflight as f64);
        let size = pages(pool.inflight);
        lines
            .push(heading(format!("Pool {}: {inflight} pages in flight, {size}", pool.name), look));
        let mut table = TextTable::new(&["counter"], &["per second", "total"]);
        for (name, total) in pool.counters.iter() {
            let rate = rates.pool_rate(&pool.name, name);
            let name = name.strip_prefix("rx_pp_").unwrap_or(name);
            let rate = rate.map_or(String::from("-"), count);
            table.push(vec![
                name.into(),
                Cell::styled(rate, look.theme.strong()),
                count(total as f64).into(),
            ]);
        }
        lines.extend(table.lines(look.width, look.theme));
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

fn accounts(snapshot: &Snapshot, look: Look) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for allocator in snapshot.allocators.iter().filter(|it| !it.accounts.is_empty()) {
        lines.push(heading(format!("Accounts of {}", allocator.name), look));
        let numbers = ["current", "limit", "peak", "refused", "over high"];
        let mut table = TextTable::new(&["account", "of its limit"], &numbers);
        let bar_width = if look.width < 70 { 8 } else { 20 };
        for (depth, account) in tree(&allocator.accounts, look.sorted_by) {
            let share = account.max.map(|max| account.current as f64 / max.max(1) as f64);
            let style = match share {
                Some(share) if share >= 1.0 => look.theme.bad(),
                Some(share) if share >= 0.9 => look.theme.warning(),
                _ => look.theme.good(),
            };
            let bar = share.map(|share| {
                format!(
                    "{} {:>5}",
                    look.theme.bar(bar_width, share, &[]),
                    format!("{:.0} %", share * 100.0)
                )
            });
            table.push(vec![
                format!("{}{}", "  ".repeat(depth.min(8)), account.number).into(),
                Cell::styled(bar.unwrap_or_default(), style),
                Cell::styled(pages(account.current), look.theme.strong()),
                account.max.map_or("none".into(), pages).into(),
                pages(account.peak).into(),
                count(account.nr_max as f64).into(),
                count(account.nr_high as f64).into(),
            ]);
        }
        lines.extend(table.lines(look.width, look.theme));
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

/// Returns accounts with their depth, each followed by its children; without an order by depth if they
/// are sorted by a number.
fn tree(accounts: &[AccountStatus], sorted_by: Option<usize>) -> Vec<(usize, &AccountStatus)> {
    let key: Option<fn(&AccountStatus) -> u64> = match sorted_by {
        Some(0) => Some(|it| it.current),
        Some(1) => Some(|it| it.peak),
        Some(_) => Some(|it| it.nr_max),
        None => None,
    };
    if let Some(key) = key {
        let mut sorted: Vec<_> = accounts.iter().map(|account| (0, account)).collect();
        sorted.sort_by_key(|(_, account)| core::cmp::Reverse(key(account)));
        return sorted;
    }
    let is_known = |number| accounts.iter().any(|it| it.number == number);
    let mut left: Vec<_> = accounts
        .iter()
        .rev()
        .filter(|it| !it.parent.is_some_and(is_known))
        .map(|account| (0, account))
        .collect();
    let mut shown = Vec::new();
    while let Some((depth, account)) = left.pop() {
        // A peer could send accounts that are each other's parents: none of them is reached.
        shown.push((depth, account));
        let children = accounts.iter().rev().filter(|it| it.parent == Some(account.number));
        left.extend(children.map(|child| (depth + 1, child)));
        if shown.len() >= accounts.len() {
            break;
        }
    }
    shown
}

fn section(rates: &Rates, section: &Section, look: Look) -> Vec<Line<'static>> {
    let mut lines = figures(rates, section, usize::MAX, look);
    for table in &section.tables {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(heading(capitalised(&table.name), look));
        lines.extend(numbers(rates, section, table, look));
    }
    lines
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Returns up to `nr_max` figures of a section, side by side as far as they fit.
fn figures(rates: &Rates, section: &Section, nr_max: usize, look: Look) -> Vec<Line<'static>> {
    let per_line = (look.width / FIGURE_WIDTH).clamp(1, 4);
    let shown: Vec<_> = section.figures.iter().take(nr_max).collect();
    let nr_lines = shown.len().div_ceil(per_line);
    let one = |figure: &pagemill_status::sections::Figure| {
        let rate = rates.figure_rate(section, &figure.name);
        let (value, per) = match (figure.kind, rate) {
            (Kind::Counter, Some(rate)) => (rate, "/s"),
            _ => (figure.value as f64, ""),
        };
        let value = format!("{:>10}{per:2}", quantity(value, figure.unit));
        let title_width = FIGURE_WIDTH.min(look.width).saturating_sub(4 + 12);
        let title = super::format::shortened(&figure.name.replace('_', " "), title_width);
        [
            Span::raw(format!("  {title:<title_width$}")),
            Span::styled(value, look.theme.strong()),
            Span::raw("  "),
        ]
    };
    // Column by column, so that related figures stay below each other.
    let line = |row: usize| {
        let of_row = shown.iter().skip(row).step_by(nr_lines.max(1));
        Line::from_iter(of_row.flat_map(|figure| one(figure)))
    };
    (0..nr_lines).map(line).collect()
}

/// Returns a table of a section.
fn numbers(rates: &Rates, section: &Section, table: &Table, look: Look) -> Vec<Line<'static>> {
    let mut rows: Vec<(&Vec<String>, Vec<Value>)> = table
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (&row.labels, rates.row_values(section, table, index)))
        .collect();
    if rows.is_empty() {
        return vec![Line::styled("  none", look.theme.faint())];
    }
    if let Some(column) = look.sorted_by.filter(|&column| column < table.columns.len()) {
        let key = |values: &[Value]| values.get(column).map_or(0.0, |value| value.number());
        rows.sort_by(|(_, one), (_, other)| key(other).total_cmp(&key(one)));
    }
    let is_rate = |column: usize| {
        rows.iter().any(|(_, values)| matches!(values.get(column), Some(Value::Rate(_))))
    };
    let titles: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let mark = if look.sorted_by == Some(index) { "*" } else { "" };
            let per = if is_rate(index) { "/s" } else { "" };
            format!("{mark}{}{per}", column.name)
        })
        .collect();
    let labels: Vec<&str> = table.labels.iter().map(String::as_str).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut text = TextTable::new(&labels, &titles).with_long_texts();
    for (labels, values) in &rows {
        // A peer may send rows that are too short.
        let labels = (0..table.labels.len())
            .map(|index| Cell::from(labels.get(index).cloned().unwrap_or_default()));
        let values = table.columns.iter().enumerate().map(|(index, column)| {
            let value = values.get(index).copied().unwrap_or(Value::Total(0.0));
            let style = if value.number() == 0.0 { look.theme.faint() } else { look.theme.plain() };
            Cell::styled(quantity(value.number(), column.unit), style)
        });
        text.push(labels.chain(values).collect());
    }
    text.lines(look.width, look.theme)
}
