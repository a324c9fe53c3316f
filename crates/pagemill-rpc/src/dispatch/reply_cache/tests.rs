//! The cache against a list that is searched from end to end.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

use super::*;

const LIMITS: ReplyCacheLimits = ReplyCacheLimits { max_entries: 8, max_bytes: 8 * 256 + 400 };

fn header(xid: u32) -> CallHeader {
    CallHeader { xid, prog: 1, vers: 1, proc: 1 }
}

fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Two ports of each of five addresses: two of IPv4, and three of which two are in one network of
/// IPv6.
fn any_addr(number: u64) -> SocketAddr {
    let (host, port) = (number / 2, (number % 2) as u16);
    match host {
        0 | 1 => ([127, 0, 0, 1 + host as u8], port).into(),
        2 | 3 => ([0xfd00, 0, 0, 1, 0, 0, 0, host as u16], port).into(),
        _ => ([0xfd00, 0, 0, 2, 0, 0, 0, host as u16], port).into(),
    }
}

const NR_ADDRS: u64 = 10;

/// What a naive cache remembers of a call; `None` while it runs.
type Naive = Vec<(CallKey, Duration, Option<Vec<u8>>)>;

fn size(model: &Naive) -> usize {
    model.iter().map(|entry| 256 + entry.2.as_ref().map_or(0, Vec::len)).sum()
}

fn make_room(model: &mut Naive, bytes: usize, entries: usize) {
    while size(model) + bytes > LIMITS.max_bytes || model.len() + entries > LIMITS.max_entries {
        let client = |entry: &(CallKey, Duration, Option<Vec<u8>>)| entry.0.client();
        let size_of = |is_own: &dyn Fn(Client) -> bool| {
            let own = model.iter().filter(|entry| is_own(client(entry)));
            size(&own.cloned().collect())
        };
        // Of the client that has most, the address that has most, among those with a call that is
        // over.
        let over = model.iter().filter(|entry| entry.2.is_some());
        let Some(most) = over.map(client).max_by_key(|&Client { key, addr }| {
            let total = size_of(&|other| other.key == key);
            (total, key, size_of(&|other| other.addr == addr), addr)
        }) else {
            return;
        };
        // The oldest that is over; what runs becomes the youngest when it is passed over.
        let is_it = |entry: &(CallKey, Duration, Option<Vec<u8>>)| client(entry) == most;
        let at = model.iter().position(|entry| is_it(entry) && entry.2.is_some());
        let at = at.expect("it has one");
        model.remove(at);
        let passed: Naive = model[..at].iter().filter(|entry| is_it(entry)).cloned().collect();
        let mut index = 0;
        model.retain(|entry| {
            index += 1;
            index > at || !is_it(entry)
        });
        model.extend(passed);
    }
}

#[test]
fn random_calls_are_known_as_the_naive_cache_knows_them() {
    for seed in 1..60_u64 {
        let mut state = seed;
        let mut next = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let cache = ReplyCache::new(LIMITS);
        let mut model = Naive::new();
        let mut running: Vec<CallKey> = Vec::new();
        for step in 0..400_u64 {
            let now = Duration::from_secs(step);
            // At most three run: what runs is never forgotten, so it must fit.
            if running.len() < 3 && next(3) > 0 {
                let args = [next(2) as u8; 8];
                let key = cache.key(
                    any_addr(next(NR_ADDRS)),
                    header(next(6) as u32),
                    XdrReader::new(&args),
                    0,
                );
                let is_own =
                    |entry: &(CallKey, Duration, Option<Vec<u8>>)| entry.0.client() == key.client();
                while let Some(first) = model.iter().position(is_own)
                    && now - model[first].1 >= REPLY_LIFETIME
                    && model[first].2.is_some()
                {
                    model.remove(first);
                }
                let wanted = match model.iter().find(|entry| entry.0 == key) {
                    Some((_, _, None)) => Seen::InProgress,
                    Some((_, _, Some(reply))) => Seen::Done(reply.clone().into_boxed_slice()),
                    None => {
                        make_room(&mut model, 256, 1);
                        model.push((key, now, None));
                        running.push(key);
                        Seen::New
                    }
                };
                assert_eq!(cache.begin(&key, now), wanted, "seed {seed}, step {step}");
            } else if !running.is_empty() {
                let key = running.swap_remove(next(running.len() as u64) as usize);
                if next(4) == 0 {
                    cache.forget(&key);
                    model.retain(|entry| entry.0 != key);
                } else {
                    let reply = vec![step as u8; next(150) as usize];
                    make_room(&mut model, reply.len(), 0);
                    model.iter_mut().find(|entry| entry.0 == key).unwrap().2 = Some(reply.clone());
                    cache.finish(&key, reply.into_boxed_slice());
                }
            }
            assert_eq!(cache.usage(), (model.len(), size(&model)), "seed {seed}, step {step}");
            assert!(model.len() <= LIMITS.max_entries && size(&model) <= LIMITS.max_bytes);
            let table = cache.table();
            let places: usize = table.shares.values().map(|share| share.order.len()).sum();
            let most = 2 * model.len() + 65 * table.shares.len();
            assert!(places <= most, "places do not pile up: {places}");
            let hosts = table.shares.iter().map(|(of, share)| (of.key, share.bytes, of.addr));
            assert_eq!(hosts.collect::<BTreeSet<_>>(), table.hosts);
            let mut totals = BTreeMap::new();
            for (of, share) in &table.shares {
                *totals.entry(of.key).or_default() += share.bytes;
            }
            assert_eq!(totals, table.totals);
            let sizes = totals.into_iter().map(|(key, bytes)| (bytes, key));
            assert_eq!(sizes.collect::<BTreeSet<_>>(), table.sizes);
        }
    }
}

