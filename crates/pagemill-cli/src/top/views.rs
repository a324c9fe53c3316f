//! Views: what is shown of a snapshot, as lines of text of a given width.

mod overview;

use pagemill_status::sections::{Figure, Kind, Table};
use pagemill_status::snapshots::{AccountStatus, AllocatorStatus, PagesetStatus, TypeStatus};
use pagemill_status::{Section, Snapshot};
use ratatui::text::{Line, Span};

use super::format::{count, pages, quantity};
use super::rates::{Rates, Value};
use super::table::{Cell, Sideways, TextTable};
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
pub(crate) struct Look<'a> {
    /// Characters of a line.
    pub(crate) width: usize,
    pub(crate) theme: Theme,
    /// The column of numbers by which tables are sorted, the largest first.
    pub(crate) sorted_by: Option<usize>,
    /// How far tables are scrolled sideways.
    pub(crate) sideways: &'a Sideways,
    /// Whether rows of zeros are shown too.
    pub(crate) shows_empty: bool,
    /// The most rows of a table.
    pub(crate) nr_rows_max: usize,
    /// Whether the overview has tables too.
    pub(crate) is_tall: bool,
}

/// The fewest characters of a figure with its title.
const FIGURE_WIDTH: usize = 38;
/// Characters of the number of a figure, with the gaps around it.
const VALUE_WIDTH: usize = 16;

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
    pub(crate) fn lines(&self, rates: &Rates, look: Look<'_>) -> Vec<Line<'static>> {
        match self {
            Self::Overview => overview::lines(rates, look),
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

fn heading(text: impl Into<String>, look: Look<'_>) -> Line<'static> {
    Line::styled(text.into(), look.theme.heading())
}

/// Returns the rows to show, and a line that says how many are not shown: those that are empty, and those
/// behind the first [`Look::nr_rows_max`].
fn chosen<T>(
    mut rows: Vec<T>,
    is_empty: impl Fn(&T) -> bool,
    look: Look<'_>,
) -> (Vec<T>, Option<Line<'static>>) {
    let nr = rows.len();
    rows.retain(|row| look.shows_empty || !is_empty(row));
    let nr_empty = nr - rows.len();
    let nr_more = rows.len().saturating_sub(look.nr_rows_max);
    rows.truncate(look.nr_rows_max);
    let notes = [
        (nr_empty > 0).then(|| format!("{nr_empty} empty hidden; e shows them")),
        (nr_more > 0).then(|| format!("{nr_more} more in their own view")),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    let note = format!("  {}", notes.join("; "));
    (rows, (!notes.is_empty()).then(|| Line::styled(note, look.theme.faint())))
}

/// Returns the lines of a table, if it has rows, and then `note`.
fn with_note(table: &TextTable, note: Option<Line<'static>>, look: Look<'_>) -> Vec<Line<'static>> {
    let mut lines = match table.is_empty() {
        true => Vec::new(),
        false => table.lines(look.width, look.theme, look.sideways),
    };
    lines.extend(note);
    lines
}

fn lists(snapshot: &Snapshot, look: Look<'_>) -> Vec<Line<'static>> {
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

fn free_blocks(allocator: &AllocatorStatus, look: Look<'_>) -> Vec<Line<'static>> {
    let orders: Vec<String> = (0..=10).map(|order| order.to_string()).collect();
    let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
    let mut table = TextTable::new(&["node zone    type"], &orders);
    let types = allocator.zones.iter().flat_map(|zone| zone.types.iter().map(move |it| (zone, it)));
    let is_empty = |(_, kind): &(_, &TypeStatus)| kind.free_blocks.iter().all(|&nr| nr == 0);
    let (types, note) = chosen(types.collect(), is_empty, look);
    for (zone, kind) in types {
        let blocks = (0..orders.len()).map(|order| {
            let nr = kind.free_blocks.get(order).copied().unwrap_or(0);
            let style = if nr == 0 { look.theme.faint() } else { look.theme.plain() };
            Cell::styled(count(nr as f64), style)
        });
        let name = format!("{:4} {:7} {}", zone.node, zone.zone, kind.name);
        table.push(core::iter::once(name.into()).chain(blocks).collect());
    }
    let mut lines = with_note(&table, note, look);
    for zone in allocator.zones.iter().filter(|zone| zone.shards.len() > 1) {
        let free: Vec<String> = zone.shards.iter().map(|&free| pages(free)).collect();
        let text = format!("  {:4} {} shards: {}", zone.node, zone.zone, free.join(", "));
        lines.push(Line::from(super::format::shortened(&text, look.width)));
    }
    lines
}

fn pagesets(allocator: &AllocatorStatus, look: Look<'_>) -> Vec<Line<'static>> {
    let mut table =
        TextTable::new(&["cpu node zone    type", "filled"], &["order", "pages", "high", "batch"]);
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
    let is_empty = |(_, list): &(_, &PagesetStatus)| list.count == 0;
    let (lists, note) = chosen(lists, is_empty, look);
    let bar_width = if look.width < 70 { 6 } else { 16 };
    for (zone, list) in lists {
        let share = list.count as f64 / list.high.max(1) as f64;
        table.push(vec![
            format!("{:3} {:4} {:7} {}", list.cpu, zone.node, zone.zone, list.name).into(),
            Cell::styled(look.theme.bar(bar_width, share, &[]), look.theme.good()),
            list.order.to_string().into(),
            list.count.to_string().into(),
            list.high.to_string().into(),
            list.batch.to_string().into(),
        ]);
    }
    with_note(&table, note, look)
}

fn pools(rates: &Rates, look: Look<'_>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for pool in &rates.now.pools {
        let inflight = count(pool.inflight as f64);
        let size = pages(pool.inflight);
        lines
            .push(heading(format!("Pool {}: {inflight} pages in flight, {size}", pool.name), look));
        let mut table = TextTable::new(&["counter"], &["per second", "total"]);
        let is_empty = |(_, total): &(_, u64)| *total == 0;
        let (counters, note) = chosen(pool.counters.iter().collect(), is_empty, look);
        for (name, total) in counters {
            let rate = rates.pool_rate(&pool.name, name);
            let name = name.strip_prefix("rx_pp_").unwrap_or(name);
            let rate = rate.map_or(String::from("-"), count);
            table.push(vec![
                name.into(),
                Cell::styled(rate, look.theme.strong()),
                count(total as f64).into(),
            ]);
        }
        lines.extend(with_note(&table, note, look));
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

fn accounts(snapshot: &Snapshot, look: Look<'_>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for allocator in snapshot.allocators.iter().filter(|it| !it.accounts.is_empty()) {
        lines.push(heading(format!("Accounts of {}", allocator.name), look));
        let numbers = ["current", "limit", "peak", "refused", "over high"];
        let mut table = TextTable::new(&["account", "of its limit"], &numbers);
        let bar_width = if look.width < 70 { 8 } else { 20 };
        let shown = tree(&allocator.accounts, look.sorted_by);
        // A parent of one that has pages has pages too.
        let is_empty = |(_, account): &(_, &AccountStatus)| account.current == 0;
        let (shown, note) = chosen(shown, is_empty, look);
        for (depth, account) in shown {
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
        lines.extend(with_note(&table, note, look));
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

fn section(rates: &Rates, section: &Section, look: Look<'_>) -> Vec<Line<'static>> {
    let mut lines = match section.is_detail {
        true => figure_table(rates, section, look),
        false => figures(rates, section, usize::MAX, look),
    };
    for table in &section.tables {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(heading(capitalised(&table.name), look));
        lines.extend(numbers(rates, section, table, look));
    }
    lines
}

/// Returns the title of a figure.
fn title(figure: &Figure) -> String {
    figure.title.clone().unwrap_or_else(|| figure.name.replace('_', " "))
}

/// Returns all figures of a section below each other, counters also with what they count since the start.
fn figure_table(rates: &Rates, section: &Section, look: Look<'_>) -> Vec<Line<'static>> {
    let (figures, note) =
        chosen(section.figures.iter().collect(), |it: &&Figure| it.value == 0, look);
    let mut table = TextTable::new(&["counter"], &["per second", "total"]).with_long_texts();
    for figure in figures {
        let rate =
            rates.figure_rate(section, &figure.name).filter(|_| figure.kind == Kind::Counter);
        table.push(vec![
            title(figure).into(),
            Cell::styled(
                rate.map_or("-".into(), |rate| quantity(rate, figure.unit)),
                look.theme.strong(),
            ),
            quantity(figure.value as f64, figure.unit).into(),
        ]);
    }
    with_note(&table, note, look)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Returns up to `nr_max` figures of a section, side by side as far as they fit.
fn figures(rates: &Rates, section: &Section, nr_max: usize, look: Look<'_>) -> Vec<Line<'static>> {
    let shown: Vec<_> = section.figures.iter().take(nr_max).collect();
    let longest = shown.iter().map(|figure| title(figure).chars().count()).max();
    let figure_width = FIGURE_WIDTH.max(longest.unwrap_or(0) + VALUE_WIDTH).min(look.width);
    let per_line = (look.width / figure_width.max(1)).clamp(1, 4);
    let nr_lines = shown.len().div_ceil(per_line);
    let one = |figure: &Figure| {
        let rate = rates.figure_rate(section, &figure.name);
        let (value, per) = match (figure.kind, rate) {
            (Kind::Counter, Some(rate)) => (rate, "/s"),
            _ => (figure.value as f64, ""),
        };
        let value = format!("{:>10}{per:2}", quantity(value, figure.unit));
        let title_width = figure_width.saturating_sub(VALUE_WIDTH);
        let title = super::format::shortened(&title(figure), title_width);
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
fn numbers(rates: &Rates, section: &Section, table: &Table, look: Look<'_>) -> Vec<Line<'static>> {
    let mut rows: Vec<(&Vec<String>, Vec<Value>)> = table
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (&row.labels, rates.row_values(section, table, index)))
        .collect();
    if rows.is_empty() {
        return vec![Line::styled("  none", look.theme.faint())];
    }
    // Where not all rows are shown, those with the largest numbers are.
    let sorted_by = look.sorted_by.or((rows.len() > look.nr_rows_max).then_some(0));
    if let Some(column) = sorted_by.filter(|&column| column < table.columns.len()) {
        let key = |values: &[Value]| values.get(column).map_or(0.0, |value| value.number());
        rows.sort_by(|(_, one), (_, other)| key(other).total_cmp(&key(one)));
    }
    let (rows, note) = chosen(rows, |_| false, look);
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
    with_note(&text, note, look)
}
