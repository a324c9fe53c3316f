//! Screen: the state of the live view, what keys do, and how it is drawn.

use core::time::Duration;

use pagemill_status::errors::FetchError;
use pagemill_status::{Process, Snapshot};
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::format::{shortened, time};
use super::rates::Rates;
use super::table::{Cell, Sideways, TextTable};
use super::theme::Theme;
use super::views::{Look, View};
use crate::output::one_line;

/// Lines from which on the overview has room for tables.
const TALL: usize = 40;

/// The smallest screen that figures fit on.
const MIN_SIZE: (u16, u16) = (40, 12);

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing but what the screen has done.
    None,
    /// To end.
    Quit,
    /// To watch another process.
    Watch(Process),
    /// To choose another process.
    Choose,
}

/// What is known of the watched process.
#[derive(Debug)]
enum State {
    /// Nothing yet.
    Waiting,
    /// It replies.
    Alive,
    /// It has not replied, for this reason.
    Silent(String),
    /// It has ended.
    Ended,
}

/// Where a screen shows not everything.
#[derive(Clone, Copy, Debug)]
struct More {
    below: bool,
    right: bool,
}

/// The screen.
#[derive(Debug)]
pub(crate) struct Screen {
    theme: Theme,
    interval: Duration,
    /// The processes to choose from; `None` while one is watched.
    choices: Option<Vec<Process>>,
    selected: usize,
    /// Whether one can go back to the choice.
    has_choice: bool,
    state: State,
    rates: Option<Rates>,
    view: View,
    scroll: usize,
    sideways: Sideways,
    shows_empty: bool,
    sorted_by: Option<usize>,
    is_paused: bool,
    shows_help: bool,
}

impl Screen {
    /// Makes a screen that waits for the first snapshot of a process.
    pub(crate) fn new(theme: Theme, interval: Duration) -> Self {
        Self {
            theme,
            interval,
            choices: None,
            selected: 0,
            has_choice: false,
            state: State::Waiting,
            rates: None,
            view: View::Overview,
            scroll: 0,
            sideways: Sideways::default(),
            shows_empty: false,
            sorted_by: None,
            is_paused: false,
            shows_help: false,
        }
    }

    /// Lets the person choose among processes, or shows the present ones.
    pub(crate) fn choose(&mut self, processes: Vec<Process>) {
        self.selected = self.selected.min(processes.len().saturating_sub(1));
        self.choices = Some(processes);
        self.has_choice = true;
    }

    /// Tells whether a process is being chosen.
    pub(crate) fn is_choosing(&self) -> bool {
        self.choices.is_some()
    }

    /// Begins to show another process.
    pub(crate) fn watch(&mut self) {
        let has_choice = self.has_choice;
        *self = Self { has_choice, ..Self::new(self.theme, self.interval) };
    }

    /// Takes what the watched process replied.
    pub(crate) fn take(&mut self, sample: Result<Snapshot, FetchError>) {
        match sample {
            Ok(snapshot) => {
                self.state = State::Alive;
                if self.is_paused {
                    return;
                }
                match &mut self.rates {
                    Some(rates) => rates.advance(snapshot),
                    None => self.rates = Some(Rates::new(snapshot)),
                }
            }
            Err(FetchError::Gone { .. }) if self.rates.is_some() => self.state = State::Ended,
            Err(error) => self.state = State::Silent(one_line(&error.into())),
        }
    }

