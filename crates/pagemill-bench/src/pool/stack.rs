//! Network stack: a thread, on another CPU if there are two, which frees the pages of held packets.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use pagemill::Page;
use pagemill::units::CpuId;
use pagemill_host::machine::Cpus;

use crate::frames::Frames;

type Held = Vec<Page<Frames>>;

/// A thread that frees pages one by one, like the last user of a packet, and returns the empty vector.
#[derive(Debug)]
pub struct Stack {
    work: Option<SyncSender<Held>>,
    done: Receiver<Held>,
    thread: Option<JoinHandle<()>>,
}

impl Stack {
    /// Starts the thread on `cpu`.
    ///
    /// # Errors
    /// If it cannot be bound to that CPU.
    pub fn start(cpu: CpuId) -> anyhow::Result<Self> {
        let (work, todo) = sync_channel::<Held>(1);
        let (tell, done) = sync_channel(1);
        let (pinned, is_pinned) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let outcome = Cpus::pin_to(cpu);
            let go_on = outcome.is_ok();
            if pinned.send(outcome).is_err() || !go_on {
                return;
            }
            for mut held in todo {
                held.drain(..).for_each(drop);
                if tell.send(held).is_err() {
                    return;
                }
            }
        });
        let stack = Self { work: Some(work), done, thread: Some(thread) };
        is_pinned.recv().context("the stack's thread ended")??;
        Ok(stack)
    }

    /// Passes the pages to the thread, and waits until it has freed them.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn free(&self, held: Held) -> anyhow::Result<Held> {
        let work = self.work.as_ref().context("the stack's thread ended")?;
        work.send(held).ok().context("the stack's thread ended")?;
        self.done.recv().context("the stack's thread ended")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported already.
            let _ended = thread.join();
        }
    }
}
