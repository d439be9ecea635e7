//! UNIX sockets: streams, datagrams, lock files, descriptors.
use crate::support::{Log, Logged, Noting, Reports, Scratch, keep_made, run_until, short, watch};
use std::{
    ffi::OsStr,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt, net},
    },
    path::{Path, PathBuf},
    rc::Rc,
};
use twistor::{
    address::Address,
    error::{BadFileError, CannotListenError, ConnectError},
    lockfile::is_locked,
    prelude::*,
    protocol::{Producer, ProducerKind},
    transport::{
        ClientFactory, ConnectUnixOptions, Connector, DatagramProtocol, DatagramTransport,
        ListenUnixOptions, Port,
    },
};

fn listen(reactor: &Reactor, path: &Path, log: &Log) -> Port {
    reactor
        .listen_unix(path, Noting::factory(log, Noting::echo), &ListenUnixOptions::default())
        .unwrap()
}

fn unix(path: &Path) -> Address {
    Address::Unix(Some(path.to_owned()))
}

/// Connects, and returns the client's handle.
fn connect(reactor: &Reactor, path: &Path, log: &Log) -> Handle<Noting> {
    let client = watch(reactor.connect_unix(
        path,
        Noting::factory(log, Noting::nothing),
        &ConnectUnixOptions::default(),
    ));
    run_until(reactor, || !client.is_pending());
    client.value()
}

#[test]
fn t_224_t_234_a_client_reaches_a_path_and_both_sides_know_where_they_are() {
    let (reactor, scratch, log, at_client) =
        (Reactor::new().unwrap(), Scratch::new(), Log::new(), Log::new());
    let path = scratch.path("socket");
    let port = listen(&reactor, &path, &log);
    assert_eq!((port.host(), port.host().port()), (unix(&path), 0));
    keep_made();
    let client = connect(&reactor, &path, &at_client);
    client.write("hello");
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(at_client.take());
        seen.len() == 2
    });
    assert_eq!(seen, ["made", "data hello"]);
    let server = crate::support::accepted_at(|host| *host == unix(&path));
    assert_eq!((client.peer(), server.host()), (unix(&path), unix(&path)));
    assert_eq!((client.host(), server.peer()), (Address::Unix(None), Address::Unix(None)));
    reactor.close();
}

#[test]
fn t_225_a_peer_that_is_bound_is_known_by_its_path() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let (path, from) = (scratch.path("socket"), scratch.path("peer"));
    keep_made();
    let _port = listen(&reactor, &path, &log);
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&from).unwrap()).unwrap();
    socket.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    run_until(&reactor, || !log.take().is_empty());
    assert_eq!(crate::support::accepted_at(|host| *host == unix(&path)).peer(), unix(&from));
    reactor.close();
}

#[test]
fn t_226_t_227_want_pid_locks_the_path_until_the_port_is_stopped() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let path = scratch.path("socket");
    let lock = scratch.path("socket.lock");
    let locked = ListenUnixOptions::default().want_pid(true);
    let listen = || reactor.listen_unix(&path, Noting::factory(&log, Noting::echo), &locked);
    let check = ConnectUnixOptions::default().check_pid(true);
    let client =
        || watch(reactor.connect_unix(&path, Noting::factory(&log, Noting::nothing), &check));
    assert!(client().failure().check::<BadFileError>());
    let port = listen().unwrap();
    assert!(is_locked(&lock).unwrap());
    let failure = listen().unwrap_err();
    assert!(
        failure.check::<CannotListenError>() && failure.to_string().contains("socket.lock"),
        "{failure}"
    );
    let connected = client();
    run_until(&reactor, || !connected.is_pending());
    connected.value().abort_connection();
    watch(port.stop_listening()).value();
    assert!(!is_locked(&lock).unwrap() && !path.exists() && !lock.exists());
    listen().unwrap().stop_listening().detach();
    reactor.close();
}

#[test]
fn t_228_a_socket_of_a_process_that_died_is_taken_over_with_want_pid_and_not_without() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let path = scratch.path("socket");
    // what such a process leaves behind: a socket without a listener, and a lock that names the
    // process
    drop(net::UnixListener::bind(&path).unwrap());
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    std::os::unix::fs::symlink(dead.id().to_string(), scratch.path("socket.lock")).unwrap();
    let listen = |options: &ListenUnixOptions| {
        reactor.listen_unix(&path, Noting::factory(&log, Noting::echo), options)
    };
    let failure = listen(&ListenUnixOptions::default()).unwrap_err();
    assert!(
        failure.check::<CannotListenError>() && failure.to_string().contains("socket"),
        "{failure}"
    );
    assert!(path.exists(), "it is not ours to remove");
    let port = listen(&ListenUnixOptions::default().want_pid(true)).unwrap();
    connect(&reactor, &path, &log).abort_connection();
    watch(port.stop_listening()).value();
    reactor.close();
}