    /// Does what a key asks for, or returns what is left to do.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // Ctrl-C is a key where another one sends SIGINT.
            let quits = matches!(key.code, KeyCode::Char('c' | 'd'));
            return if quits { Action::Quit } else { Action::None };
        }
        if core::mem::take(&mut self.shows_help) {
            return if key.code == KeyCode::Char('q') { Action::Quit } else { Action::None };
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.shows_help = true,
            _ if self.is_choosing() => return self.press_choosing(key.code),
            KeyCode::Esc | KeyCode::Backspace => return Action::Choose,
            KeyCode::Right | KeyCode::Tab | KeyCode::Char('l') => self.turn(1),
            KeyCode::Left | KeyCode::BackTab => self.turn(-1),
            KeyCode::Char(digit @ '1'..='9') => self.turn_to(digit as usize - '1' as usize),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            // Drawing limits it.
            KeyCode::End | KeyCode::Char('G') => self.scroll = usize::MAX,
            KeyCode::Char('>' | '.') => self.sideways.skipped += 1,
            KeyCode::Char('<' | ',') => {
                self.sideways.skipped = self.sideways.skipped.saturating_sub(1);
            }
            KeyCode::Char('e') => self.shows_empty = !self.shows_empty,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sort(),
            _ => {}
        }
        Action::None
    }

    fn press_choosing(&mut self, key: KeyCode) -> Action {
        let choices = self.choices.as_deref().unwrap_or_default();
        match key {
            KeyCode::Down | KeyCode::Char('j') => {
                self.selected = (self.selected + 1).min(choices.len().saturating_sub(1));
            }
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Enter | KeyCode::Right => {
                if let Some(process) = choices.get(self.selected) {
                    return Action::Watch(process.clone());
                }
            }
            KeyCode::Esc => return Action::Quit,
            _ => {}
        }
        Action::None
    }

    fn views(&self) -> Vec<View> {
        self.rates.as_ref().map_or(vec![View::Overview], |rates| View::all(&rates.now))
    }

    fn turn(&mut self, step: isize) {
        let views = self.views();
        let at = views.iter().position(|view| *view == self.view).unwrap_or(0);
        let nr = views.len();
        self.turn_to((at + nr).wrapping_add_signed(step) % nr);
    }

    fn turn_to(&mut self, index: usize) {
        if let Some(view) = self.views().into_iter().nth(index) {
            self.view = view;
            (self.scroll, self.sorted_by, self.sideways.skipped) = (0, None, 0);
        }
    }

    /// Sorts by the next column of numbers, after the last by none.
    fn sort(&mut self) {
        let Some(rates) = &self.rates else { return };
        let nr = self.view.sort_keys(&rates.now).len();
        let next = self.sorted_by.map_or(0, |column| column + 1);
        self.sorted_by = (next < nr).then_some(next);
    }

    /// Draws everything.
    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
            let text = format!(
                "This screen has {} x {} characters; pagemill top needs {} x {}.",
                area.width, area.height, MIN_SIZE.0, MIN_SIZE.1
            );
            let wrapped = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
            return frame.render_widget(wrapped, area);
        }
        let row = |y: u16, height: u16| Rect { x: 0, y, width: area.width, height };
        frame.render_widget(Paragraph::new(self.header(area.width.into())), row(0, 1));
        frame.render_widget(Paragraph::new(self.tabs(area.width.into())), row(1, 1));
        let body = row(3, area.height - 5);
        let (lines, more) = self.body(body.width.into(), body.height.into());
        frame.render_widget(Paragraph::new(lines), body);
        let footer = self.footer(area.width.into(), more);
        frame.render_widget(Paragraph::new(footer), row(area.height - 1, 1));
        if self.shows_help {
            self.draw_help(frame, area);
        }
    }

    /// Returns the process at the left, and its state at the right.
    fn header(&self, width: usize) -> Line<'static> {
        let right = match (&self.state, self.is_paused) {
            _ if self.is_choosing() => Span::raw(""),
            (State::Ended, _) => Span::styled(" ENDED ", self.theme.bad()),
            (State::Silent(_), _) => Span::styled(" NO REPLY ", self.theme.bad()),
            (_, true) => Span::styled(" PAUSED ", self.theme.selected()),
            (State::Waiting, _) => Span::raw("waiting"),
            (State::Alive, _) => {
                Span::styled(format!("every {} s", self.interval.as_secs_f64()), self.theme.faint())
            }
        };
        let left = match (&self.rates, &self.choices) {
            (Some(rates), None) => {
                let process = &rates.now.process;
                let uptime = time(Duration::from_micros(process.uptime_us));
                let room = width.saturating_sub(right.width() + 2);
                let name = shortened(&format!("{} {}", process.program, process.pid), room);
                let room = room - name.chars().count();
                let about = [
                    format!("  version {}, up {uptime}", process.version),
                    format!("  up {uptime}"),
                ];
                let about = about.into_iter().find(|about| about.chars().count() <= room);
                let name = Span::styled(name, self.theme.strong());
                vec![name, Span::raw(about.unwrap_or_default())]
            }
            _ => vec![Span::styled("pagemill top", self.theme.strong())],
        };
        let used: usize = left.iter().map(Span::width).sum::<usize>() + right.width();
        let mut line = Line::from(left);
        line.push_span(Span::raw(" ".repeat(width.saturating_sub(used))));
        line.push_span(right);
        line
    }

    /// Returns the titles of the views, the shown one in reverse.
    fn tabs(&self, width: usize) -> Line<'static> {
        let Some(rates) = self.rates.as_ref().filter(|_| !self.is_choosing()) else {
            return Line::default();
        };
        let views = self.views();
        let at = views.iter().position(|view| *view == self.view).unwrap_or(0);
        let tabs: Vec<_> = views
            .iter()
            .enumerate()
            .map(|(index, view)| {
                let title = shortened(&view.title(&rates.now), 20);
                let style = if index == at { self.theme.selected() } else { self.theme.plain() };
                Span::styled(format!(" {title} "), style)
            })
            .collect();
        // Where they do not fit, the shown one is among those that are shown.
        let mut first = 0;
        let len = |tabs: &[Span<'_>]| tabs.iter().map(Span::width).sum::<usize>();
        while first < at && len(&tabs[first..=at]) > width {
            first += 1;
        }
        Line::from_iter(tabs.into_iter().skip(first))
    }

    /// Returns the lines between header and footer, and where there is more.
    fn body(&mut self, width: usize, height: usize) -> (Vec<Line<'static>>, More) {
        if let Some(choices) = &self.choices {
            let lines = self.choice_lines(choices, width, height);
            return (lines, More { below: false, right: self.sideways.clamp() });
        }
        let mut lines = Vec::new();
        match &self.state {
            State::Alive => {}
            State::Waiting => lines.push(Line::from("Waiting for the process.")),
            State::Silent(why) => {
                lines.extend(
                    wrapped(why, width)
                        .into_iter()
                        .map(|line| Line::styled(line, self.theme.bad())),
                );
                lines.push(Line::default());
            }
            State::Ended => {
                let text = "The process has ended. These are its last figures.";
                let lines_of_text = wrapped(text, width).into_iter();
                lines.extend(lines_of_text.map(|line| Line::styled(line, self.theme.bad())));
                lines.push(Line::default());
            }
        }
        if let Some(rates) = &self.rates {
            let look = Look {
                width,
                theme: self.theme,
                sorted_by: self.sorted_by,
                sideways: &self.sideways,
                shows_empty: self.shows_empty,
                nr_rows_max: usize::MAX,
                is_tall: height >= TALL,
            };
            lines.extend(self.view.lines(rates, look));
        }
        self.scroll = self.scroll.min(lines.len().saturating_sub(height));
        let below = lines.len() > self.scroll + height;
        let lines = lines.into_iter().skip(self.scroll).take(height).collect();
        (lines, More { below, right: self.sideways.clamp() })
    }

    /// Returns the list of processes, and behind it the whole command and the socket of the selected one.
    fn choice_lines(&self, choices: &[Process], width: usize, height: usize) -> Vec<Line<'static>> {
        let mut table =
            TextTable::new(&["process", "up", "user", "command"], &[]).with_long_texts();
        for (index, process) in choices.iter().enumerate() {
            let style =
                if index == self.selected { self.theme.selected() } else { self.theme.plain() };
            let cell = |text: String| Cell::styled(text, style);
            let command =
                if process.command.is_empty() { &process.program } else { &process.command };
            table.push(vec![
                cell(process.pid.to_string()),
                cell(process.age.map_or("-".into(), time)),
                cell(process.user.to_string()),
                cell(command.clone()),
            ]);
        }
        let mut details: Vec<String> = choices.get(self.selected).map_or(Vec::new(), |process| {
            let texts = [&process.command, &process.path.display().to_string()];
            texts.iter().flat_map(|text| wrapped(text, width)).collect()
        });
        details.truncate(height / 3);
        let mut lines = vec![Line::styled("Choose a process", self.theme.heading())];
        let mut rows = table.lines(width, self.theme, &self.sideways);
        let visible = height.saturating_sub(details.len() + 3).max(1);
        let skipped = (self.selected + 1).saturating_sub(visible);
        lines.push(rows.remove(0));
        lines.extend(rows.into_iter().skip(skipped).take(visible));
        if choices.is_empty() {
            lines.push(Line::from("  No process serves its status any more."));
        }
        lines.push(Line::default());
        lines.extend(details.into_iter().map(|line| Line::styled(line, self.theme.faint())));
        lines
    }

    /// Returns the most important keys, as far as they fit.
    fn footer(&self, width: usize, more: More) -> Line<'static> {
        let sort = self.rates.as_ref().and_then(|rates| {
            let keys = self.view.sort_keys(&rates.now);
            let by = self.sorted_by.and_then(|column| keys.get(column).cloned());
            (!keys.is_empty()).then(|| by.map_or("s sort".into(), |by| format!("s sort: {by}")))
        });
        let right = more.right.then_some("> columns");
        let keys: Vec<String> = if self.is_choosing() {
            let keys = ["q quit", "up/down select", "Enter watch"];
            keys.into_iter().chain(right).map(str::to_owned).collect()
        } else {
            let below = more.below.then_some("down more");
            let first = ["q quit", "? help"].into_iter().chain(below).chain(right);
            let all = first.chain(["Tab view", "p pause"]).map(str::to_owned);
            all.chain(sort).collect()
        };
        let mut text = String::new();
        for key in keys {
            let longer = format!("{text}{}{key}", if text.is_empty() { "" } else { "   " });
            if longer.chars().count() > width {
                break;
            }
            text = longer;
        }
        Line::styled(text, self.theme.faint())
    }

    fn draw_help(&self, frame: &mut Frame<'_>, area: Rect) {
        let keys = [
            ("q, Ctrl-C", "quit"),
            ("Tab, right, left, 1-9", "other view"),
            ("up, down, PgUp, PgDn", "scroll"),
            ("<, >", "other columns"),
            ("e", "show empty rows"),
            ("p", "pause, continue"),
            ("s", "next sort column"),
            ("Esc", "other process"),
            ("Ctrl-Z", "to the shell; fg"),
            ("any key", "close help"),
        ];
        let (width, height) = (MIN_SIZE.0 + 2, 12);
        let width = width.min(area.width);
        let box_area =
            Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
        let mut lines = vec![Line::styled(" Keys", self.theme.heading())];
        for (key, what) in keys {
            lines.push(Line::from(vec![
                Span::styled(format!(" {key:<22}"), self.theme.strong()),
                Span::raw(what),
            ]));
        }
        lines.push(Line::default());
        frame.render_widget(Clear, box_area);
        frame.render_widget(Paragraph::new(lines), box_area);
    }
}

/// Returns the words of a text in lines of at most `width` characters. Longer words are broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        let last = lines.last_mut().expect("there is a line");
        if !last.is_empty() && last.chars().count() + 1 + letters.len() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.extend(letters.chunks(width.max(1)).map(|part| part.iter().collect::<String>()));
        }
    }
    if lines.len() > 1 {
        lines.remove(0);
    }
    lines
}

#[cfg(test)]
mod tests;
