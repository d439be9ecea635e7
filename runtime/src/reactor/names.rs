//! Host names: getaddrinfo on a small pool of threads, so that a slow answer holds up nobody.
use super::Reactor;
use crate::{
    defer::Deferred,
    error::{DnsLookupError, TimeoutError},
    failure::Failure,
};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// How many threads look names up, and how many questions wait for one.
const THREADS: usize = 4;
const QUEUE: usize = 256;

/// How long an answer may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A question, and what hands the answer back to its thread.
struct Question {
    host: String,
    port: u16,
    reply: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>,
}

/// The process's pool; it is started by the first question.
fn pool() -> io::Result<&'static SyncSender<Question>> {
    static POOL: OnceLock<SyncSender<Question>> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..THREADS {
        let receiver = receiver.clone();
        thread::Builder::new().name(format!("twistor-names-{number}")).spawn(move || answer(&receiver))?;
    }
    Ok(POOL.get_or_init(|| sender))
}

fn answer(questions: &Mutex<Receiver<Question>>) {
    loop {
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Question { host, port, reply }) = next else { return };
        reply((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    }
}

impl Reactor {
    /// The addresses of `host`, in the system's order, each with `port`. A numeric host is its own answer.
    pub(crate) fn look_up(&self, host: &str, port: u16) -> Deferred<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Deferred::succeed(vec![SocketAddr::new(ip, port)]);
        }
        let deferred = self.ask(|answer| {
            let reply = Box::new(move |found: io::Result<Vec<SocketAddr>>| answer.send(found.map_err(Failure::from)));
            let question = Question { host: host.to_owned(), port, reply };
            pool()?.try_send(question).map_err(|_| io::Error::other("too many names are being looked up"))
        });
        let host = host.to_owned();
        deferred.add_timeout(TIME_LIMIT, self).add_both(move |found| match found {
            Ok(found) if found.is_empty() => Err(DnsLookupError::with_text(format!("`{host}` has no address")).into()),
            Err(failure) if failure.check::<TimeoutError>() || failure.check::<io::Error>() => {
                let error = DnsLookupError::with_text(format!("`{host}`: {failure}"));
                Err(Failure::from(error.caused_by(failure.shared_value())))
            }
            found => found,
        })
    }
}