#[test]
fn calls_differ_in_each_part_of_their_key() {
    let cache = ReplyCache::new(LIMITS);
    let args = |bytes: &'static [u8]| XdrReader::new(bytes);
    let base = cache.key(addr(1), header(1), args(b"abcd"), 0);
    assert_eq!(base, cache.key(addr(1), header(1), args(b"abcd"), 0));
    for other in [
        cache.key(addr(2), header(1), args(b"abcd"), 0),
        cache.key(addr(1), header(2), args(b"abcd"), 0),
        cache.key(addr(1), CallHeader { prog: 2, ..header(1) }, args(b"abcd"), 0),
        cache.key(addr(1), CallHeader { vers: 2, ..header(1) }, args(b"abcd"), 0),
        cache.key(addr(1), CallHeader { proc: 2, ..header(1) }, args(b"abcd"), 0),
        cache.key(addr(1), header(1), args(b"abce"), 0),
        cache.key(addr(1), header(1), args(b"abcdefgh"), 0),
        cache.key(addr(1), header(1), args(b""), 0),
        cache.key(addr(1), header(1), args(b"abcd"), 4),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn a_client_with_many_calls_forgets_its_own_replies() {
    let cache = ReplyCache::new(LIMITS);
    let now = Duration::ZERO;
    let key = |number, xid| cache.key(any_addr(number), header(xid), XdrReader::new(&[]), 0);
    let ours = key(0, 1);
    assert_eq!(cache.begin(&ours, now), Seen::New);
    cache.finish(&ours, vec![1; 20].into());
    for xid in 0..100 {
        assert_eq!(cache.begin(&key(2, xid), now), Seen::New);
        cache.finish(&key(2, xid), vec![0; 20].into());
    }
    assert_eq!(cache.begin(&ours, now), Seen::Done(vec![1; 20].into()));
    assert_eq!(cache.begin(&key(2, 99), now), Seen::Done(vec![0; 20].into()));
    assert_eq!(cache.begin(&key(2, 90), now), Seen::New, "the oldest of client 2 are forgotten");
}

#[test]
fn an_address_with_many_calls_loses_its_own_replies_and_not_those_of_its_network() {
    let cache = ReplyCache::new(LIMITS);
    let now = Duration::ZERO;
    let key = |number, xid| cache.key(any_addr(number), header(xid), XdrReader::new(&[]), 0);
    let [ours, neighbour] = [4, 6];
    assert_eq!(key(ours, 1).client().key, key(neighbour, 1).client().key);
    assert_eq!(cache.begin(&key(ours, 1), now), Seen::New);
    cache.finish(&key(ours, 1), vec![1; 20].into());
    for xid in 0..100 {
        assert_eq!(cache.begin(&key(neighbour, xid), now), Seen::New);
        cache.finish(&key(neighbour, xid), vec![0; 20].into());
    }
    assert_eq!(cache.begin(&key(ours, 1), now), Seen::Done(vec![1; 20].into()));
}

#[test]
fn a_reply_outlasts_tens_of_thousands_of_writes_by_others() {
    let cache = ReplyCache::new(ReplyCacheLimits::default());
    let now = Duration::ZERO;
    let key = |port, xid| cache.key(addr(port), header(xid), XdrReader::new(&[]), 0);
    let ours = key(1, 7);
    assert_eq!(cache.begin(&ours, now), Seen::New);
    cache.finish(&ours, vec![1; 200].into());
    for xid in 0..65_000 {
        let key = key(2, xid);
        assert_eq!(cache.begin(&key, now), Seen::New);
        cache.finish(&key, vec![0; 200].into());
    }
    assert_eq!(cache.begin(&ours, now), Seen::Done(vec![1; 200].into()));
    // And bounded: as many again push it out.
    for xid in 65_000..131_000 {
        cache.begin(&key(2, xid), now);
        cache.finish(&key(2, xid), vec![0; 200].into());
    }
    assert_eq!(cache.begin(&ours, now), Seen::New);
    assert!(cache.usage().1 <= ReplyCacheLimits::default().max_bytes);
}
