//! Signals that end the server: the first has it finish what is in, the second ends it at once, and so does the end of the
//! time that finishing may take, whatever hangs. On a thread of its own, which nothing of the network holds up.

use std::io;
use std::process::exit;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Time that the program may take to end, beyond the time to finish.
const MARGIN: Duration = Duration::from_secs(20);

/// Signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// The next one: the exit code of a program that it ends.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

/// Listens from now on; the receiver hears of the first signal. `drain` is the time to finish what is in.
pub(super) fn listen(drain: Duration) -> io::Result<oneshot::Receiver<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? }
    };
    let (first, heard) = oneshot::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            // Nobody listens if the loop has ended by itself.
            let _ = first.send(());
            if let Ok(code) = timeout(drain + MARGIN, signals.next()).await {
                exit(code);
            }
            eprintln!("error: the server does not end by itself: what hangs is left");
            exit(1);
        });
    })?;
    Ok(heard)
}