#[test]
fn t_230_t_233_the_texts_of_a_port_and_a_path_that_cannot_be() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let path = scratch.path("socket");
    let logged = Logged::new();
    let port = listen(&reactor, &path, &log);
    assert_eq!(format!("{port:?}"), format!("<Port on {}>", path.display()));
    assert_eq!(logged.take()[0], format!("INFO Noting starting on {}", path.display()));
    watch(port.stop_listening()).value();
    assert_eq!(logged.take()[0], format!("INFO (UNIX Port {} Closed)", path.display()));
    assert_eq!(format!("{port:?}"), "<Port, not listening>");
    let missing = scratch.path("no/such/place");
    let failure = reactor
        .listen_unix(&missing, Noting::factory(&log, Noting::echo), &ListenUnixOptions::default())
        .unwrap_err();
    assert!(failure.check::<CannotListenError>(), "{failure}");
    assert!(
        failure
            .to_string()
            .starts_with(&format!("Couldn't listen on {}: No such file", missing.display())),
        "{failure}"
    );
    let too_long = scratch.path(&"x".repeat(200));
    assert!(
        reactor
            .listen_unix(
                too_long,
                Noting::factory(&log, Noting::echo),
                &ListenUnixOptions::default()
            )
            .unwrap_err()
            .check::<CannotListenError>()
    );
    let nobody = watch(reactor.connect_unix(
        &missing,
        Noting::factory(&log, Noting::nothing),
        &ConnectUnixOptions::default(),
    ));
    assert!(nobody.is_pending(), "told in a later turn");
    run_until(&reactor, || !nobody.is_pending());
    let failure = nobody.failure();
    assert!(
        failure.check::<ConnectError>() && failure.to_string().contains("no/such/place"),
        "{failure}"
    );
    reactor.close();
}

#[test]
fn t_231_the_file_has_the_mode_that_was_asked_for() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    for (name, options, expected) in [
        ("a", ListenUnixOptions::default(), 0o666),
        ("b", ListenUnixOptions::default().mode(0o600), 0o600),
    ] {
        let path = scratch.path(name);
        let _port =
            reactor.listen_unix(&path, Noting::factory(&log, Noting::echo), &options).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, expected);
    }
    reactor.close();
    assert!(!scratch.path("a").exists(), "a closed reactor takes the files away");
}

#[cfg(target_os = "linux")]
#[test]
fn t_232_a_path_that_begins_with_nul_is_a_name_without_a_file() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let name = format!("\0twistor-{}", std::process::id());
    let path = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
    let port = listen(&reactor, &path, &log);
    assert_eq!(port.host(), unix(&path));
    assert_eq!(port.host().to_string(), name.replace('\0', "@"));
    let client = connect(&reactor, &path, &log);
    assert_eq!(client.peer(), unix(&path));
    reactor.close();
}

#[test]
fn a_connector_works_over_unix_sockets() {
    struct Client(Log);
    impl twistor::protocol::Factory for Client {
        type Protocol = Noting;
        fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Noting> {
            Some(Noting { log: self.0.clone(), on_data: Noting::nothing })
        }
    }
    impl ClientFactory for Client {
        fn client_connection_failed(self: &Rc<Self>, connector: &Connector, reason: &Failure) {
            self.0.add(format!("failed {} {}", short(reason), connector.destination()));
        }
    }
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let path = scratch.path("socket");
    let connector =
        Connector::unix(&reactor, &path, Client(log.clone()), &ConnectUnixOptions::default());
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        !seen.is_empty()
    });
    assert_eq!(seen, [format!("failed ConnectError {}", path.display())]);
    let _port = listen(&reactor, &path, &Log::new());
    connector.connect().unwrap();
    run_until(&reactor, || log.take() == ["made"]);
    // each attempt checks the lock file, and fails in a later turn
    let checked = Connector::unix(
        &reactor,
        &path,
        Client(log.clone()),
        &ConnectUnixOptions::default().check_pid(true),
    );
    for again in [true, false] {
        assert_eq!(log.take(), [""; 0]);
        let mut seen = Vec::new();
        run_until(&reactor, || {
            seen.extend(log.take());
            !seen.is_empty()
        });
        assert_eq!(seen, [format!("failed BadFileError {}", path.display())]);
        if again {
            checked.connect().unwrap();
        }
    }
    reactor.close();
}

