//! Terminal: entered and left again, whatever ends or stops the program.

use core::time::Duration;
use std::env;
use std::io::{self, IsTerminal as _, Stdout, Write as _, stdout};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;

/// The terminal while it is ours: raw, on its second screen.
#[derive(Debug)]
pub(crate) struct OwnTerminal {
    pub(crate) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl OwnTerminal {
    /// Enters the second screen. A panic leaves it before it is reported.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn enter() -> io::Result<Self> {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave();
            report(info);
        }));
        begin()?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout()));
        if terminal.is_err() {
            leave();
        }
        Ok(Self { terminal: terminal? })
    }

    /// Waits up to `limit` for a key or a change of the size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn event(&self, limit: Duration) -> io::Result<Option<Event>> {
        match event::poll(limit) {
            Ok(true) => event::read().map(Some),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Leaves the terminal to the shell and stops this process, as Ctrl-Z does; goes on when the shell
    /// continues it.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        leave();
        emulate_default_handler(SIGTSTP)?;
        begin()?;
        self.terminal.clear()
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        leave();
    }
}

fn begin() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen)
}

fn leave() {
    // The terminal may be gone: then there is nothing to restore.
    let _gone = execute!(stdout(), LeaveAlternateScreen, Show);
    let _gone = disable_raw_mode();
    let _gone = stdout().flush();
}

/// Tells whether a person can see and answer: not on a terminal that has no cursor to move.
pub(crate) fn is_interactive() -> bool {
    let term = env::var_os("TERM").unwrap_or_default();
    let has_screen = !term.is_empty() && term != "dumb";
    has_screen && stdout().is_terminal() && io::stdin().is_terminal()
}
