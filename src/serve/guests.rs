//! Who is connected, and who gives way when all places are taken: first connections on which nothing happens, then slow ones,
//! and each time those of the address that has the most. Nobody is refused for his address: a whole room may share one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a new connection may say nothing while others wait.
const SILENT_AT_FIRST: Duration = Duration::from_secs(1);
/// How long a request's head may take while others wait.
const HEAD: Duration = Duration::from_secs(5);
/// How long a client may move nothing at all while others wait.
const STALLED: Duration = Duration::from_secs(3);
/// For how long a client is watched before it is called slow.
const WATCHED: Duration = Duration::from_secs(5);
/// Who moves fewer bytes a second than this is slow. 512 clients that share 100 Mbit/s have six times as much each.
const SLOW: u64 = 4 * 1024;
/// How long somebody waits before an address with more than half of all places gives one up.
const FAIR_AFTER: Duration = Duration::from_secs(5);

/// How long an idle connection may take to end.
const GENTLE: Duration = Duration::from_secs(2);

/// A request is being answered.
const ASKED: u8 = 1;
/// A part of a request's head has come.
const HEAD_BEGUN: u8 = 2;
/// The client is waited for: it is to send more of a body, or to take more of an answer.
const OWES: u8 = 4;
/// There was a request before.
const ASKED_BEFORE: u8 = 8;

/// It was not told to go.
const STAYS: u8 = 0;
/// It is to go, unless a request came meanwhile.
const GENTLY: u8 = 1;
/// It is to go in the middle of what it does.
const AT_ONCE: u8 = 2;

/// All connections that are served.
pub(super) struct Guests {
    places: usize,
    started: Instant,
    inside: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    /// Told whenever a place is given back.
    pub(super) left: Notify,
}

struct Entry {
    guest: Arc<Guest>,
    /// When it was seen to owe something, in milliseconds, and what it had moved by then.
    seen: Option<(u64, u64)>,
}

/// A connection, as those see it who decide which one gives way.
pub(super) struct Guest {
    network: IpAddr,
    started: Instant,
    doing: AtomicU8,
    /// Since when nothing happens on it, or its head comes in, in milliseconds after `started`.
    since: AtomicU64,
    moved: AtomicU64,
    /// Since when the client is waited for without a byte, in milliseconds after `started`.
    owing: AtomicU64,
    notice: Notify,
    leaving: AtomicU8,
    /// When it was told to leave, in milliseconds after `started`.
    told: AtomicU64,
}

/// A place that is taken; given back when dropped.
pub(super) struct Place {
    guests: Arc<Guests>,
    id: u64,
    pub(super) guest: Arc<Guest>,
}

/// A request under way; ends when its answer was handed over, or nobody waits for that any more.
pub(super) struct Asking(Arc<Guest>);

/// Somebody who waits for a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    /// His address.
    pub(super) client: IpAddr,
    /// For how long he has waited.
    pub(super) waited: Duration,
}

impl Guests {
    /// So many places.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            started: Instant::now(),
            inside: Mutex::default(),
            next: AtomicU64::new(0),
            left: Notify::new(),
        })
    }

    fn inside(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, when one is free.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut inside = self.inside();
        if inside.len() >= self.places {
            return None;
        }
        let guest = Arc::new(Guest::new(network(client), self.started));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        inside.insert(id, Entry { guest: guest.clone(), seen: None });
        Some(Place { guests: self.clone(), id, guest })
    }

    /// How many places each address has.
    pub(super) fn shares(&self) -> HashMap<IpAddr, usize> {
        shares(&self.inside())
    }

    /// Whether nobody is there.
    pub(super) fn is_empty(&self) -> bool {
        self.inside().is_empty()
    }

    /// Tells connections to give way, at most as many as there are waiters.
    pub(super) fn make_way(&self, waiting: &[Waiter]) {
        self.make_way_at(milliseconds(self.started), waiting);
    }

    fn make_way_at(&self, now: u64, waiting: &[Waiter]) {
        let mut inside = self.inside();
        let going = inside.values().filter(|e| e.guest.is_leaving()).count();
        let free = self.places.saturating_sub(inside.len());
        let wanted = waiting.len().saturating_sub(going + free);
        for entry in inside.values_mut() {
            entry.watch(now);
            entry.guest.insist(now);
        }
        let mut shares = shares(&inside);
        for _ in 0..wanted {
            let chosen = idle(&inside, &shares, now).map(|guest| (guest, GENTLY));
            let chosen = chosen.or_else(|| slow(&inside, &shares, now).map(|guest| (guest, AT_ONCE)));
            let chosen =
                chosen.or_else(|| unfair(&inside, &shares, waiting, self.places).map(|guest| (guest, AT_ONCE)));
            let Some((guest, how)) = chosen else { return };
            guest.leave(how, now);
            if let Some(share) = shares.get_mut(&guest.network) {
                *share -= 1;
            }
        }
    }
}

