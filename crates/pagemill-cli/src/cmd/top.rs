//! `pagemill top`: shows a process that serves its status.

use alloc::sync::Arc;
use core::time::Duration;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use pagemill_status::{Process, Snapshot, fetch, processes};
use ratatui::crossterm::event::{Event, KeyEventKind};
use serde::Serialize;
use signal_hook::consts::SIGTSTP;
use signal_hook::flag;

use crate::args::top::TopArgs;
use crate::interrupt::Interrupt;
use crate::output;
use crate::top::format;
use crate::top::rates::Rates;
use crate::top::sampler::{FETCH_LIMIT, Sampler};
use crate::top::screen::{Action, Screen};
use crate::top::table::Sideways;
use crate::top::terminal::{OwnTerminal, is_interactive};
use crate::top::theme::Theme;
use crate::top::views::{Look, View};
use crate::usage::UsageError;

/// How long to wait for a key before looking for a snapshot.
const LOOK: Duration = Duration::from_millis(100);
/// How often to look for processes while one is chosen, in looks for a snapshot.
const LOOKS_PER_SEARCH: u32 = 10;
/// The number of the schema of the JSON; it rises where a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// A snapshot as `--json` writes it.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

/// What was found of what was asked for.
enum Target {
    One(PathBuf),
    Several(Vec<Process>),
}

/// Shows a process, live or once.
///
/// # Errors
/// There is no such process, it does not reply, or several of them could be meant.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<()> {
    let target = find(args)?;
    let is_live = !args.once && !args.json && is_interactive();
    match target {
        target if is_live => live(target, args.interval),
        Target::One(path) => {
            let snapshot = fetch(&path, FETCH_LIMIT)?;
            let text = match args.json {
                true => {
                    output::json(&Document { schema_version: SCHEMA_VERSION, snapshot: &snapshot })?
                }
                false => once(snapshot),
            };
            Ok(output::print(&text)?)
        }
        Target::Several(processes) => {
            let one = |process: &Process| {
                let age = process.age.map(|age| format!(", up {}", format::time(age)));
                let (pid, program) = (process.pid, &process.program);
                let age = age.unwrap_or_default();
                format!("pagemill top {pid} shows {program}{age}: {}", process.command)
            };
            let first = "several processes serve their status: name one".to_owned();
            let lines = core::iter::once(first).chain(processes.iter().map(one)).collect();
            Err(UsageError::of_lines(lines).into())
        }
    }
}

/// Looks for the process.
fn find(args: &TopArgs) -> anyhow::Result<Target> {
    if let Some(path) = &args.socket {
        return Ok(Target::One(path.clone()));
    }
    let mut processes = processes();
    if let Some(pid) = args.pid {
        let found = processes.into_iter().find(|process| process.pid == pid);
        return found.map(|process| Target::One(process.path)).with_context(|| {
            format!(
                "no process {pid} serves its status to this user: it has ended, is another user's, or \
                 was started without a status socket (pagemill top --socket PATH names one)"
            )
        });
    }
    match processes.len() {
        0 => Err(anyhow!(
            "no process serves its status to this user: start pagemill nfsd or pagemill xdp, or a \
             program that uses the crate pagemill-status"
        )),
        1 => Ok(Target::One(processes.remove(0).path)),
        _ => Ok(Target::Several(processes)),
    }
}

/// Returns all views of a snapshot as text.
fn once(snapshot: Snapshot) -> String {
    let rates = Rates::new(snapshot);
    let process = &rates.now.process;
    let uptime = format::time(Duration::from_micros(process.uptime_us));
    let mut text = format!(
        "{} {}, process {}, up {uptime}; counters since its start\n",
        process.program, process.version, process.pid
    );
    let theme = Theme { colours: false, ..Theme::detect() };
    let look = Look {
        // Nothing is left out.
        width: usize::MAX,
        theme,
        sorted_by: None,
        sideways: &Sideways::default(),
        shows_empty: true,
        nr_rows_max: usize::MAX,
        is_tall: false,
    };
    for view in View::all(&rates.now) {
        text.push_str(&format!("\n# {}\n", view.title(&rates.now)));
        for line in view.lines(&rates, look) {
            text.push_str(line.to_string().trim_end());
            text.push('\n');
        }
    }
    text
}

/// Shows the process on the terminal until the person ends that.
fn live(target: Target, interval: Duration) -> anyhow::Result<()> {
    let interrupt = Interrupt::watch_only()?;
    let stops = Arc::default();
    flag::register(SIGTSTP, Arc::clone(&stops))?;
    let mut screen = Screen::new(Theme::detect(), interval);
    let start = |path| Sampler::start(path, interval).context("cannot start a thread");
    let mut sampler = match target {
        Target::One(path) => {
            // What is wrong with it is told on the terminal as it was.
            screen.take(Ok(fetch(&path, FETCH_LIMIT)?));
            Some(start(path)?)
        }
        Target::Several(processes) => {
            screen.choose(processes);
            None
        }
    };
    let mut own = OwnTerminal::enter().context("cannot use the terminal; try --once")?;
    let mut nr_looks = 0_u32;
    while !interrupt.is_asked() {
        own.terminal.draw(|frame| screen.draw(frame)).context("cannot draw on the terminal")?;
        let event = own.event(LOOK).context("cannot read from the terminal")?;
        let action = match event {
            Some(Event::Key(key)) if key.kind != KeyEventKind::Release => screen.press(key),
            _ => Action::None,
        };
        if stops.swap(false, core::sync::atomic::Ordering::Relaxed) {
            own.suspend().context("cannot return to the terminal")?;
        }
        match action {
            Action::Quit => break,
            Action::Watch(process) => {
                sampler = Some(start(process.path)?);
                screen.watch();
            }
            Action::Choose => {
                sampler = None;
                screen.choose(processes());
            }
            Action::None => {}
        }
        if let Some(sample) = sampler.as_ref().and_then(Sampler::next) {
            screen.take(sample);
        }
        nr_looks += 1;
        if screen.is_choosing() && nr_looks.is_multiple_of(LOOKS_PER_SEARCH) {
            screen.choose(processes());
        }
    }
    Ok(())
}