/// Receives descriptors, and writes its name into each.
#[protocol]
struct Taker {
    #[init(Log::new())]
    log: Log,
}

#[protocol]
impl Taker {
    fn file_descriptor_received(&mut self, descriptor: OwnedFd) {
        self.log.add("descriptor");
        fs::File::from(descriptor).write_all(b"taker was here\n").unwrap();
    }

    fn data_received(&mut self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(data)));
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.log.add(format!("lost {}", short(reason)));
    }
}

/// A port of takers, and a client of it.
fn taking(reactor: &Reactor, scratch: &Scratch) -> (Log, Log, Handle<Noting>) {
    let (at_server, at_client) = (Log::new(), Log::new());
    let path = scratch.path("socket");
    let log = at_server.clone();
    let port = reactor
        .listen_unix(
            &path,
            move |_: &Address| Taker { log: log.clone() },
            &ListenUnixOptions::default(),
        )
        .unwrap();
    let client = connect(reactor, &path, &at_client);
    port.stop_listening().detach();
    (at_server, at_client, client)
}

fn file(scratch: &Scratch, name: &str) -> fs::File {
    fs::File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(scratch.path(name))
        .unwrap()
}

#[test]
fn t_235_t_238_t_240_descriptors_arrive_as_copies_in_order_before_the_bytes_written_after_them() {
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let (at_server, _, client) = taking(&reactor, &scratch);
    let mut file = file(&scratch, "file");
    client.send_file_descriptor(file.try_clone().unwrap());
    client.send_file_descriptor(file.as_fd().try_clone_to_owned().unwrap());
    client.write("after");
    client.write(" them");
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(at_server.take());
        seen.concat().ends_with("them")
    });
    assert_eq!(seen[..2], ["descriptor", "descriptor"]);
    assert_eq!(seen[2..].concat().replace("data ", ""), "after them");
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "taker was here\ntaker was here\n", "the same open file, by other numbers");
    reactor.close();
}

#[test]
fn t_237_more_descriptors_than_bytes_lose_the_connection() {
    for bytes in ["", "x"] {
        let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
        let (_, at_client, client) = taking(&reactor, &scratch);
        let file = file(&scratch, "file");
        client.send_file_descriptor(file.try_clone().unwrap());
        client.send_file_descriptor(file.try_clone().unwrap());
        client.write(bytes);
        let mut seen = Vec::new();
        run_until(&reactor, || {
            seen.extend(at_client.take());
            seen.len() == 2
        });
        assert_eq!(seen, ["made", "lost FileDescriptorOverrun"]);
        assert!(file.as_raw_fd() >= 0);
        reactor.close();
    }
}

#[test]
fn t_236_many_descriptors_count_as_a_full_queue() {
    struct Paused(Log);
    impl Producer for Paused {
        fn pause_producing(&self) {
            self.0.add("pause");
        }
        fn resume_producing(&self) {
            self.0.add("resume");
        }
        fn stop_producing(&self) {}
    }
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let (at_server, _, client) = taking(&reactor, &scratch);
    client.register_producer(Rc::new(Paused(log.clone())), ProducerKind::Push).unwrap();
    let file = file(&scratch, "file");
    for _ in 0..65 {
        client.send_file_descriptor(file.try_clone().unwrap());
    }
    assert_eq!(log.take(), ["pause"]);
    client.write([b'x'; 65]);
    let mut descriptors = 0;
    run_until(&reactor, || {
        descriptors += at_server.take().iter().filter(|line| *line == "descriptor").count();
        descriptors == 65
    });
    run_until(&reactor, || log.take() == ["resume"]);
    client.unregister_producer();
    reactor.close();
}

#[test]
fn a_protocol_that_takes_no_descriptors_gets_the_bytes_alone() {
    let (reactor, scratch, at_server, at_client) =
        (Reactor::new().unwrap(), Scratch::new(), Log::new(), Log::new());
    let path = scratch.path("socket");
    let _port = listen(&reactor, &path, &at_server);
    let client = connect(&reactor, &path, &at_client);
    client.send_file_descriptor(file(&scratch, "file"));
    client.write("bytes");
    client.write(" and more");
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(at_server.take());
        seen.last().is_some_and(|line| line.ends_with("more"))
    });
    assert_eq!(seen.concat().replace("data ", ""), "madebytes and more");
    reactor.close();
}

