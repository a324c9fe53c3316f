//! The heap serves `alloc`'s collections.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::random::Random;

/// Fills collections of every size of object, mixes their releases, and checks what they hold.
pub(super) fn check() {
    let mut random = Random::new(1);
    let mut map: BTreeMap<u64, Box<[u8]>> = BTreeMap::new();
    let mut bytes = 0;
    for number in 0..3000 {
        let limit = 1 << random.below(15);
        let len = random.length_below(limit);
        bytes += len;
        map.insert(number, boxed(len, number));
        if number % 3 == 2 {
            map.remove(&random.below(number));
        }
    }
    map.retain(|&number, content| {
        assert!(content.iter().all(|&byte| byte == mark(number)), "object {number}");
        number % 2 == 0
    });
    let names: Vec<String> = map.keys().map(|number| format!("object {number}")).collect();
    let aligned: Vec<Box<Aligned>> = (0..20).map(|_| Box::new(Aligned([7; 3000]))).collect();
    assert!(
        aligned.iter().all(|value| (&raw const **value).addr().is_multiple_of(8192)),
        "aligned"
    );
    assert!(aligned.iter().all(|value| value.0 == [7; 3000]), "whole");
    println!("{bytes} bytes in boxes, maps, strings and vectors; {} names", names.len());
}

/// A value that wants more alignment than a page has.
#[repr(align(8192))]
struct Aligned([u8; 3000]);

fn boxed(len: usize, number: u64) -> Box<[u8]> {
    let mut content = Vec::new();
    content.resize(len, mark(number));
    content.into_boxed_slice()
}

fn mark(number: u64) -> u8 {
    number.to_le_bytes()[0]
}
