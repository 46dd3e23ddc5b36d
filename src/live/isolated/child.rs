//! Worker process: draws or embeds as standard input orders, and answers on standard output. The process ends when its
//! standard input ends, whatever the process is doing, because nobody is left to draw for.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Signal, getpid, kill_process};

use super::wire::{Reply, WireOrder};
use crate::live::embedder::Embed;
use crate::live::encoder::DualEncoder;
use crate::live::error::Error;
use crate::live::frames::{self, Message};
use crate::live::library::Library;
use crate::live::painter::Painter;
use crate::live::pipeline::probe;
use crate::live::worker::{DrawError, Paint, Painted, Task};

/// Pipe for answers to the program.
struct Answers(std::fs::File);

impl Answers {
    fn send(&mut self, reply: &Reply, tail: &[u8]) -> io::Result<()> {
        self.0.write_all(&frames::head(reply, tail)?)?;
        self.0.write_all(tail)
    }
}

/// Carries out orders until standard input ends.
///
/// # Errors
/// Returns an error if the pipes cannot be used.
pub fn run() -> io::Result<()> {
    let mut answers = Answers(own_output()?);
    ignore_signals()?;
    // The program and its other work are worth more than one worker: if memory runs out, this process is to go.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let cancelled = Arc::new(AtomicBool::new(false));
    let (to, orders) = channel();
    let flag = cancelled.clone();
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        let mut from = io::stdin().lock();
        // The thread goes on reading whatever the other thread does: a native call that hangs must not hide that the
        // program is gone.
        while let Ok(message) = frames::read::<WireOrder>(&mut from) {
            // The flag changes here, while the other thread draws. A new drawing resets the flag, because the program
            // orders it only after the answer to the drawing before.
            match message.header {
                WireOrder::Cancel => flag.store(true, Ordering::Relaxed),
                WireOrder::Draw { .. } => flag.store(false, Ordering::Relaxed),
                _ => {}
            }
            if to.send(message).is_err() {
                break;
            }
        }
        // The process is killed at once, because an ordinary exit would wait for threads that hang.
        let _ = kill_process(getpid(), Signal::KILL);
    })?;
    let Ok(Message { header: role, .. }) = orders.recv() else { return Ok(()) };
    match role {
        WireOrder::Paint { library, device, palette } => match Library::open(Some(&library)) {
            Ok(library) => {
                answers.send(&Reply::Ready, &[])?;
                paint(Painter::new(library, device, Arc::new(palette)), &orders, &mut answers, &cancelled)
            }
            Err(error) => answers.send(&Reply::failed(&error), &[]),
        },
        WireOrder::Encode { library, device, folder } => {
            let library = Library::open(Some(&library)).map_err(Error::from);
            match library.and_then(|library| DualEncoder::open(&library, &folder, device)) {
                Ok(encoder) => {
                    answers.send(&Reply::Ready, &[])?;
                    embed(encoder, &orders, &mut answers)
                }
                Err(error) => answers.send(&Reply::failed(&error), &[]),
            }
        }
        WireOrder::Probe { library, device } => {
            let library = Library::open(Some(&library)).map_err(Error::from);
            let probed = library.and_then(|library| probe(&library, device));
            answers.send(&probed.map_or_else(|error| Reply::failed(&error), |()| Reply::Ready), &[])
        }
        other => Err(io::Error::other(format!("{other:?} is not what a worker process begins with"))),
    }
}

/// Reserves standard output for answers: native code that prints writes to standard error from now on.
fn own_output() -> io::Result<std::fs::File> {
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(output.into())
}

/// Ignores the signals that end the program. A service manager may send its signal to all processes of a service. The
/// program then finishes the requests that are in, and needs its workers for that.
fn ignore_signals() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _within = runtime.enter();
    // After tokio has once listened for a signal, the system's default action for the signal never returns.
    drop(signal(SignalKind::interrupt())?);
    signal(SignalKind::terminate()).map(drop)
}

fn paint(
    mut painter: Painter,
    orders: &Receiver<Message<WireOrder>>,
    answers: &mut Answers,
    cancelled: &AtomicBool,
) -> io::Result<()> {
    for Message { header, tail } in orders {
        match header {
            WireOrder::Load(model) => {
                let loaded = painter.load(model);
                answers.send(&loaded.map_or_else(|error| Reply::failed(&error), |()| Reply::Loaded), &[])?;
            }
            WireOrder::Draw { request, noise, prompt, details, work, source } => {
                let source = source.map(|size| frames::picture(size, tail)).transpose()?;
                let (prompt, details) = (prompt.as_str(), &details);
                let task = Task { request, noise, prompt, details, work, source: source.as_ref(), image: None };
                let told = std::cell::RefCell::new(&mut *answers);
                let keep_going = || {
                    // If nobody listens, the thread that reads orders ends this process.
                    let _ = told.borrow_mut().send(&Reply::Step, &[]);
                    !cancelled.load(Ordering::Relaxed)
                };
                let drawn = painter.draw(&task, &keep_going);
                answer_drawn(drawn, answers)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn answer_drawn(drawn: Result<Painted, DrawError>, answers: &mut Answers) -> io::Result<()> {
    match drawn {
        Ok(Painted { picture, cuts, .. }) => {
            answers.send(&Reply::Picture { size: picture.size(), cuts }, picture.bytes())
        }
        Err(DrawError::Cancelled) => answers.send(&Reply::Cancelled, &[]),
        Err(error) => answers.send(&Reply::failed(&error), &[]),
    }
}

fn embed(mut encoder: DualEncoder, orders: &Receiver<Message<WireOrder>>, answers: &mut Answers) -> io::Result<()> {
    for Message { header, tail } in orders {
        let embedding = match header {
            WireOrder::Prompt(prompt) => encoder.prompt(&prompt),
            WireOrder::Picture(size) => encoder.picture(&frames::picture(size, tail)?),
            _ => continue,
        };
        answers.send(&embedding.map_or_else(|error| Reply::failed(&error), Reply::Embedding), &[])?;
    }
    Ok(())
}
