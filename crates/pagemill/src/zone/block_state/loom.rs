//! Block states under loom: a migrate type and both counts change at once, and a frame that is passed on
//! is counted for its next owner.

use alloc::boxed::Box;

use loom::model::Builder;
use loom::sync::mpsc;
use loom::thread;

use super::{BlockState, Special};
use crate::base::migratetype::MigrateType;

#[test]
fn changes_of_all_fields_meet() {
    Builder::new().check(|| {
        let state: &'static BlockState = Box::leak(Box::new(BlockState::new(2)));
        let shard = thread::spawn(move || {
            state.change_migratetype(MigrateType::Movable, MigrateType::Reclaimable);
            state.change_migratetype(MigrateType::Reclaimable, MigrateType::Unmovable);
        });
        let handing_in = thread::spawn(move || state.sub(Special::Reserved, 2));
        state.add(Special::Charged, 3);
        state.sub(Special::Charged, 1);
        assert_ne!(state.get().count(Special::Charged), 0, "this thread owns two of the frames");
        shard.join().expect("no panic");
        handing_in.join().expect("no panic");
        assert_eq!(state.get().migratetype_index(), MigrateType::Unmovable as u32);
        assert_eq!(state.get().count(Special::Reserved), 0);
        assert_eq!(state.get().count(Special::Charged), 2);
    });
}

#[test]
fn the_next_owner_of_a_charged_frame_sees_it_counted() {
    Builder::new().check(|| {
        let state: &'static BlockState = Box::leak(Box::new(BlockState::new(0)));
        let (sender, receiver) = mpsc::channel();
        let giver = thread::spawn(move || {
            state.add(Special::Charged, 1);
            sender.send(()).expect("there is a receiver");
        });
        receiver.recv().expect("there is a sender");
        assert_eq!(state.get().count(Special::Charged), 1);
        state.sub(Special::Charged, 1);
        giver.join().expect("no panic");
        assert!(state.get().is_plain());
    });
}
