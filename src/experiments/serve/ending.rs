//! Signals that end the server. After the first signal, the server finishes the accepted requests. The second signal
//! ends the program at once. So does the end of the time that finishing may take, whatever hangs. The signals have a
//! thread of their own, which the network cannot hold up.

use std::io::{self, Write, stderr};
use std::process::exit;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Time that the program may take to end, beyond the time to finish the accepted requests.
const MARGIN: Duration = Duration::from_secs(20);

/// Signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Waits for the next signal. Returns the exit code of a program that the signal ends.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

/// Listens for signals from now on. The receiver hears of the first signal. `drain` is the time to finish the accepted
/// requests.
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
            // The receiver is gone if the loop has ended by itself.
            let _ = first.send(());
            if let Ok(code) = timeout(drain + MARGIN, signals.next()).await {
                exit(code);
            }
            // The reader of standard error may have left.
            let _ = writeln!(stderr(), "error: the server does not end by itself: what hangs is left");
            exit(1);
        });
    })?;
    Ok(heard)
}
