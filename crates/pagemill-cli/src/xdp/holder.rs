//! The thread that keeps packets for a while, as a slow reader does.

use core::time::Duration;
use std::time::Instant;

use pagemill_xdp::Packet;
use pagemill_xdp::frames::Frame;
use pagemill_xdp::sinks::{Inbox, NoBatch};

/// Keeps packets, and once the first has been kept for `hold`, gives the frames of all of them to
/// `take_back` at once; until no more can come. Returns how many there were.
///
/// All at once, because that is what a reader does that looks every now and then: what it has read
/// is more than a pool's ring is deep.
pub(crate) fn hold<F: Frame>(
    inbox: &Inbox<F>,
    hold: Duration,
    mut take_back: impl FnMut(&mut Vec<F>),
) -> u64 {
    let mut kept: Vec<Packet<F>> = Vec::new();
    let mut spent = Vec::new();
    let mut nr_packets = 0;
    let mut until = Instant::now();
    loop {
        let now = Instant::now();
        if !kept.is_empty() && until <= now {
            spent.extend(kept.drain(..).flat_map(Packet::into_frames));
            take_back(&mut spent);
        }
        let patience = if kept.is_empty() { IDLE } else { until.duration_since(now) };
        match inbox.receive_timeout(patience) {
            Ok(mut batch) => {
                if kept.is_empty() {
                    until = Instant::now() + hold;
                }
                nr_packets += batch.len() as u64;
                kept.append(&mut batch);
                inbox.give_back(batch);
            }
            Err(NoBatch::Yet) => {}
            Err(NoBatch::EverAgain) => {
                // What is still kept goes back now: nobody waits for it.
                spent.extend(kept.drain(..).flat_map(Packet::into_frames));
                take_back(&mut spent);
                return nr_packets;
            }
        }
    }
}

/// How long to wait for a first packet before looking again.
const IDLE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use pagemill::{AllocPages, Gfp};
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};
    use pagemill_xdp::frames::{AllocatorPool, Refill};
    use pagemill_xdp::sinks::handover;
    use pagemill_xdp::{FramePool, Sink};

    use super::*;

    #[test]
    fn packets_are_kept_and_all_come_back_at_once() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(4 << 20))).unwrap();
        let nr_free = frames.nr_free_pages();
        let (mut to, inbox) = handover(8);
        let start = Instant::now();
        let (say, hear) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let frames = &frames;
            let holder = scope.spawn(move || {
                let mut pool = AllocatorPool::new(frames, Refill::Bulk);
                hold(&inbox, Duration::from_millis(20), |spent| {
                    say.send(spent.len()).unwrap();
                    pool.recycle(spent);
                })
            });
            for nr in [60, 40] {
                let packet = |_| frames.alloc_page(Gfp::KERNEL).map(Packet::new);
                let mut packets: Vec<_> = (0..nr).map_while(packet).collect();
                assert_eq!(to.take(&mut packets, &mut Vec::new()).unwrap(), nr);
            }
            let mut nr_back = 0;
            while nr_back < 100 {
                nr_back += hear.recv().unwrap();
                assert!(start.elapsed() >= Duration::from_millis(20));
            }
            drop(to);
            assert_eq!(holder.join().unwrap(), 100);
        });
        assert_eq!(frames.nr_free_pages(), nr_free);
    }
}