/// Records datagrams.
struct Notes(Log);

impl DatagramProtocol for Notes {
    fn datagram_received(
        &mut self,
        datagram: &[u8],
        from: &Address,
        transport: &DatagramTransport,
    ) {
        self.0.add(format!("{} from {from}", String::from_utf8_lossy(datagram)));
        if datagram == b"ping" {
            transport.write("pong", from).unwrap();
        }
    }
}

#[test]
fn t_241_datagrams_go_both_ways_between_paths() {
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let (at, from) = (scratch.path("server"), scratch.path("client"));
    let (at_server, at_client, options) = (Log::new(), Log::new(), ListenUnixOptions::default());
    let _server =
        reactor.listen_unix_datagram(at.clone(), Notes(at_server.clone()), &options).unwrap();
    let client = reactor
        .connect_unix_datagram(&at, from.clone(), Notes(at_client.clone()), &options)
        .unwrap();
    client.transport().write("ping", None).unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(at_client.take());
        !seen.is_empty()
    });
    assert_eq!(seen, [format!("pong from {}", at.display())]);
    assert_eq!(at_server.take(), [format!("ping from {}", from.display())]);
    let nameless = reactor.listen_unix_datagram(None, Notes(Log::new()), &options).unwrap();
    nameless.transport().write("hello", &unix(&at)).unwrap();
    run_until(&reactor, || at_server.take() == ["hello from (unnamed)"]);
    reactor.close();
    assert!(!at.exists() && !from.exists());
    let nobody = Reactor::new()
        .unwrap()
        .connect_unix_datagram(&at, from.clone(), Notes(Log::new()), &options)
        .unwrap_err();
    assert!(nobody.check::<std::io::Error>(), "{nobody}");
}

#[test]
fn t_242_t_243_t_244_a_datagram_port_has_a_mode_a_text_and_its_path_alone() {
    let (reactor, scratch, logged) = (Reactor::new().unwrap(), Scratch::new(), Logged::new());
    let at = scratch.path("server");
    let options = ListenUnixOptions::default().mode(0o600);
    let server = reactor.listen_unix_datagram(at.clone(), Notes(Log::new()), &options).unwrap();
    assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(format!("{server:?}"), format!("<Notes on {}>", at.display()));
    assert_eq!(logged.take()[0], format!("INFO Notes starting on {}", at.display()));
    let taken = reactor.listen_unix_datagram(at.clone(), Notes(Log::new()), &options).unwrap_err();
    assert!(taken.check::<CannotListenError>());
    let stopped = watch(server.stop_listening());
    run_until(&reactor, || !stopped.is_pending());
    assert!(!at.exists());
    assert_eq!(logged.take()[0], format!("INFO (UNIX Port {} Closed)", at.display()));
    assert_eq!(format!("{server:?}"), "<Notes, not listening>");
    reactor.close();
}

#[cfg(target_os = "linux")]
#[test]
fn t_245_datagram_ports_have_abstract_names_too() {
    let (reactor, log) = (Reactor::new().unwrap(), Log::new());
    let name = |which: &str| {
        PathBuf::from(OsStr::from_bytes(
            format!("\0twistor-{which}-{}", std::process::id()).as_bytes(),
        ))
    };
    let options = ListenUnixOptions::default();
    let server =
        reactor.listen_unix_datagram(name("server"), Notes(log.clone()), &options).unwrap();
    assert_eq!(server.host(), unix(&name("server")));
    let client = reactor.listen_unix_datagram(name("client"), Notes(Log::new()), &options).unwrap();
    client.transport().write("hello", &server.host()).unwrap();
    let expected = format!("hello from @twistor-client-{}", std::process::id());
    run_until(&reactor, || log.take() == [expected.clone()]);
    reactor.close();
}

#[test]
fn r_080_an_error_of_the_closing_fails_stop_listening_with_it() {
    let (reactor, scratch, log) = (Reactor::new().unwrap(), Scratch::new(), Log::new());
    let path = scratch.path("socket");
    let port = reactor
        .listen_unix(
            &path,
            Noting::factory(&log, Noting::echo),
            &ListenUnixOptions::default().want_pid(true),
        )
        .unwrap();
    // another process has taken the lock over
    fs::remove_file(scratch.path("socket.lock")).unwrap();
    std::os::unix::fs::symlink("1", scratch.path("socket.lock")).unwrap();
    let failure = watch(port.stop_listening()).failure();
    assert!(
        failure.to_string().contains("socket.lock") && failure.to_string().contains("process 1"),
        "{failure}"
    );
    assert!(!path.exists(), "the socket is gone all the same");
    reactor.close();
}

