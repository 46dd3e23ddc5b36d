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

use super::wire::{COMMAND, Reply, Reported, WireOrder};
use crate::live::frames::{Message, head, receive};
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

/// Loss of a worker process: the process has ended, or was ended because nothing more can be done with it.
#[derive(Debug, thiserror::Error)]
#[error("{fault}{}", last_words.as_ref().map(|words| format!("; the last that it said: {words}")).unwrap_or_default())]
#[non_exhaustive]
pub struct LostProcess {
    /// Fault of the process. Its text is fit for the client that asked for the picture.
    pub fault: ProcessFault,
    /// Last output on standard error, for the log.
    pub last_words: Option<String>,
}

/// Fault for which a worker process is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessFault {
    /// Process that cannot be started.
    #[error("its process cannot be started: {0}")]
    NotStarted(io::Error),
    /// Process that was started and cannot do its work, for example because a library is missing.
    #[error(transparent)]
    NotReady(Reported),
    /// Call that took longer than its limit.
    #[error("{call} took longer than {} s", limit.as_secs_f64())]
    Hung {
        /// Call, in words.
        call: &'static str,
        /// Limit of the call.
        limit: Duration,
    },
    /// Process that ended by itself.
    #[error("{}", describe_end(*.0))]
    Ended(ExitStatus),
    /// Pipe that fails, or a message on it that cannot be read.
    #[error("its process cannot be talked to: {0}")]
    Unreachable(io::Error),
    /// Machine of the worker that is not heard of any more, and why.
    #[error("its machine is gone: {0}")]
    Gone(String),
    /// Fault of a process on another machine, in words that are fit for clients.
    #[error("{fault}")]
    Elsewhere {
        /// True if a call took longer than its limit.
        hung: bool,
        /// Fault.
        fault: String,
    },
    /// Answer, given by its name, that does not belong to the order before it.
    #[error("its process answered `{0}` out of turn")]
    OutOfTurn(String),
}

impl ProcessFault {
    /// Returns the kind of the fault that the core counts it under.
    #[must_use]
    pub const fn cause(&self) -> LossCause {
        match self {
            Self::Hung { .. } | Self::Elsewhere { hung: true, .. } => LossCause::Hung,
            Self::Gone(_) => LossCause::Gone,
            _ => LossCause::Crashed,
        }
    }
}

impl From<ProcessFault> for LostProcess {
    fn from(fault: ProcessFault) -> Self {
        Self { fault, last_words: None }
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
        let failed = ProcessFault::NotStarted;
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
            Reply::Failed(reported) => Err(ProcessFault::NotReady(reported).into()),
            other => Err(process.confused(&other)),
        }
    }

    /// Sends an order to the process. `call` names the call that the limit is for, in the error.
    pub(super) fn send(
        &mut self,
        order: &WireOrder,
        tail: &[u8],
        limit: Duration,
        call: &'static str,
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
            Ok(Err(_)) => Err(self.hung(call, limit)),
            Ok(Ok(Err(error))) | Err(error) => Err(self.crashed(error)),
        }
    }

    /// Waits for the next answer of the process. `call` names the call that the limit is for, in the error.
    pub(super) fn receive(&mut self, limit: Duration, call: &'static str) -> Result<Message<Reply>, LostProcess> {
        let Self { runtime, from, .. } = self;
        // A time-out may leave a part of a message behind. That is no fault, because the process is ended then.
        match runtime.block_on(async { timeout(limit, receive(from)).await }) {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(self.crashed(error)),
            Err(_) => Err(self.hung(call, limit)),
        }
    }

    /// Ends a process that gave an answer out of turn. Returns the error for it.
    pub(super) fn confused(&mut self, reply: &Reply) -> LostProcess {
        self.end();
        let reply = format!("{reply:?}");
        let name = reply.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned();
        ProcessFault::OutOfTurn(name).into()
    }

    fn hung(&mut self, call: &'static str, limit: Duration) -> LostProcess {
        self.end();
        ProcessFault::Hung { call, limit }.into()
    }

    /// Ends a process that cannot be talked to. Returns the error for it, which is the end of the process if the
    /// process ended by itself.
    pub(super) fn crashed(&mut self, error: io::Error) -> LostProcess {
        let fault = self.end().map_or(ProcessFault::Unreachable(error), ProcessFault::Ended);
        // The pipe may still hold some of the output.
        let reading = &mut self.words.1;
        let _ = self.runtime.block_on(async { timeout(Duration::from_secs(1), reading).await });
        let words = String::from_utf8_lossy(&locked(&self.words.0)).split_whitespace().collect::<Vec<_>>().join(" ");
        LostProcess { fault, last_words: (!words.is_empty()).then_some(words) }
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
fn describe_end(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(9), _) => "its process was killed (signal 9), as the system does when memory runs out".to_owned(),
        (Some(signal), _) => format!("its process crashed (signal {signal})"),
        (None, code) => format!("its process ended by itself (exit code {})", code.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_last_output_and_the_client_has_not() {
        let fault = ProcessFault::Hung { call: "a load", limit: Duration::from_millis(1500) };
        assert_eq!(fault.cause(), LossCause::Hung);
        let lost = LostProcess { fault, last_words: Some("out of memory".to_owned()) };
        assert_eq!(lost.fault.to_string(), "a load took longer than 1.5 s");
        assert_eq!(lost.to_string(), "a load took longer than 1.5 s; the last that it said: out of memory");
        let lost = LostProcess::from(ProcessFault::OutOfTurn("Step".to_owned()));
        assert_eq!(lost.fault.cause(), LossCause::Crashed);
        assert_eq!(lost.to_string(), "its process answered `Step` out of turn");
    }
}
