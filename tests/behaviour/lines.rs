//! The `lines` framing.
use crate::support::{Log, connect_to, watch};
use proptest::{
    prelude::{Strategy, any, proptest},
    sample::select,
};
use std::{cell::RefCell, net::Ipv4Addr, rc::Rc, time::Duration};
use twistor::{
    basic::{Line, Lines},
    prelude::*,
    protocol::{Framing, Input},
    task::Clock,
    testing::{MemoryReactor, StringTransport},
    transport::{ConnectTcpOptions, ListenTcpOptions},
};

/// Records its lines; `RAW n` asks for n raw bytes, and `clear`, `pause` and `stop` do what they
/// say.
#[protocol(lines(delimiter = b"\n", max_length = 6))]
struct Switching {
    log: Log,
    #[transport]
    transport: Transport,
    raw: usize,
}

#[protocol]
impl Switching {
    fn line_received(&mut self, line: &[u8]) {
        self.log.add(format!("line {}", String::from_utf8_lossy(line)));
        match line {
            b"len 3" | b"len 0" => {
                self.raw = usize::from(line[4] - b'0');
                self.transport.set_raw_mode();
                if self.raw == 0 {
                    self.transport.set_line_mode("");
                }
            }
            b"clear" => self.log.add(format!(
                "cleared {}",
                String::from_utf8_lossy(&self.transport.clear_line_buffer())
            )),
            b"pause" => self.transport.pause_producing(),
            b"stop" => self.transport.lose_connection(),
            b"rest" => self
                .log
                .add(format!("rest {}", String::from_utf8_lossy(&self.transport.unparsed()))),
            _ => {}
        }
    }

    fn raw_data_received(&mut self, data: &[u8]) {
        let (raw, rest) = data.split_at(self.raw.min(data.len()));
        for byte in raw {
            self.log.add(format!("raw {}", *byte as char));
        }
        self.raw -= raw.len();
        if self.raw == 0 {
            self.transport.set_line_mode(rest);
        }
    }

    fn line_length_exceeded(&mut self, line: &[u8]) {
        self.log.add(format!("too long {}", String::from_utf8_lossy(line)));
        self.transport.lose_connection();
    }

    fn connection_lost(&mut self) {
        self.log.add("lost");
    }
}

/// Feeds `chunks` to a `Switching`, one a turn, and returns its log and the connection.
fn fed<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Log, MemoryReactor, Rc<RefCell<Option<Handle<Switching>>>>) {
    let (memory, log) = (MemoryReactor::new(), Log::new());
    let reactor = memory.reactor();
    let server: Rc<RefCell<Option<Handle<Switching>>>> = Rc::default();
    let noted = log.clone();
    let port = reactor
        .listen_tcp(
            (Ipv4Addr::LOCALHOST, 0),
            move |_: &Address| Sender,
            &ListenTcpOptions::default(),
        )
        .unwrap();
    let make = move |_: &Address| Switching {
        log: noted.clone(),
        transport: Transport::default(),
        raw: 0,
    };
    let connected = watch(reactor.connect_tcp(
        port.host().socket_addr().unwrap(),
        make,
        &ConnectTcpOptions::default(),
    ));
    memory.settle();
    *server.borrow_mut() = Some(connected.value());
    for chunk in chunks {
        SENDER.with_borrow(|sender| sender.as_ref().unwrap().write(chunk));
        memory.settle();
    }
    (log, memory, server)
}

thread_local! {
    static SENDER: RefCell<Option<Transport>> = const { RefCell::new(None) };
}

#[protocol]
struct Sender;

#[protocol]
impl Sender {
    fn connection_made(&mut self, transport: &Transport) {
        SENDER.set(Some(transport.clone()));
    }
}

#[test]
fn p_063_lines_and_counted_raw_blocks_give_the_same_events_for_every_chunk_size() {
    let stream = b"hello\nworld\nhow\nare\nlen 3\nabclen 0\nyou\nlen 3\n\n\nx\nfoo\nlonglonglong\n";
    let whole = fed([&stream[..]]).0.take();
    assert_eq!(whole.len(), 18, "{whole:?}");
    for size in 1..=9 {
        let mut events = fed(stream.chunks(size)).0.take();
        // how much of the long line has arrived when it exceeds the limit depends on the chunks;
        // that it does so does not
        let (last, whole_last) = (events.remove(16), &whole[16]);
        assert!(last.starts_with("too long longlon") && whole_last.starts_with(&last), "{last}");
        let mut expected = whole.clone();
        expected.remove(16);
        assert_eq!(events, expected, "in chunks of {size}");
    }
}

#[test]
fn p_066_after_the_end_was_asked_for_buffered_lines_are_not_delivered() {
    assert_eq!(fed([&b"one\nstop\ntwo\n"[..]]).0.take(), ["line one", "line stop", "lost"]);
}