#[test]
fn a_stale_lock_beside_a_regular_file_does_not_remove_the_file() {
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let path = scratch.path("data");
    std::fs::write(&path, "precious").unwrap();
    std::os::unix::fs::symlink("2147483646", scratch.path("data.lock")).unwrap();
    let taken = reactor.listen_unix(
        &path,
        Noting::factory(&Log::new(), Noting::nothing),
        &ListenUnixOptions::default().want_pid(true),
    );
    assert!(taken.unwrap_err().check::<twistor::error::CannotListenError>());
    assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("precious"));
    reactor.close();
}

#[test]
fn a_port_that_cannot_be_opened_leaves_no_lock_behind() {
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let path = scratch.path("dir");
    std::fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink("2147483646", scratch.path("dir.lock")).unwrap();
    let r = reactor.listen_unix(
        &path,
        Noting::factory(&Log::new(), Noting::nothing),
        &ListenUnixOptions::default().want_pid(true),
    );
    assert!(r.is_err());
    assert!(std::fs::read_link(scratch.path("dir.lock")).is_err(), "nobody holds it");
    reactor.close();
}

#[test]
fn a_port_removes_its_own_file_and_no_other() {
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let path = scratch.path("s");
    let port = reactor
        .listen_unix(
            &path,
            Noting::factory(&Log::new(), Noting::nothing),
            &ListenUnixOptions::default(),
        )
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    watch(port.stop_listening()).value();
    assert!(path.exists(), "the file of the other one");
    reactor.close();
}

// Kind: what did not fit is reported with its length, never cut silently.
#[test]
fn a_datagram_that_is_longer_than_the_read_buffer_is_reported_and_dropped() {
    let reports = Reports::new();
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let path = scratch.path("datagrams");
    let log = Log::new();
    let options = ListenUnixOptions::default();
    let lengths = Lengths { log: log.clone() };
    let port = reactor.listen_unix_datagram(path.clone(), lengths, &options).unwrap();
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(&vec![b'a'; 98304], &path).unwrap();
    sender.send_to(&vec![b'b'; 98305], &path).unwrap();
    sender.send_to(b"c", &path).unwrap();
    let mut seen = Vec::new();
    run_until(&reactor, || {
        seen.extend(log.take());
        seen.len() == 2
    });
    assert_eq!(seen, ["98304", "1"]);
    port.stop_listening().detach();
    let reports = reports.take();
    assert!(reports.len() == 1 && reports[0].contains("a datagram of 98305 bytes"), "{reports:?}");
}

/// Records the length of each datagram.
struct Lengths {
    log: Log,
}

impl DatagramProtocol for Lengths {
    fn datagram_received(&mut self, datagram: &[u8], _: &Address, _: &DatagramTransport) {
        self.log.add(datagram.len());
    }
}

// Kind: a value that the system would change silently is an error.
#[test]
fn a_path_with_nul_and_a_mode_out_of_range_are_refused_and_leave_no_file() {
    let (reactor, scratch) = (Reactor::new().unwrap(), Scratch::new());
    let (path, log) = (scratch.path("real"), Log::new());
    let port = listen(&reactor, &path, &log);
    let longer = PathBuf::from(OsStr::from_bytes(&[path.as_os_str().as_bytes(), b"\0x"].concat()));
    let echo = || Noting::factory(&log, Noting::echo);
    let options = ListenUnixOptions::default();
    let refused = watch(reactor.connect_unix(&longer, echo(), &ConnectUnixOptions::default()));
    run_until(&reactor, || !refused.is_pending());
    let text = refused.into_failure().to_string();
    assert!(text.contains("contains NUL"), "{text}");
    port.stop_listening().detach();

    for (path, options) in [(&longer, options.clone()), (&path, options.mode(0o123_4567))] {
        let failure = reactor.listen_unix(path, echo(), &options).unwrap_err();
        assert!(failure.check::<CannotListenError>());
        let text = failure.to_string();
        assert!(text.contains("contains NUL") || text.contains("invalid mode 1234567"), "{text}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "{text}");
    }
}

#[test]
fn the_error_of_a_relative_path_names_the_path_and_no_port() {
    let reactor = Reactor::new().unwrap();
    let log = Log::new();
    let failure = reactor
        .listen_unix(".", Noting::factory(&log, Noting::echo), &ListenUnixOptions::default())
        .unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("Couldn't listen on .: "), "{text}");
}
