//! Echo load generator. One thread, edge-triggered epoll, HDR latency histogram.
//! usage: load ADDR MODE conns=N size=B depth=P secs=S [pid=SERVER_PID] [warm=S]
//! MODE: echo (ping-pong, `depth` messages in flight per connection), churn (connect, one
//! echo, close), idle (hold N connections, print server RSS per connection).
//! One JSON line out. cpu_us is server CPU time per completed message (needs pid=).
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};
fn arg<T: std::str::FromStr>(k: &str, d: T) -> T {
    std::env::args()
        .find_map(|a| a.strip_prefix(&format!("{k}=")).and_then(|v| v.parse().ok()))
        .unwrap_or(d)
}
fn cpu_ticks(pid: u32) -> f64 {
    if pid == 0 {
        return 0.0;
    }
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let f: Vec<&str> = s[s.rfind(')').map(|i| i + 2).unwrap_or(0)..].split(' ').collect();
    if f.len() < 13 {
        return 0.0;
    }
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) * 1e6 / 100.0
}
fn rss(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}
struct Conn {
    s: TcpStream,
    sent: VecDeque<Instant>,
    got: usize,
    out: usize,
}
fn main() {
    let addr: SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let mode = std::env::args().nth(2).unwrap();
    let (n, size, depth, secs, pid, warm): (usize, usize, usize, f64, u32, f64) = (
        arg("conns", 50),
        arg("size", 64),
        arg("depth", 1),
        arg("secs", 3.0),
        arg("pid", 0),
        arg("warm", 0.5),
    );
    let mut poll = Poll::new().unwrap();
    let mut ev = Events::with_capacity(1024);
    let mut h = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    let rss0 = rss(pid);
    let mut payload = vec![b'x'; size.max(65536)];
    if arg("lines", 0) == 1 {
        // each message is a line
        for end in (size..=payload.len()).step_by(size) {
            payload[end - 2..end].copy_from_slice(b"\r\n");
        }
    }
    let mut conns = Vec::with_capacity(n);
    let connect = |i: usize, poll: &Poll| {
        // spread over loopback source addresses so that more than 28k ports are usable
        let mut s = TcpStream::connect(addr).unwrap();
        s.set_nodelay(true).ok();
        poll.registry()
            .register(&mut s, Token(i), Interest::READABLE | Interest::WRITABLE)
            .unwrap();
        Conn { s, sent: VecDeque::new(), got: 0, out: 0 }
    };
    for i in 0..n {
        conns.push(connect(i, &poll));
        if i % 200 == 199 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if mode == "idle" {
        std::thread::sleep(Duration::from_millis(1500));
        let mut ok = 0;
        for c in &mut conns {
            if c.s.peer_addr().is_ok() {
                ok += 1
            }
        }
        println!(
            "{{\"mode\":\"idle\",\"conns\":{ok},\"rss_kb\":{},\"bytes_per_conn\":{:.0}}}",
            rss(pid),
            (rss(pid).saturating_sub(rss0)) as f64 * 1024.0 / ok as f64
        );
        return;
    }
    let msgs: u64 = arg("msgs", 0);
    let mut buf = vec![0u8; 1 << 18];
    let start = Instant::now();
    let (mut t0, mut cpu0, mut count, mut bytes, mut warmed) =
        (start, cpu_ticks(pid), 0u64, 0u64, false);
    let (mut errors, mut opened) = (0u64, n as u64);
    loop {
        let now = Instant::now();
        if msgs > 0 {
            if count >= msgs {
                break;
            }
        } else if !warmed && now - start > Duration::from_secs_f64(warm) {
            warmed = true;
            t0 = now;
            cpu0 = cpu_ticks(pid);
            count = 0;
            bytes = 0;
            h.reset();
        }
        if warmed && now - t0 > Duration::from_secs_f64(secs) {
            break;
        }
        poll.poll(&mut ev, Some(Duration::from_millis(20))).unwrap();
        for e in ev.iter() {
            let i = e.token().0;
            let mut dead = false;
            {
                let c = &mut conns[i];
                'io: loop {
                    // fill the pipeline
                    while c.sent.len() < depth && c.out < 65536 {
                        c.sent.push_back(Instant::now());
                        c.out += size;
                    }
                    while c.out > 0 {
                        match c.s.write(&payload[..c.out.min(65536)]) {
                            Ok(k) => c.out -= k,
                            Err(x)
                                if x.kind() == ErrorKind::WouldBlock
                                    || x.kind() == ErrorKind::NotConnected =>
                            {
                                break;
                            }
                            Err(_) => {
                                dead = true;
                                break 'io;
                            }
                        }
                    }
                    let mut progressed = false;
                    loop {
                        match c.s.read(&mut buf) {
                            Ok(0) => {
                                dead = true;
                                break 'io;
                            }
                            Ok(k) => {
                                c.got += k;
                                bytes += k as u64;
                                while c.got >= size && !c.sent.is_empty() {
                                    c.got -= size;
                                    h.record(
                                        c.sent.pop_front().unwrap().elapsed().as_nanos() as u64
                                    )
                                    .ok();
                                    count += 1;
                                    progressed = true;
                                }
                                if mode == "churn" && progressed {
                                    dead = true;
                                    break 'io;
                                }
                                if k < buf.len() {
                                    /* edge: read again only if full */
                                    if depth == 1 {
                                        break;
                                    }
                                }
                            }
                            Err(x)
                                if x.kind() == ErrorKind::WouldBlock
                                    || x.kind() == ErrorKind::NotConnected =>
                            {
                                break;
                            }
                            Err(_) => {
                                dead = true;
                                errors += 1;
                                break 'io;
                            }
                        }
                    }
                    if !progressed {
                        break;
                    }
                }
            }
            if dead {
                if mode == "churn" {
                    // linger 0: no TIME_WAIT on our side
                    let _ = socket2::SockRef::from(&conns[i].s).set_linger(Some(Duration::ZERO));
                    conns[i] = connect(i, &poll);
                    opened += 1;
                } else {
                    errors += 1;
                    conns[i] = connect(i, &poll);
                }
            }
        }
    }
    let el = t0.elapsed().as_secs_f64();
    let cpu = cpu_ticks(pid) - cpu0;
    println!(
        "{{\"mode\":\"{mode}\",\"conns\":{n},\"size\":{size},\"depth\":{depth},\"rps\":{:.0},\
         \"mb_s\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\
         \"cpu_us\":{:.3},\"srv_util\":{:.2},\"errors\":{errors},\"opened\":{opened}}}",
        count as f64 / el,
        bytes as f64 / el / 1e6,
        h.value_at_quantile(0.5) as f64 / 1e3,
        h.value_at_quantile(0.99) as f64 / 1e3,
        h.value_at_quantile(0.999) as f64 / 1e3,
        cpu / count.max(1) as f64,
        cpu / 1e6 / el
    );
}
