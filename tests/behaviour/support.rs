//! Fixtures and helpers of the tests.
use std::{
    cell::RefCell,
    fmt,
    net::Ipv4Addr,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};
use twistor::{
    address::Address,
    defer::Deferred,
    failure::Failure,
    protocol::{Factory, Handle, IntoFactory, Producer, Protocol, Raw},
    reactor::Reactor,
    report::{self, SinkGuard},
    testing::MemoryReactor,
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

/// An error of the tests, identified by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bang(pub(crate) &'static str);

impl fmt::Display for Bang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Bang {}

/// Records events in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn new() -> Self {
        refuse_reports();
        Self::default()
    }

    pub(crate) fn add(&self, what: impl fmt::Display) {
        self.0.borrow_mut().push(what.to_string());
    }

    /// Returns the events since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Collects this thread's reports while it lives.
pub(crate) struct Reports {
    seen: Rc<RefCell<Vec<String>>>,
    _sink: SinkGuard,
}

impl Reports {
    pub(crate) fn new() -> Self {
        refuse_reports();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let into = seen.clone();
        let sink = report::push_sink(move |report| into.borrow_mut().push(report.to_string()));
        Self { seen, _sink: sink }
    }

    /// Returns the texts of the reports since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.seen.take()
    }
}

/// Receives the result of a Deferred.
pub(crate) struct Outcome<T>(Rc<RefCell<Option<Result<T, Failure>>>>);

/// Watches `deferred`: takes the result as soon as it fires.
pub(crate) fn watch<T: 'static>(deferred: Deferred<T>) -> Outcome<T> {
    refuse_reports();
    let cell = Rc::new(RefCell::new(None));
    let into = cell.clone();
    deferred.add_both(move |result| *into.borrow_mut() = Some(result)).detach();
    Outcome(cell)
}

impl<T> Outcome<T> {
    pub(crate) fn is_pending(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Returns the [`value`](Self::value), for types without `Debug`.
    #[track_caller]
    pub(crate) fn into_value(self) -> T {
        self.0
            .take()
            .expect("no result yet")
            .unwrap_or_else(|failure| panic!("failed: {failure:#?}"))
    }

    /// Returns the [`failure`](Self::failure), for types without `Debug`.
    #[track_caller]
    pub(crate) fn into_failure(self) -> Failure {
        self.0.take().expect("no result yet").err().expect("it succeeded")
    }
}

impl<T: fmt::Debug> Outcome<T> {
    /// Returns the value; panics if there is a failure or no result.
    #[track_caller]
    pub(crate) fn value(&self) -> T {
        match self.0.take() {
            Some(Ok(value)) => value,
            Some(Err(failure)) => panic!("failed: {failure:#?}"),
            None => panic!("no result yet"),
        }
    }

    /// Returns the failure; panics if there is a value or no result.
    #[track_caller]
    pub(crate) fn failure(&self) -> Failure {
        match self.0.take() {
            Some(Err(failure)) => failure,
            Some(Ok(value)) => panic!("succeeded with {value:?}"),
            None => panic!("no result yet"),
        }
    }
}

/// Returns the result of a Deferred that must have fired.
#[track_caller]
pub(crate) fn now<T: fmt::Debug + 'static>(deferred: Deferred<T>) -> Result<T, Failure> {
    watch(deferred).0.take().expect("a result that is there")
}

/// Runs `test` on a thread with a stack of 2 MiB.
pub(crate) fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
}

/// A reactor in this thread, through which foreign wake-ups arrive; it runs one turn at a time.
pub(crate) struct TestDoor(twistor::reactor::Reactor);

impl TestDoor {
    pub(crate) fn install() -> Self {
        Self(twistor::testing::MemoryReactor::new().reactor())
    }

    /// Runs one turn.
    pub(crate) fn run(&self) {
        self.0.iterate(std::time::Duration::ZERO).unwrap();
    }
}

impl Drop for TestDoor {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A protocol of the tests, written by hand: it records its events, and runs the test's function
/// when data arrives.
pub(crate) struct Noting {
    pub(crate) log: Log,
    pub(crate) on_data: fn(&Handle<Noting>, &[u8]),
}

impl Noting {
    pub(crate) fn factory(
        log: &Log,
        on_data: fn(&Handle<Noting>, &[u8]),
    ) -> impl Fn(&Address) -> Noting + 'static {
        let log = log.clone();
        move |_| Noting { log: log.clone(), on_data }
    }

    /// Sends back what arrives.
    pub(crate) fn echo(this: &Handle<Noting>, data: &[u8]) {
        this.write(data);
    }

    pub(crate) fn nothing(_this: &Handle<Noting>, _data: &[u8]) {}
}

thread_local! {
    static MADE: RefCell<Option<Vec<Handle<Noting>>>> = const { RefCell::new(None) };
}

/// Keeps this thread's `Noting`s until [`accepted`] is called.
pub(crate) fn keep_made() {
    MADE.set(Some(Vec::new()));
}

/// Returns the last `Noting` in this thread that was accepted on `port`.
pub(crate) fn accepted(port: u16) -> Handle<Noting> {
    accepted_at(|host| host.port() == port)
}

/// Returns the last `Noting` in this thread whose local address matches.
pub(crate) fn accepted_at(is: impl Fn(&Address) -> bool) -> Handle<Noting> {
    MADE.take()
        .unwrap_or_default()
        .into_iter()
        .rfind(|made| is(&made.host()))
        .expect("a connection")
}

impl Protocol for Noting {
    type Framing = Raw;

    fn connection_made(&mut self, this: &Handle<Self>) {
        self.log.add("made");
        MADE.with_borrow_mut(|made| made.iter_mut().for_each(|made| made.push(this.clone())));
    }

