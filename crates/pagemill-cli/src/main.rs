//! The program `pagemill`: measures bulk page allocation and shows the state of an allocator.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod cmd;
mod output;
mod plan;
mod report;
mod size;
mod usage;

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
        Some(Command::Bench(args)) => cmd::bench::run(&args)?,
        Some(Command::Info(args)) => cmd::info::run(&args)?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}