fn shares(inside: &HashMap<u64, Entry>) -> HashMap<IpAddr, usize> {
    let mut shares = HashMap::new();
    for entry in inside.values() {
        *shares.entry(entry.guest.network).or_insert(0) += 1;
    }
    shares
}

/// Of the connections on which nothing happens that which is so for longest, of the address with the most places.
fn idle(inside: &HashMap<u64, Entry>, shares: &HashMap<IpAddr, usize>, now: u64) -> Option<Arc<Guest>> {
    let idle = inside.values().map(|e| &e.guest).filter(|g| g.is_idle(now) && !g.is_leaving());
    idle.max_by_key(|g| (share(shares, g), now.saturating_sub(g.since.load(Ordering::Relaxed)))).cloned()
}

/// Of the slow connections that which is slow for longest, of the address with the most places.
fn slow(inside: &HashMap<u64, Entry>, shares: &HashMap<IpAddr, usize>, now: u64) -> Option<Arc<Guest>> {
    let staying = inside.values().filter(|e| !e.guest.is_leaving());
    let slow = staying.filter_map(|e| Some((share(shares, &e.guest), e.slow_for(now)?, &e.guest)));
    slow.max_by_key(|(share, slow_for, _)| (*share, *slow_for)).map(|(_, _, guest)| guest.clone())
}

fn share(shares: &HashMap<IpAddr, usize>, guest: &Guest) -> usize {
    shares.get(&guest.network).copied().unwrap_or(0)
}

/// Somebody has waited for long, and another address has more than half of all places, none of them idle or slow: that of its
/// connections that moved the least gives way.
fn unfair(
    inside: &HashMap<u64, Entry>,
    shares: &HashMap<IpAddr, usize>,
    waiting: &[Waiter],
    places: usize,
) -> Option<Arc<Guest>> {
    let (greediest, share) = shares.iter().max_by_key(|(_, share)| **share)?;
    let others = |w: &&Waiter| network(w.client) != *greediest && w.waited >= FAIR_AFTER;
    waiting.iter().find(others).filter(|_| share * 2 > places)?;
    let its = inside.values().map(|e| &e.guest).filter(|g| g.network == *greediest);
    // One at a time: whoever leaves makes a place within this moment.
    if its.clone().any(|g| g.is_leaving()) {
        return None;
    }
    its.min_by_key(|g| g.moved.load(Ordering::Relaxed)).cloned()
}

impl Entry {
    /// Notes what it has moved by now, when it has to move something.
    fn watch(&mut self, now: u64) {
        let moved = self.guest.moved.load(Ordering::Relaxed);
        self.seen = match (self.guest.is(OWES), self.seen) {
            (false, _) => None,
            (true, None) => Some((now, moved)),
            (true, Some((at, before))) => match now.saturating_sub(at) {
                passed if passed >= ms(WATCHED) && (moved - before) >= passed * SLOW / 1000 => Some((now, moved)),
                _ => Some((at, before)),
            },
        };
    }

    /// For how long its client has been slow, in milliseconds: with the head of a request, in moving nothing, or in moving
    /// little. What was fast enough is watched anew, so only slow ones are seen for so long.
    fn slow_for(&self, now: u64) -> Option<u64> {
        let guest = &self.guest;
        let passed =
            |since: u64, limit: Duration| Some(now.saturating_sub(since)).filter(|passed| *passed >= ms(limit));
        if guest.is(HEAD_BEGUN) && !guest.is(ASKED) {
            return passed(guest.since.load(Ordering::Relaxed), HEAD);
        }
        if !guest.is(OWES) {
            return None;
        }
        let moves_little = self.seen.and_then(|(at, _)| passed(at, WATCHED));
        moves_little.max(passed(guest.owing.load(Ordering::Relaxed), STALLED))
    }
}

impl Guest {
    fn new(network: IpAddr, started: Instant) -> Self {
        Self {
            network,
            started,
            doing: AtomicU8::new(0),
            since: AtomicU64::new(milliseconds(started)),
            moved: AtomicU64::new(0),
            owing: AtomicU64::new(0),
            notice: Notify::new(),
            leaving: AtomicU8::new(STAYS),
            told: AtomicU64::new(0),
        }
    }

