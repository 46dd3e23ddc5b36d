//! Program's end of a worker process: starts the process, talks to it within time limits, and ends it when it exceeds
//! one. The process is always reaped. After a crash, the last output on its standard error is reported.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::wire::{COMMAND, Message, Reply, WireOrder, head, receive};
use crate::scheduler::LossCause;

/// Time that the system may take to end a killed process. A process that waits for a device in the kernel takes long.
const REAP: Duration = Duration::from_secs(10);
/// Number of bytes that are kept of the standard error of a process.
const LAST_WORDS: usize = 600;

/// Program that worker processes are started from.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
}

impl Launch {
    /// Makes the launch of this same program, even if its file has been replaced since.
    ///
    /// # Errors
    /// Returns an error if the system does not say where the program is.
    pub fn own() -> io::Result<Self> {
        let own = PathBuf::from("/proc/self/exe");
        Ok(Self { program: if own.exists() { own } else { std::env::current_exe()? } })
    }
}

/// Process that has ended or was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostProcess {
    pub(super) cause: LossCause,
    /// Reason, for the client that asked for the picture.
    pub(super) why: String,
    /// Last output on standard error, for the log.
    pub(super) last_words: Option<String>,
}

impl LostProcess {
    fn crashed(why: impl Into<String>) -> Self {
        Self { cause: LossCause::Crashed, why: why.into(), last_words: None }
    }

    /// Returns the reason and the last output, for the log.
    pub(super) fn told(&self) -> String {
        match &self.last_words {
            Some(words) => format!("{}; the last that it said: {words}", self.why),
            None => self.why.clone(),
        }
    }
}

/// Worker process.
#[derive(Debug)]
pub(super) struct Process {
    runtime: Runtime,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    words: (Arc<Mutex<Vec<u8>>>, JoinHandle<()>),
}

impl Process {
    /// Starts a process and gives the process its role. Returns once the process is ready.
    pub(super) fn start(launch: &Launch, role: &WireOrder, limit: Duration) -> Result<Self, LostProcess> {
        let failed = |error: io::Error| LostProcess::crashed(format!("its process cannot be started: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (child, to, from, words) = {
            let _within = runtime.enter();
            let mut command = Command::new(&launch.program);
            command
                // Lists of processes show this name, and not `/proc/self/exe`.
                .arg0("modm")
                .args([COMMAND, &role.name()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            // The process has a group of its own: Ctrl-C in a terminal is for the program, which finishes the requests
            // that are in.
            command.process_group(0).kill_on_drop(true);
            let mut child = command.spawn().map_err(failed)?;
            let missing = || failed(io::Error::other("it has no pipes"));
            let to = child.stdin.take().ok_or_else(missing)?;
            let from = BufReader::new(child.stdout.take().ok_or_else(missing)?);
            let words = Arc::<Mutex<Vec<u8>>>::default();
            let reading = tokio::spawn(keep_last_words(child.stderr.take().ok_or_else(missing)?, words.clone()));
            (child, to, from, (words, reading))
        };
        let mut process = Self { runtime, child, to, from, words };
        process.send(role, &[], limit, "its start")?;
        match process.receive(limit, "its start")?.header {
            Reply::Ready => Ok(process),
            Reply::Failed(why) => Err(LostProcess::crashed(why)),
            other => Err(process.confused(&other)),
        }
    }

    /// Sends an order to the process. `what` names the call that the limit is for, in the error.
    pub(super) fn send(
        &mut self,
        order: &WireOrder,
        tail: &[u8],
        limit: Duration,
        what: &str,
    ) -> Result<(), LostProcess> {
        let Self { runtime, to, .. } = self;
        let sent = head(order, tail).map(|head| {
            let write = async {
                to.write_all(&head).await?;
                to.write_all(tail).await?;
                to.flush().await
            };
            runtime.block_on(async { timeout(limit, write).await })
        });
        match sent {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Err(_)) => Err(self.hung(what, limit)),
            Ok(Ok(Err(error))) | Err(error) => Err(self.crashed(&error)),
        }
    }

    /// Waits for the next answer of the process. `what` names the call that the limit is for, in the error.
    pub(super) fn receive(&mut self, limit: Duration, what: &str) -> Result<Message<Reply>, LostProcess> {
        let Self { runtime, from, .. } = self;
        // A time-out may leave a part of a message behind. That is no fault, because the process is ended then.
        match runtime.block_on(async { timeout(limit, receive(from)).await }) {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(self.crashed(&error)),
            Err(_) => Err(self.hung(what, limit)),
        }
    }

    /// Ends a process that gave an answer out of turn. Returns the error for it.
    pub(super) fn confused(&mut self, reply: &Reply) -> LostProcess {
        self.end();
        let reply = format!("{reply:?}");
        let name = reply.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned();
        LostProcess::crashed(format!("its process answered `{name}` out of turn"))
    }

    fn hung(&mut self, what: &str, limit: Duration) -> LostProcess {
        self.end();
        let why = format!("{what} took longer than {} s", limit.as_secs_f64());
        LostProcess { cause: LossCause::Hung, why, last_words: None }
    }

    fn crashed(&mut self, error: &io::Error) -> LostProcess {
        let why = match self.end() {
            Some(status) => ended(status),
            None => format!("its process cannot be talked to: {error}"),
        };
        // The pipe may still hold some of the output.
        let reading = &mut self.words.1;
        let _ = self.runtime.block_on(async { timeout(Duration::from_secs(1), reading).await });
        let words = String::from_utf8_lossy(&locked(&self.words.0)).split_whitespace().collect::<Vec<_>>().join(" ");
        LostProcess { last_words: (!words.is_empty()).then_some(words), ..LostProcess::crashed(why) }
    }

    /// Ends and reaps the process. Returns its exit status if the process ended by itself.
    fn end(&mut self) -> Option<ExitStatus> {
        let Self { runtime, child, .. } = self;
        // A process whose pipe is closed is about to end by itself.
        let by_itself = runtime.block_on(async { timeout(Duration::from_millis(500), child.wait()).await });
        if let Ok(Ok(status)) = by_itself {
            return Some(status);
        }
        let _ = child.start_kill();
        let _ = runtime.block_on(async { timeout(REAP, child.wait()).await });
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let child = &mut self.child;
        // The device is free when this returns.
        let _ = self.runtime.block_on(async { timeout(REAP, child.wait()).await });
    }
}

fn locked(words: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    words.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the last output of a process on its standard error. The output is not passed on: for each failed job ONNX
/// Runtime writes there what the process also answers.
async fn keep_last_words(mut from: ChildStderr, words: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 4096];
    while let Ok(read) = from.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        let mut words = locked(&words);
        words.extend(&bytes[..read]);
        let surplus = words.len().saturating_sub(LAST_WORDS);
        words.drain(..surplus);
    }
}

/// Describes in words how a process ended.
fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(9), _) => "its process was killed (signal 9), as the system does when memory runs out".to_owned(),
        (Some(signal), _) => format!("its process crashed (signal {signal})"),
        (None, code) => format!("its process ended by itself (exit code {})", code.unwrap_or_default()),
    }
}
