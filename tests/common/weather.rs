//! A network between two ends, in user space: it delays, stalls as TCP does after a loss, cuts connections, and parts.

#![allow(dead_code, reason = "each user takes a part of it")]
#![allow(clippy::allow_attributes, reason = "which parts are unused differs between users")]
#![allow(clippy::unwrap_used, reason = "tests and measurements end at an error")]

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::rig::{now, sleep};

/// Behaviour of the network. It can change at any time.
#[derive(Default)]
pub(crate) struct Weather {
    /// Milliseconds that every byte is on its way.
    delay_ms: AtomicU64,
    /// Share of the packets that are lost, in thousandths: what comes behind a lost packet waits until it was sent
    /// again.
    loss: AtomicU64,
    /// Bytes a second in each direction, of all connections together; 0 for any number.
    bytes_per_s: AtomicU64,
    /// Time at which each direction is free again.
    free: [Mutex<Option<Instant>>; 2],
    parted: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// Time after which TCP sends a lost packet again, at least.
const AGAIN: Duration = Duration::from_millis(200);

impl Weather {
    pub(crate) fn delay(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, thousandths: u64) {
        self.loss.store(thousandths, Ordering::Relaxed);
    }

    pub(crate) fn narrow(&self, bytes_per_s: u64) {
        self.bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }

    /// Lets nothing through, and says so to nobody.
    pub(crate) fn part(&self, parted: bool) {
        self.parted.store(parted, Ordering::Relaxed);
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Starts a way to `target`. Returns the port of its beginning.
pub(crate) fn way(target: u16, weather: Arc<Weather>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
            let clone = |stream: &TcpStream| stream.try_clone().unwrap();
            weather.connections.lock().unwrap().extend([clone(&near), clone(&far)]);
            for (direction, from, to) in [(0, clone(&near), clone(&far)), (1, far, near)] {
                let _ = to.set_nodelay(true);
                carry(direction, from, to, weather.clone());
            }
        }
    });
    port
}

/// Bytes on their way, each piece with the time at which it arrives; `None` for the end.
type Pipe = Arc<(Mutex<VecDeque<(Instant, Option<Vec<u8>>)>>, Condvar)>;

fn carry(direction: usize, mut from: TcpStream, mut to: TcpStream, weather: Arc<Weather>) {
    let pipe: Pipe = Arc::default();
    let (near, sky) = (pipe.clone(), weather.clone());
    std::thread::spawn(move || {
        // A small generator of its own: which packet is lost must not depend on the time.
        let mut state = 1 + direction as u64;
        let mut draw = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 1000
        };
        let mut bytes = [0; 16 << 10];
        let mut behind = now();
        loop {
            let read = from.read(&mut bytes).unwrap_or(0);
            let narrow = weather.bytes_per_s.load(Ordering::Relaxed);
            let takes = (read as u64 * 1_000_000_000).checked_div(narrow).map_or(Duration::ZERO, Duration::from_nanos);
            let lost = if draw() < weather.loss.load(Ordering::Relaxed) { AGAIN } else { Duration::ZERO };
            let sent = {
                let mut free = weather.free[direction].lock().unwrap();
                let begins = free.unwrap_or_else(now).max(now());
                *free = Some(begins + takes);
                begins + takes
            };
            // Packets keep their order: one that is sent again holds up those behind it.
            behind = behind.max(sent) + lost;
            let arrives = behind + Duration::from_millis(weather.delay_ms.load(Ordering::Relaxed));
            let piece = (read > 0).then(|| bytes[..read].to_vec());
            let ended = piece.is_none();
            near.0.lock().unwrap().push_back((arrives, piece));
            near.1.notify_one();
            if ended {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        loop {
            let (arrives, piece) = {
                let mut waiting = pipe.0.lock().unwrap();
                while waiting.is_empty() {
                    waiting = pipe.1.wait(waiting).unwrap();
                }
                waiting.pop_front().unwrap()
            };
            sleep(arrives.saturating_duration_since(now()));
            while sky.parted.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(5));
            }
            let sent = piece.map(|piece| to.write_all(&piece));
            if !matches!(sent, Some(Ok(()))) {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    });
}
