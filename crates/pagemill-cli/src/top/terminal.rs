//! Terminal: entered and left again, whatever ends or stops the program.

use core::mem::ManuallyDrop;
use core::time::Duration;
use std::env;
use std::io::{self, IsTerminal as _, Stdout, Write as _, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableBracketedPaste, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;

/// The character of a key that a terminal does not have: `_POSIX_VDISABLE`.
const DISABLED: u8 = 0;

/// The terminal while it is ours: raw except for the keys that send signals, on its second screen.
///
/// A thread of its own reads keys: within a sequence that the terminal does not finish, such as the
/// beginning of a paste, the library waits for the rest of it, and of a terminal that is closed it reads
/// nothing, again and again.
#[derive(Debug)]
pub(crate) struct OwnTerminal {
    /// Never dropped: it would show the cursor, which [`leave`] does, and panic where it cannot report that
    /// the terminal is gone.
    pub(crate) terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    events: Receiver<Event>,
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
        let entered = Terminal::new(CrosstermBackend::new(stdout())).and_then(|terminal| {
            Ok(Self { terminal: ManuallyDrop::new(terminal), events: events()? })
        });
        if entered.is_err() {
            leave();
        }
        entered
    }

    /// Waits up to `limit` for a key or a change of the size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn event(&self, limit: Duration) -> io::Result<Option<Event>> {
        match self.events.recv_timeout(limit) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) if !is_closed()? => Ok(None),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "it was closed")),
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
        // It knows nothing of what is on the screen, and so draws everything.
        *self.terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        leave();
    }
}

/// Starts the thread that reads keys. It ends with the process, or once nobody receives.
fn events() -> io::Result<Receiver<Event>> {
    let (sender, events) = channel();
    thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read()
            && sender.send(event).is_ok()
        {}
    })?;
    Ok(events)
}

fn begin() -> io::Result<()> {
    enable_raw_mode()?;
    keep_signals()?;
    // The shell may have left bracketed paste on.
    execute!(stdout(), EnterAlternateScreen, DisableBracketedPaste)
}

/// Has Ctrl-C and Ctrl-Z send their signals, whatever the thread that reads keys waits for. Not Ctrl-\,
/// which would leave the terminal as it is.
fn keep_signals() -> io::Result<()> {
    let stdin = io::stdin();
    let mut attributes = tcgetattr(&stdin)?;
    attributes.local_modes |= LocalModes::ISIG;
    attributes.special_codes[SpecialCodeIndex::VQUIT] = DISABLED;
    Ok(tcsetattr(&stdin, OptionalActions::Now, &attributes)?)
}

/// Tells whether the other end of the terminal is closed.
fn is_closed() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    match poll(&mut polled, Some(&Timespec::default())) {
        Ok(_) => Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
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
