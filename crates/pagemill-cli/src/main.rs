//! The program `pagemill`: measures bulk page allocation (`bench`), shows the state of an allocator
//! (`info`), serves directories by NFS (`nfsd`), moves packets by AF_XDP (`xdp`), and watches processes that
//! do (`top`).
//!
//! An option is parsed in `args`, checked against this machine in `plan`, takes effect in `cmd`, and its
//! results are shown by `report` (those of `bench` by `pagemill_bench::report`).
#![forbid(unsafe_code)]

extern crate alloc;

mod args;
mod cmd;
mod interrupt;
mod manual;
mod nfsd;
mod output;
mod plan;
mod report;
#[cfg(feature = "top")]
mod top;
mod usage;
mod xdp;

use std::process::ExitCode;

use crate::args::Command;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => output::exit_code(&error),
    }
}

fn run() -> anyhow::Result<ExitCode> {
    match args::parse()? {
        #[cfg(feature = "bench")]
        Some(Command::Bench(args)) => cmd::bench::run(&args)?,
        Some(Command::Info(args)) => cmd::info::run(&args)?,
        Some(Command::Nfsd(args)) => cmd::nfsd::run(&args)?,
        #[cfg(feature = "top")]
        Some(Command::Top(args)) => cmd::top::run(&args)?,
        Some(Command::Xdp(args)) => cmd::xdp::run(&args)?,
        Some(Command::Completions(args)) => cmd::completions::run(&args)?,
        Some(Command::Man(args)) => cmd::man::run(&args)?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}