#[test]
fn p_065_p_107_a_pause_takes_effect_at_once_and_a_resume_delivers_what_is_buffered() {
    let (log, memory, server) = fed([&b"pause\nlen 3\nabcpause\nlast\n"[..]]);
    assert_eq!(log.take(), ["line pause"]);
    let server = server.take().unwrap();
    server.resume_producing();
    memory.settle();
    assert_eq!(log.take(), ["line len 3", "raw a", "raw b", "raw c", "line pause"]);
    SENDER.with_borrow(|sender| sender.as_ref().unwrap().write("new\n"));
    memory.settle();
    assert!(log.take().is_empty());
    server.resume_producing();
    memory.settle();
    assert_eq!(log.take(), ["line last", "line new"]);
}

#[test]
fn p_068_p_101_the_unparsed_rest_can_be_seen_and_taken() {
    assert_eq!(
        fed([&b"rest\na\nb"[..], b"\nclear\nc\nd", b"e\n"]).0.take(),
        ["line rest", "rest a\nb", "line a", "line b", "line clear", "cleared c\nd", "line e"]
    );
}

#[test]
fn p_069_thousands_of_mode_switches_in_one_chunk() {
    let record = b"len 3\nabc";
    let stream = record.repeat(5000);
    crate::support::on_small_stack(move || {
        assert_eq!(fed([&stream[..]]).0.take().len(), 5000 * 4);
    });
}

fn decode(data: &[u8]) -> Option<(Line<'_>, usize)> {
    Lines::default().delimiter(b"\r\n").max_length(6).decode(Input::new(data, false)).unwrap()
}

#[test]
fn p_070_p_073_p_081_a_line_one_byte_over_the_limit_is_too_long_and_so_is_an_unfinished_one() {
    let default = format!("{:?}", Lines::default());
    assert!(default.contains("16384") && default.contains("[13, 10]"), "{default}");
    assert_eq!(decode(b"123456\r\n"), Some((Line::Line(b"123456"), 8)));
    assert_eq!(
        decode(b"1234567\r\n"),
        Some((Line::TooLong { data: b"1234567\r\n", max_length: 6 }, 9))
    );
    assert_eq!(decode(b"12345678"), Some((Line::TooLong { data: b"12345678", max_length: 6 }, 8)));
}

#[test]
fn p_071_p_072_part_of_a_delimiter_does_not_count() {
    assert_eq!(decode(b"123456\r"), None);
    assert_eq!(decode(b"1234567"), None, "the limit and all but one byte of a delimiter");
}

#[test]
fn p_076_p_077_p_078_what_is_too_long_comes_in_one_piece_from_its_start() {
    assert_eq!(fed([&b"12345678901234"[..]]).0.take()[..1], ["too long 12345678901234"]);
    assert_eq!(
        fed([&b"ok\n12345678901234"[..]]).0.take()[..2],
        ["line ok", "too long 12345678901234"]
    );
    assert_eq!(fed([&b"12345678\nbehind\n"[..]]).0.take()[..1], ["too long 12345678\nbehind\n"]);
}

#[test]
fn p_080_bytes_one_at_a_time_give_complete_lines_and_no_tail() {
    assert_eq!(fed(b"a\nbc\ntail".chunks(1)).0.take(), ["line a", "line bc"]);
}

#[test]
fn p_082_after_the_connection_has_begun_to_close_the_other_lines_of_the_chunk_are_dropped() {
    let log = fed([&b"stop\nmore\nmore\n"[..]]).0.take();
    assert_eq!(log, ["line stop", "lost"]);
}

/// A stream of lines and noise, with the places to split it.
fn streams() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let piece = select(vec!["a\n", "bcd\n", "\n", "len 3\n", "xyz", "len 0\n", "rst\n", "c\n"]);
    let pieces =
        proptest::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat().into_bytes());
    (pieces, proptest::collection::vec(any::<usize>(), 0..6))
}

proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]
    #[test]
    fn any_chunking_gives_the_same_lines((stream, cuts) in streams()) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let chunks = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        let chunks: Vec<&[u8]> = chunks.filter(|chunk| !chunk.is_empty()).collect();
        let mut whole = fed([&stream[..]]).0.take();
        let mut cut = fed(chunks).0.take();
        // the piece that is too long is as long as what has arrived; what was delivered before it
        // is equal
        for events in [&mut whole, &mut cut] {
            if let Some(at) = events.iter().position(|event| event.starts_with("too long")) {
                events.truncate(at);
            }
        }
        assert_eq!(cut, whole);
    }
}

