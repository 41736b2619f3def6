//! Tasks come and go around a connection that carries data: it is not disturbed, and nothing is left of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use lith_core::service::ServiceNumber;
use lith_net::{NetworkState, Service};
use lith_testkit::eventually;

use crate::lifecycle::traces;
use crate::world::{Machine, SOON, World, granting, slot, state};

/// How often something changes.
const ROUNDS: u64 = 200;
/// Where the first that come and go are; those with the connection have the slots before.
const FIRST: u16 = 3;
/// How many there may be at once.
const MOST: u16 = 12;

/// The next of a row of numbers that look random and are the same each time (splitmix64, Vigna 2015).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Two guests of which one has a connection to the other's virtual address, and as many others as there happen to be.
fn world_of(seed: &mut u64) -> NetworkState {
    let others: Vec<u16> = (FIRST..FIRST + MOST).filter(|_| next(seed).is_multiple_of(2)).collect();
    let publishes: Vec<(u16, [String; 1])> =
        others.iter().map(|number| (*number, [format!("{}:80", 8000 + number)])).collect();
    let publishes: Vec<(u16, Vec<&str>)> =
        publishes.iter().map(|(number, all)| (*number, all.iter().map(String::as_str).collect())).collect();
    let mut guests: Vec<(u16, &[&str])> = vec![(1, &[]), (2, &["8080:80"])];
    guests.extend(publishes.iter().map(|(number, all)| (*number, all.as_slice())));
    let mut grants = vec![(1, "2:80".to_owned())];
    for number in &others {
        let target = FIRST + u16::try_from(next(seed) % u64::from(MOST)).unwrap();
        grants.push((*number, format!("{target}:{}", 80 + next(seed) % 3)));
        grants.push((*number, "2:*".to_owned()));
    }
    let grants: Vec<(u16, &str)> = grants.iter().map(|(client, text)| (*client, text.as_str())).collect();
    let mut state = granting(state(&guests), &grants);
    let number = |number| ServiceNumber::new(number).unwrap();
    state.services = vec![Service { number: number(1), instances: vec![slot(2)] }];
    state
        .services
        .push(Service { number: number(2), instances: others.iter().map(|other| slot(*other)).collect() });
    for guest in &mut state.guests {
        guest.services = if guest.slot == slot(1) { vec![number(1)] } else { vec![number(1), number(2)] };
        guest.egress = vec![lith_core::value::access::egress("192.0.2.9:7000").unwrap()];
    }
    state
}

/// A connection on which numbers go out and must come back.
struct Stream {
    stop: Arc<AtomicBool>,
    exchanged: Arc<AtomicU64>,
    ends: [JoinHandle<()>; 2],
}

impl Stream {
    fn open(client: &Machine, server: &Machine, to: &str) -> Self {
        let listener = server.inside.run(|| TcpListener::bind("0.0.0.0:80")).unwrap();
        let (stop, exchanged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut number = [0; 8];
            while stream.read_exact(&mut number).is_ok() {
                stream.write_all(&number).unwrap();
            }
        });
        let mut stream = client.inside.run(|| TcpStream::connect(to)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&exchanged));
        let ask = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed).to_be_bytes();
                let mut answer = [0; 8];
                stream.write_all(&number).expect("the connection goes on");
                stream.read_exact(&mut answer).expect("the connection goes on");
                assert_eq!(answer, number);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, exchanged, ends: [echo, ask] }
    }

    /// Waits until something more has gone both ways.
    fn await_more(&self) {
        let before = self.exchanged.load(Ordering::Relaxed);
        eventually("the connection to carry more", || {
            assert!(!self.ends[1].is_finished(), "it has ended");
            if self.exchanged.load(Ordering::Relaxed) > before + 1 { Ok(()) } else { Err("nothing came") }
        });
    }

    fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in self.ends {
            end.join().unwrap();
        }
    }
}

#[test]
fn tasks_come_and_go_around_a_connection() {
    let mut seed = 5;
    let mut world = World::new();
    let before = traces(&world.host);
    let first = world_of(&mut seed);
    world.apply(&first);
    let machines = [1, 2].map(|number| Machine::plug(&world, number));
    let to = format!("{}:80", first.network.service_address(ServiceNumber::new(1).unwrap()));
    let stream = Stream::open(&machines[0], &machines[1], &to);
    for round in 0..ROUNDS {
        match round % 40 {
            // The agent is started anew, somebody takes the rules away.
            13 => world.restart(),
            27 => world.distrust(),
            _ => {}
        }
        world.apply(&world_of(&mut seed));
        stream.await_more();
    }
    stream.close();
    drop(machines);
    world.remove_all();
    assert_eq!(traces(&world.host), before);
    // What connection tracking counts may be seen a moment later.
    eventually("the kernel to have forgotten all flows", || {
        let flows = world.host.shell("cat /proc/sys/net/netfilter/nf_conntrack_count");
        if flows.trim() == "0" { Ok(()) } else { Err(flows) }
    });
}