    fn message_received(&mut self, this: &Handle<Self>, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
        (self.on_data)(this, data);
    }

    fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
        if let Some(lost) = reason.downcast_ref::<twistor::error::ConnectionLost>() {
            let peer = lost.address().expect("the reason has the peer");
            assert!(reason.to_string().contains(&peer.to_string()), "and names it: {reason}");
        }
    }
}

/// Connects a client of `client` to a server of `server`, in memory.
#[track_caller]
pub(crate) fn connect<C: IntoFactory>(
    memory: &MemoryReactor,
    server: impl IntoFactory,
    client: C,
) -> Handle<<C::Factory as Factory>::Protocol> {
    let reactor = memory.reactor();
    let local = (Ipv4Addr::LOCALHOST, 0);
    let port = reactor.listen_tcp(local, server, &ListenTcpOptions::default()).unwrap();
    let at = port.host().socket_addr().unwrap();
    let client = watch(reactor.connect_tcp(at, client, &ConnectTcpOptions::default()));
    memory.settle();
    port.stop_listening().detach();
    client.into_value()
}

/// Connects a client whose events do not matter to `server`, in memory.
#[track_caller]
pub(crate) fn connect_to(memory: &MemoryReactor, server: impl IntoFactory) -> Handle<Noting> {
    connect(memory, server, Noting::factory(&Log::new(), Noting::nothing))
}

/// Returns the two ends of a new connection in memory, the client first; each records its events.
pub(crate) fn connected(
    memory: &MemoryReactor,
    at_server: &Log,
    at_client: &Log,
) -> (Handle<Noting>, Handle<Noting>) {
    keep_made();
    let server = Noting::factory(at_server, Noting::nothing);
    let client = connect(memory, server, Noting::factory(at_client, Noting::nothing));
    let server = accepted(client.peer().port());
    at_client.take();
    at_server.take();
    (client, server)
}

/// Returns how many bytes have arrived, by the records of a `Noting`.
pub(crate) fn total(notes: &[String]) -> usize {
    notes.iter().filter_map(|note| note.strip_prefix("data ")).map(str::len).sum()
}

/// A connection in memory with a send buffer of `buffer` bytes; each end records its events.
pub(crate) struct Pair {
    pub(crate) memory: MemoryReactor,
    pub(crate) client: Handle<Noting>,
    pub(crate) server: Handle<Noting>,
    pub(crate) at_client: Log,
    pub(crate) at_server: Log,
}

impl Pair {
    pub(crate) fn new(buffer: usize) -> Self {
        let memory = MemoryReactor::new();
        memory.set_send_buffer(buffer);
        let (at_client, at_server) = (Log::new(), Log::new());
        let (client, server) = connected(&memory, &at_server, &at_client);
        Self { memory, client, server, at_client, at_server }
    }

    /// Returns what the server has read since the last call.
    pub(crate) fn arrived(&self) -> usize {
        total(&self.at_server.take())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.memory.reactor().close();
    }
}

/// Records its calls, and runs a function when it is resumed.
pub(crate) struct Source {
    log: Log,
    on_resume: Box<dyn Fn()>,
}

impl Source {
    pub(crate) fn new(log: &Log, on_resume: impl Fn() + 'static) -> Rc<Self> {
        Rc::new(Self { log: log.clone(), on_resume: Box::new(on_resume) })
    }
}

impl Producer for Source {
    fn pause_producing(&self) {
        self.log.add("pause");
    }

    fn resume_producing(&self) {
        self.log.add("resume");
        (self.on_resume)();
    }

    fn stop_producing(&self) {
        self.log.add("stop");
    }
}

/// Returns the last name of a failure's type.
pub(crate) fn short(failure: &Failure) -> &'static str {
    failure.type_name().rsplit("::").next().unwrap()
}

/// Runs turns of a real reactor until `done`; panics after ten seconds.
#[track_caller]
pub(crate) fn run_until(reactor: &Reactor, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "it did not happen within ten seconds");
        reactor.iterate(Duration::from_millis(10)).unwrap();
    }
}

/// Collects the log events of this thread while it lives.
pub(crate) struct Logged {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logged {
    pub(crate) fn new() -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        Self { _guard: tracing::subscriber::set_default(Lines(lines.clone())), lines }
    }

    /// Returns the lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

/// The message of an event.
fn text_of(event: &tracing::Event<'_>) -> String {
    struct Text(String);
    impl tracing::field::Visit for Text {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    let mut text = Text(String::new());
    event.record(&mut text);
    text.0
}

/// Ends the process with the text of an unexpected report. A report is expected where a test
/// collects it, with [`Reports`] or [`Logged`], or has announced it with [`expect_report`].
struct NoReports;

/// The texts of expected reports from other threads.
static EXPECTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Expects one report that contains `text`, from any thread.
pub(crate) fn expect_report(text: &str) {
    EXPECTED.lock().unwrap().push(text.to_owned());
}

/// Makes every unexpected report fail the run from now on. Most tests begin with a helper that
/// calls this.
fn refuse_reports() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(NoReports).unwrap());
}

impl tracing::Subscriber for NoReports {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR && metadata.target() == "twistor::report"
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        use std::io::Write;
        let text = text_of(event);
        let mut expected = EXPECTED.lock().unwrap();
        if let Some(at) = expected.iter().position(|wanted| text.contains(wanted)) {
            expected.remove(at);
            return;
        }
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a thread without a name");
        // not `eprintln!`, which the test harness would capture
        let _ = writeln!(std::io::stderr(), "an unexpected report in {test}:\n{text}");
        std::process::exit(101);
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let line = format!("{} {}", event.metadata().level(), text_of(event));
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

/// A directory in the system's place for temporary files, removed with its contents.
pub(crate) struct Scratch(std::path::PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("twistor-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // a failed test may have left the files in use
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