#[test]
fn set_line_mode_in_a_later_call_delivers_the_rest_as_lines() {
    #[protocol(lines(delimiter = b"\n"))]
    struct L {
        log: Log,
        #[transport]
        transport: Transport,
    }
    #[protocol]
    impl L {
        fn line_received(&mut self, line: &[u8]) {
            self.log.add(String::from_utf8_lossy(line));
            self.transport.set_raw_mode();
        }
        fn raw_data_received(&mut self, data: &[u8]) {
            let (t, rest) = (self.transport.clone(), data.to_vec());
            let reactor = Reactor::current().unwrap();
            reactor.call_later(Duration::from_secs(1), move || t.set_line_mode(rest));
        }
    }
    let memory = MemoryReactor::new();
    let log = Log::new();
    let noted = log.clone();
    let client = connect_to(&memory, move |_: &Address| L {
        log: noted.clone(),
        transport: Transport::default(),
    });
    client.write(b"one\ntwo\n");
    memory.settle();
    assert_eq!(log.take(), ["one"]);
    memory.advance(Duration::from_secs(10));
    assert_eq!(log.take(), ["two"]);
}

#[test]
fn resume_inside_a_call_delivers_right_after_it() {
    #[protocol(lines(delimiter = b"\n"))]
    struct L {
        log: Log,
        handles: Rc<RefCell<Option<Handle<L>>>>,
    }
    #[protocol]
    impl L {
        fn connection_made(&mut self, this: &Handle<Self>) {
            *self.handles.borrow_mut() = Some(this.clone());
        }
        fn line_received(&mut self, transport: &Transport, line: &[u8]) {
            self.log.add(String::from_utf8_lossy(line));
            transport.pause_producing();
        }
    }
    let memory = MemoryReactor::new();
    let (log, handles) = (Log::new(), Rc::new(RefCell::new(None)));
    let (l, h) = (log.clone(), handles.clone());
    let client = connect_to(&memory, move |_: &Address| L { log: l.clone(), handles: h.clone() });
    client.write(b"one\ntwo\n");
    memory.settle();
    assert_eq!(log.take(), ["one"]);
    let server: Handle<L> = handles.take().unwrap();
    let t = server.transport().clone();
    server.tell(move |_| t.resume_producing());
    assert_eq!(log.take(), ["two"]);
}

// Kind: every change of the mode or of the unparsed bytes looks at those bytes again, inside and
// outside of a handler.
#[test]
fn raw_mode_set_outside_of_a_handler_delivers_the_unparsed_bytes() {
    for paused in [false, true] {
        let (log, memory, server) = fed([&b"abc"[..]]);
        let handle = server.take().unwrap();
        handle.with(|protocol| protocol.raw = 3).detach();
        if paused {
            handle.pause_producing();
        }
        handle.set_raw_mode();
        memory.settle();
        let raw = ["raw a", "raw b", "raw c"].map(str::to_owned).to_vec();
        assert_eq!(log.take(), if paused { Vec::new() } else { raw.clone() });
        handle.resume_producing();
        memory.settle();
        assert_eq!(log.take(), if paused { raw } else { Vec::new() });
        assert!(handle.unparsed().is_empty());
    }
}

// Kind: work for a message that arrives in pieces must not start again with each piece.
#[test]
fn a_long_line_is_searched_once_however_many_pieces_it_arrives_in() {
    let mut lines = Lines::default();
    let mut input = Input::new(b"a\r\nb\r\n", false);
    let found = |decoded: Option<(Line<'_>, usize)>| decoded.map(|(_, used)| used);
    assert_eq!(found(lines.decode(input).unwrap()), Some(3));
    input.seen = 4;
    assert_eq!(found(lines.decode(input).unwrap()), Some(6), "what was seen is not searched");
    // the delimiter may lie across the edge
    let mut input = Input::new(b"abc\r\n", false);
    input.seen = 4;
    assert_eq!(found(lines.decode(input).unwrap()), Some(5));
}

thread_local! {
    /// For each call of `decode`, the seen bytes and all bytes.
    static SEEN: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Messages end with a full stop.
#[derive(Default)]
struct Sentences;

impl Framing for Sentences {
    type Message<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: Input<'a>) -> Result<Option<(&'a [u8], usize)>, Failure> {
        SEEN.with_borrow_mut(|seen| seen.push((input.seen, input.data.len())));
        let end = input.data.iter().position(|byte| *byte == b'.');
        Ok(end.map(|end| (&input.data[..end], end + 1)))
    }
}

#[protocol(framing = Sentences)]
struct Reader;

#[protocol]
impl Reader {
    fn message_received(&mut self, message: &[u8], transport: &Transport) {
        if message == b"again" {
            transport.replace_unparsed("c");
        }
    }
}

#[test]
fn a_framing_is_told_how_much_of_its_input_it_has_seen() {
    let transport = StringTransport::new();
    transport.connect(Reader::factory(), &Clock::new());
    for piece in ["ab", "cd", "e.fg", "h", ".again.xy", "z"] {
        transport.receive(piece);
    }
    assert_eq!(
        SEEN.take(),
        [(0, 2), (2, 4), (4, 8), (0, 2), (2, 3), (3, 12), (0, 8), (0, 1), (1, 2)]
    );
}