    fn is(&self, flag: u8) -> bool {
        self.doing.load(Ordering::Relaxed) & flag != 0
    }

    /// Whether nothing happens on it: kept alive after an answer, or open without a word for [`SILENT_AT_FIRST`].
    fn is_idle(&self, now: u64) -> bool {
        let doing = self.doing.load(Ordering::Relaxed);
        let patience = if doing & ASKED_BEFORE != 0 { 0 } else { ms(SILENT_AT_FIRST) };
        doing & (ASKED | HEAD_BEGUN | OWES) == 0 && now.saturating_sub(self.since.load(Ordering::Relaxed)) >= patience
    }

    /// A request begins.
    pub(super) fn asks(self: &Arc<Self>) -> Asking {
        self.doing.store(ASKED | ASKED_BEFORE, Ordering::Relaxed);
        Asking(self.clone())
    }

    /// So many bytes came from the client.
    pub(super) fn sent(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        if bytes > 0 && !self.is(ASKED | HEAD_BEGUN) {
            self.since.store(milliseconds(self.started), Ordering::Relaxed);
            self.doing.fetch_or(HEAD_BEGUN, Ordering::Relaxed);
        }
    }

    /// So many bytes were taken by the client.
    pub(super) fn took(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        self.owes(false);
    }

    /// Whether the client is waited for.
    pub(super) fn owes(&self, owes: bool) {
        if self.is(OWES) != owes {
            self.owing.store(milliseconds(self.started), Ordering::Relaxed);
            self.doing.fetch_xor(OWES, Ordering::Relaxed);
        }
    }

    /// Waits until it is to give way; gives whether in the middle of what it does.
    pub(super) async fn told_to_leave(&self) -> bool {
        self.notice.notified().await;
        self.leaving.load(Ordering::Relaxed) == AT_ONCE
    }

    /// After it was told to go gently: when a request came just before, it goes on with that, as one of those who stay.
    pub(super) fn reconsider(&self) {
        if self.is(ASKED | HEAD_BEGUN) {
            self.leaving.store(STAYS, Ordering::Relaxed);
        }
    }

    fn leave(&self, how: u8, now: u64) {
        self.told.store(now, Ordering::Relaxed);
        self.leaving.store(how, Ordering::Relaxed);
        self.notice.notify_one();
    }

