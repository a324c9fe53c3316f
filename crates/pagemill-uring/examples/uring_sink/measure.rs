//! The measurement: rounds in which every arm receives the same number of bytes over loopback.

use core::error::Error;
use core::time::Duration;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use pagemill_host::SharedAllocator;
use pagemill_host::machine::{Cpus, Machine};
use rustix::time::{ClockId, clock_gettime};

use crate::arms::{Arm, frames};

/// What one arm cost in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The receiver's CPU seconds, user and system, per GiB.
    cpu: f64,
    /// MiB per second.
    rate: f64,
    /// Bytes for each completion or read.
    piece: f64,
}

/// Measures all arms in `nr_rounds` rounds of `nr_bytes` each, and prints the table.
pub(crate) fn run(nr_bytes: u64, nr_rounds: u64, nr_buffers: u16) -> Result<(), Box<dyn Error>> {
    println!("{}", Machine::detect());
    println!(
        "{} MiB for each arm in each of {nr_rounds} rounds over loopback, rings of {nr_buffers} pages",
        nr_bytes >> 20
    );
    let frames = frames()?;
    let nr_free = frames.nr_free_pages();
    // Touches the arena, and warms the rest.
    for arm in Arm::ALL {
        sample(arm, nr_buffers, nr_bytes.min(64 << 20), &frames)?;
    }
    let mut samples = vec![Vec::new(); Arm::ALL.len()];
    for round in (0..Arm::ALL.len()).cycle().take(usize::try_from(nr_rounds)?) {
        // Each round begins with another arm, so that each is the first one equally often.
        for index in (0..Arm::ALL.len()).cycle().skip(round).take(Arm::ALL.len()) {
            samples[index].push(sample(Arm::ALL[index], nr_buffers, nr_bytes, &frames)?);
        }
    }
    if frames.nr_free_pages() != nr_free {
        return Err("pages are missing".into());
    }
    print(&samples);
    Ok(())
}

fn sample(
    arm: Arm,
    nr_buffers: u16,
    nr_bytes: u64,
    frames: &SharedAllocator,
) -> Result<Sample, Box<dyn Error>> {
    let cpus = Cpus::allowed()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    let socket = listener.accept()?.0;
    let (receiver_cpu, sender_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    let frames = frames.clone();
    // Both are new threads, so that this one keeps its CPUs.
    let receiver = thread::spawn(move || {
        Cpus::pin_to(receiver_cpu).map_err(|error| error.to_string())?;
        let (start, cpu) = (Instant::now(), thread_cpu());
        let received =
            arm.receive(socket, nr_buffers, &frames).map_err(|error| error.to_string())?;
        Ok::<_, String>((received, thread_cpu() - cpu, start.elapsed()))
    });
    let sender = thread::spawn(move || {
        Cpus::pin_to(sender_cpu).map_err(|error| error.to_string())?;
        let piece = vec![1; 1 << 20];
        let mut left = nr_bytes;
        while left > 0 {
            let nr = left.min(1 << 20);
            peer.write_all(&piece[..nr as usize]).map_err(|error| error.to_string())?;
            left -= nr;
        }
        Ok::<_, String>(())
    });
    let received = receiver.join().map_err(|_panic| "the receiver panicked")??;
    sender.join().map_err(|_panic| "the sender panicked")??;
    let ((received, nr_pieces), cpu, wall) = received;
    if received != nr_bytes {
        return Err(format!("{received} of {nr_bytes} bytes arrived").into());
    }
    Ok(Sample {
        cpu: cpu.as_secs_f64() / (nr_bytes as f64 / f64::from(1 << 30)),
        rate: nr_bytes as f64 / f64::from(1 << 20) / wall.as_secs_f64(),
        piece: nr_bytes as f64 / nr_pieces as f64,
    })
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn print(samples: &[Vec<Sample>]) {
    println!(
        "{:<32} {:>8} {:>19} {:>10} {:>12} {:>24}",
        "receiver", "s/GiB", "min to max", "MiB/s", "KiB a piece", "CPU of 1 MiB buffers x"
    );
    let reference = Arm::ALL.iter().position(|&arm| arm == Arm::Folios).unwrap_or_default();
    for (arm, own) in Arm::ALL.iter().zip(samples) {
        let cpu = spread(own.iter().map(|sample| sample.cpu));
        let rate = spread(own.iter().map(|sample| sample.rate));
        let piece = spread(own.iter().map(|sample| sample.piece / 1024.0));
        // Of the same round: what slows the machine slows both.
        let ratios = own.iter().zip(&samples[reference]).map(|(one, other)| one.cpu / other.cpu);
        let ratio = spread(ratios);
        println!(
            "{:<32} {:>8.3} {:>8.3} to {:>7.3} {:>10.0} {:>12.1} {:>8.2} ({:.2} to {:.2})",
            arm.name(),
            cpu.1,
            cpu.0,
            cpu.2,
            rate.1,
            piece.1,
            ratio.1,
            ratio.0,
            ratio.2,
        );
    }
}

/// Returns the smallest value, the median and the largest value.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