    /// One that was told to go gently, has nothing to do, and is still there, goes at once.
    fn insist(&self, now: u64) {
        let for_long = now.saturating_sub(self.told.load(Ordering::Relaxed)) >= ms(GENTLE);
        if self.leaving.load(Ordering::Relaxed) == GENTLY && for_long {
            self.leave(AT_ONCE, now);
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) != STAYS
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.since.store(milliseconds(self.0.started), Ordering::Relaxed);
        self.0.doing.fetch_and(!ASKED, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.inside().remove(&self.id);
        self.guests.left.notify_one();
    }
}

/// Whom an address stands for: one machine may have as many IPv6 addresses as it likes in its network of 64 bits (RFC 4291, 2.5.4).
pub(super) fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn milliseconds(since: Instant) -> u64 {
    ms(since.elapsed())
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn waiter(last: u8, seconds: u64) -> Waiter {
        Waiter { client: client(last), waited: Duration::from_secs(seconds) }
    }

    /// A full server: a place for each of these addresses.
    fn full(clients: &[u8]) -> (Arc<Guests>, Vec<Place>) {
        let guests = Guests::new(clients.len());
        let places = clients.iter().map(|last| guests.enter(client(*last)).unwrap()).collect();
        assert!(guests.enter(client(0)).is_none());
        (guests, places)
    }

    /// It asked something, and was answered at this moment.
    fn answered(place: &Place, at: u64) {
        drop(place.guest.asks());
        place.guest.since.store(at, Ordering::Relaxed);
    }

    fn leaving(places: &[Place]) -> Vec<usize> {
        (0..places.len()).filter(|at| places[*at].guest.is_leaving()).collect()
    }

    #[test]
    fn the_longest_idle_of_the_address_with_the_most_gives_way() {
        let (guests, places) = full(&[1, 2, 2, 2, 3]);
        for (place, at) in places.iter().zip([0, 500, 300, 400, 100]) {
            answered(place, at);
        }
        let _asks = places[2].guest.asks();
        guests.make_way_at(1000, &[waiter(9, 0)]);
        assert_eq!(leaving(&places), [3], "of the second address, but not the one that is at work");
        guests.make_way_at(1000, &[waiter(9, 0)]);
        assert_eq!(leaving(&places), [3], "one goes already");
        guests.make_way_at(1000, &[waiter(9, 0), waiter(8, 0), waiter(7, 0)]);
        assert_eq!(leaving(&places), [0, 1, 3]);
    }

    #[test]
    fn one_that_has_said_nothing_yet_has_a_second_for_it() {
        let (guests, places) = full(&[1]);
        guests.make_way_at(900, &[waiter(2, 0)]);
        assert_eq!(leaving(&places), [0; 0]);
        guests.make_way_at(1100, &[waiter(2, 0)]);
        assert_eq!(leaving(&places), [0]);
    }

    #[test]
    fn a_head_in_pieces_gives_way_after_five_seconds() {
        let (guests, places) = full(&[1]);
        places[0].guest.sent(10);
        places[0].guest.sent(1);
        guests.make_way_at(4900, &[waiter(1, 4)]);
        assert_eq!(leaving(&places), [0; 0]);
        guests.make_way_at(5100, &[waiter(1, 4)]);
        assert_eq!(leaving(&places), [0]);
    }

    #[test]
    fn slow_readers_and_slow_bodies_give_way_and_fast_ones_do_not() {
        let (guests, places) = full(&[1, 1, 1]);
        let _asking: Vec<Asking> = places.iter().map(|p| p.guest.asks()).collect();
        // The first is waited for and trickles, the second is waited for and is fast, the third waits for us.
        for second in 0..20 {
            places[0].guest.sent(100);
            places[1].guest.sent(100_000);
            for place in &places[..2] {
                place.guest.owes(true);
                place.guest.owing.store(second * 1000, Ordering::Relaxed);
            }
            guests.make_way_at(second * 1000, &[waiter(1, 0)]);
            assert_eq!(leaving(&places), if second < 5 { vec![] } else { vec![0] }, "{second}");
        }
        guests.make_way_at(20_000, &[waiter(1, 0), waiter(1, 0)]);
        assert_eq!(leaving(&places), [0]);
    }

    #[test]
    fn who_stalls_gives_way_after_three_seconds() {
        let (guests, places) = full(&[1, 2]);
        let _asking: Vec<Asking> = places.iter().map(|p| p.guest.asks()).collect();
        places[0].guest.owes(true);
        places[0].guest.owing.store(500, Ordering::Relaxed);
        guests.make_way_at(3400, &[waiter(1, 0)]);
        assert_eq!(leaving(&places), [0; 0]);
        guests.make_way_at(3500, &[waiter(1, 0)]);
        assert_eq!(leaving(&places), [0]);
    }

    #[test]
    fn an_address_with_more_than_half_shares_and_a_room_behind_one_address_is_left_alone() {
        let (guests, places) = full(&[1, 1, 1, 2]);
        let _asking: Vec<Asking> = places.iter().map(|p| p.guest.asks()).collect();
        for (place, moved) in places.iter().zip([50, 20, 70, 1]) {
            place.guest.moved.store(moved, Ordering::Relaxed);
        }
        guests.make_way_at(60_000, &[waiter(1, 60), waiter(3, 1)]);
        assert_eq!(leaving(&places), [0; 0], "its own, and one that waits for a moment only");
        guests.make_way_at(60_000, &[waiter(1, 60), waiter(3, 6), waiter(4, 6)]);
        assert_eq!(leaving(&places), [1], "what moved the least, one at a time");
    }

    #[test]
    fn who_does_not_go_gently_goes_at_once() {
        let (guests, places) = full(&[1]);
        answered(&places[0], 0);
        let how = |now| {
            guests.make_way_at(now, &[waiter(2, 0)]);
            places[0].guest.leaving.load(Ordering::Relaxed)
        };
        assert_eq!((how(2000), how(3900), how(4000)), (GENTLY, GENTLY, AT_ONCE));
    }

    #[test]
    fn a_request_that_came_in_time_stays() {
        let (guests, places) = full(&[1]);
        answered(&places[0], 0);
        guests.make_way_at(2000, &[waiter(2, 0)]);
        let _asking = places[0].guest.asks();
        places[0].guest.reconsider();
        assert_eq!(leaving(&places), [0; 0]);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::4"), of("2001:db8:1:3::4"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
